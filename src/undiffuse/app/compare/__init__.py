"""`undiffuse compare`: samplers on the same prior from the same noise."""

from undiffuse.app.compare.run import Compared, run

__all__ = ["Compared", "run"]
