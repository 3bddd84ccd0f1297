"""EDM's pickled networks, read without running them, and built where ours can be the same function."""

from undiffuse.checkpoints.edm.building import EDMFormat, is_snapshot, open_snapshot

__all__ = ["EDMFormat", "is_snapshot", "open_snapshot"]
