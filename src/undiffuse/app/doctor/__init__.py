"""`undiffuse doctor`: what is here, what is slow here, and what to do about it. All read or measured."""

from undiffuse.app.doctor.examine import examine, table, warnings_for
from undiffuse.app.doctor.finding import Finding

__all__ = ["Finding", "examine", "table", "warnings_for"]
