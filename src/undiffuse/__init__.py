"""Undiffuse: train, sample, restore with, distil and analyse pixel-space diffusion priors.

The parts are imported by name: `from undiffuse.restore import pigdm`. Nothing is imported here, so that the
command line starts at once.
"""

from importlib.metadata import version

__version__ = version("undiffuse")
__all__ = ["__version__"]
