"""`undiffuse evaluate`: a set of pictures against a reference, by the features of a network."""

from undiffuse.app.evaluate.run import Evaluated, run

__all__ = ["Evaluated", "run"]
