"""`undiffuse pareto`: what priors give for what they cost, and which of them nobody beats in both."""

from undiffuse.app.pareto.run import Compared, run

__all__ = ["Compared", "run"]
