"""`undiffuse priors pull`: published files, checked, resumed, kept where `--prior NAME` finds them."""

from undiffuse.app.pull.shelf import Record, remembered, shelf
from undiffuse.app.pull.source import Pulled, Source, at, pull
from undiffuse.app.pull.table import Row, named_file, published, pulled, rows, source_of
from undiffuse.app.pull.transfer import Patience

__all__ = [
    "Patience",
    "Pulled",
    "Record",
    "Row",
    "Source",
    "at",
    "named_file",
    "published",
    "pull",
    "pulled",
    "remembered",
    "rows",
    "shelf",
    "source_of",
]
