"""What a prior is conditioned on beside its labels: a degraded picture of the image that it is to draw."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from undiffuse.core.noise import SeededNoise
from undiffuse.core.state import Noise
from undiffuse.operators import LinearOperator, Shape, build
from undiffuse.training.draws import uniform

LARGEST_GAIN = 10.0  # of A^+ on noise: bicubic means have 1.3, the blurs of DDRM 400 and more


class LowRes(nn.Module):
    """cat(A^+ y, level) for y = A x0 + s e, with e white and s uniform in [0, augmentation].

    Super-resolution by diffusion (SR3, Saharia et al. 2021), robust to what it is given by noise on the condition
    (cascaded diffusion, Ho et al. 2021, section 4.2). A is any linear degradation, in words: sr4, sr_bicubic4,
    color. s is in units of [-1, 1] images, as are all noise levels.

    SR3 upsamples y by bicubic interpolation; here it is the pseudo-inverse, which holds all that y says and
    nothing else: A times the picture is y again. Both papers put the noise on the upsampled picture; here it is on
    the measurement, where a camera has it. They tell the network of s by an embedding; here it is one more
    channel, s everywhere, so that any network can be conditioned as it is. ValueError for a degradation that is
    not linear, or whose pseudo-inverse enlarges noise more than tenfold, as a blur's does.
    """

    def __init__(self, degradation: str, shape: Shape, *, augmentation: float = 0.0):
        super().__init__()
        if not 0 <= augmentation < float("inf"):
            raise ValueError(f"augmentation = {augmentation}; expected the largest noise, 0 or more")
        operator = build(degradation, shape)
        if not isinstance(operator, LinearOperator):
            raise ValueError(
                f"'{degradation}' is not linear; a condition needs its pseudo-inverse, as of sr4"
            )
        gain = _gain(operator)
        if not gain <= LARGEST_GAIN:
            raise ValueError(
                f"the pseudo-inverse of '{degradation}' enlarges noise {gain:.3g} times; expected at most "
                f"{LARGEST_GAIN:g}, as of sr4 or sr_bicubic4"
            )
        self.operator = operator.to(torch.float32)
        self.degradation, self.augmentation = degradation, float(augmentation)
        self.channels = operator.in_shape[0] + 1  # of the condition

    @torch.no_grad()
    def forward(self, clean: Tensor, noise: Noise) -> Tensor:
        """(B, C + 1, H, W) for training, from clean (B, C, H, W); `noise` draws levels and noise image by image."""
        s = self.augmentation * uniform(noise, len(clean), 1)
        with torch.autocast(clean.device.type, enabled=False):  # half precision would be noise of its own
            y = self.operator(clean.to(self._dtype))
            e = noise(y)
            return self._picture(y + _like(s, y) * e, s).to(clean.dtype)

    @torch.no_grad()
    def measured(self, y: Tensor, sigma_y: float | Tensor = 0.0) -> Tensor:
        """(B, C + 1, H, W) for sampling, from y (B, *out_shape) with noise of level sigma_y, a number or (B,).

        y may be given more noise, and its level told, for fewer artefacts and less fidelity (Ho et al. 2021).
        ValueError for a level that training did not reach.
        """
        if tuple(y.shape[1:]) != self.operator.out_shape:
            raise ValueError(
                f"y of shape {tuple(y.shape)}; '{self.degradation}' gives (B, {str(self.operator.out_shape)[1:]}"
            )
        s = torch.as_tensor(sigma_y, dtype=torch.float64)
        if s.shape not in ((), (len(y),)):
            raise ValueError(f"sigma_y of shape {tuple(s.shape)}; expected a number, or ({len(y)},)")
        if not ((s >= 0) & (s <= self.augmentation)).all():
            raise ValueError(
                f"sigma_y = {s.max().item():g}; this prior was trained with noise from 0 to "
                f"{self.augmentation:g} on its condition"
            )
        with torch.autocast(y.device.type, enabled=False):
            return self._picture(y.to(self._dtype), s.expand(len(y))).to(y.dtype)

    @property
    def _dtype(self) -> torch.dtype:
        return next((b.dtype for b in self.operator.buffers() if b.is_floating_point()), torch.float32)

    def _picture(self, y: Tensor, s: Tensor) -> Tensor:
        picture = self.operator.pinv(y)
        return torch.cat((picture, _like(s, picture).expand(-1, 1, *picture.shape[2:])), 1)


def enlarged(y: Tensor, shape: Shape) -> Tensor:
    """(B, *shape) from y (B, C, h, w), bilinearly: what guided-diffusion's upsamplers find behind x (SuperResModel)."""
    return F.interpolate(y, shape[1:], mode="bilinear")


def _like(s: Tensor, y: Tensor) -> Tensor:
    return s.to(dtype=y.dtype).to(y.device).reshape(-1, *[1] * (y.ndim - 1))


def _gain(operator: LinearOperator) -> float:
    """Deviation of A^+ e over that of white e, from one draw."""
    e = SeededNoise([0])(torch.empty(1, *operator.out_shape, dtype=torch.float64))
    return (operator.pinv(e).square().mean() / e.square().mean()).sqrt().item()
