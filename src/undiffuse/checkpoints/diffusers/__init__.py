"""Folders of diffusers: import of UNet2DModel into our networks, and export."""

from undiffuse.checkpoints.diffusers.folder import DiffusersFormat, export, weights_of, with_settings

__all__ = ["DiffusersFormat", "export", "weights_of", "with_settings"]
