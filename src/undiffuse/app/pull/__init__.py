"""`undiffuse priors pull`: published files, checked, resumed, kept where `--prior NAME` finds them."""

from undiffuse.app.pull.pull import Pulled, Source, at, pull
from undiffuse.app.pull.shelf import Record, remembered, shelf
from undiffuse.app.pull.transfer import Patience

__all__ = ["Patience", "Pulled", "Record", "Source", "at", "pull", "remembered", "shelf"]
