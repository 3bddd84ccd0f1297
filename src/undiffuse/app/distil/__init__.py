"""Students of a prior: planned, trained one after the other, and put into one table."""

from undiffuse.app.distil.run import run

__all__ = ["run"]
