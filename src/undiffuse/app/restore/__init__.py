"""`undiffuse restore`: pictures, a known degradation, answers with their certificates."""

from undiffuse.app.restore.dry import Forecast
from undiffuse.app.restore.many import Batch
from undiffuse.app.restore.result import Restored
from undiffuse.app.restore.run import run

__all__ = ["Batch", "Forecast", "Restored", "run"]
