"""How good is a picture, against a reference; how good are many, against many."""

from undiffuse.metrics.features import frechet, frechet_to, inception_score, kid, moments, prdc
from undiffuse.metrics.lpips import LPIPS
from undiffuse.metrics.multiscale import ms_ssim
from undiffuse.metrics.pixel import psnr, ssim
from undiffuse.metrics.quality import quality
from undiffuse.metrics.spectrum import invented, power, spectrum_error
from undiffuse.metrics.weights import open_lpips

__all__ = [
    "LPIPS",
    "frechet",
    "frechet_to",
    "inception_score",
    "invented",
    "kid",
    "moments",
    "ms_ssim",
    "open_lpips",
    "power",
    "prdc",
    "psnr",
    "quality",
    "spectrum_error",
    "ssim",
]
