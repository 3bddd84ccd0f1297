"""Methods of restoration side by side, on measurements that are made once and stored."""

from undiffuse.app.bench.run import Benched, run

__all__ = ["Benched", "run"]
