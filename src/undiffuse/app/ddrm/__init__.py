"""`undiffuse ddrm`: the command line, the folders and the files of DDRM's authors."""

from undiffuse.app.ddrm.run import Average, run

__all__ = ["Average", "run"]
