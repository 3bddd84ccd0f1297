"""How good is a picture, against a reference."""

from undiffuse.metrics.pixel import psnr, ssim

__all__ = ["psnr", "ssim"]
