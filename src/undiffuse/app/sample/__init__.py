"""`undiffuse sample`: pictures from a prior, a file or a run."""

from undiffuse.app.sample.run import Sampled, run

__all__ = ["Sampled", "run"]
