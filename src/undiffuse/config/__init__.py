"""Options of registered factories, and what each command is told, validated."""

from undiffuse.config.restore import RestoreConfig
from undiffuse.config.sample import SampleConfig
from undiffuse.config.train import TrainConfig
from undiffuse.options import (
    Options,
    describe,
    explain,
    from_term,
    options,
    parse_term,
    validated,
)

__all__ = [
    "Options",
    "RestoreConfig",
    "SampleConfig",
    "TrainConfig",
    "describe",
    "explain",
    "from_term",
    "options",
    "parse_term",
    "validated",
]
