"""All pixel metrics of one picture at once."""

from torch import Tensor

from undiffuse.metrics.lpips import LPIPS
from undiffuse.metrics.multiscale import LEAST, ms_ssim
from undiffuse.metrics.pixel import WINDOW, psnr, ssim
from undiffuse.metrics.spectrum import LEAST as LEAST_SPECTRUM
from undiffuse.metrics.spectrum import spectrum_error


def quality(x: Tensor, reference: Tensor, *, lpips: LPIPS | None = None) -> dict[str, float]:
    """psnr (dB), ssim, ms_ssim, spectrum (dB) and, with a network, lpips of one image (1, C, H, W) in [-1, 1].

    A metric that the picture is too small for is left out; so is LPIPS of neither 1 nor 3 channels. Of floats
    as they are; for a picture saved with 8 bits give `core.images.rounded` of both. ValueError for a batch,
    and for shapes that differ.
    """
    if x.shape != reference.shape or x.ndim != 4 or x.shape[0] != 1:
        raise ValueError(
            f"shapes {tuple(x.shape)} and {tuple(reference.shape)}; expected one image (1, C, H, W) twice"
        )
    side = min(x.shape[-2:])
    values = {"psnr": psnr(x, reference)}
    if side >= WINDOW:
        values["ssim"] = ssim(x, reference)
    if side >= LEAST:
        values["ms_ssim"] = ms_ssim(x, reference)
    if lpips is not None and side >= lpips.least and x.shape[1] in (1, 3):
        values["lpips"] = lpips(x, reference)
    if side >= LEAST_SPECTRUM:
        values["spectrum"] = spectrum_error(x, reference)
    return {name: value.item() for name, value in values.items()}
