"""`undiffuse train`: from a configuration to a run's folder."""

from undiffuse.app.train.run import run

__all__ = ["run"]
