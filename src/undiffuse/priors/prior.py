"""A network as a denoiser: what it predicts is turned into x0 here, and nowhere else."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from undiffuse.core.state import like_image


class Coefficients(NamedTuple):
    """x0 = skip x + out F(into x, noise), with F the raw network (Karras et al. 2022, eq. 7)."""

    skip: Tensor | float
    out: Tensor
    into: Tensor
    noise: Tensor  # what the network is told of the level: a timestep, ln(sigma) / 4, ...


Scaling = Callable[[Tensor], Coefficients]  # sigma () or (B, 1, 1, 1) -> coefficients of its shape


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a network says of x at one level."""

    x0: Tensor  # (B, C, H, W)
    variance: Tensor | None = (
        None  # (B, C, H, W), raw second half of a learned-variance network; `ancestral` reads it
    )


class Prior(nn.Module):
    """A network with its parameterisation, as a denoiser.

    net: F(x, noise, labels) with x (B, C, H, W), noise (B,), labels (B,) or None; it answers with C
    channels, or 2 C if it learned a variance. It is called in its own dtype, and the answer comes back in
    x's: keep x in float32 or wider. size: what it was trained on, for callers; not enforced. num_classes:
    None if it takes no labels. null_class: the label num_classes stands for no class, as labels=None does
    for a whole batch.
    """

    def __init__(
        self,
        net: nn.Module,
        scaling: Scaling,
        *,
        channels: int,
        size: tuple[int, int] | None = None,
        num_classes: int | None = None,
        null_class: bool = False,
        sigma_range: tuple[float, float] = (0.002, 80.0),
    ):
        super().__init__()
        if not 0 < sigma_range[0] < sigma_range[1] < float("inf"):
            raise ValueError(f"sigma_range = {sigma_range}; expected 0 < lowest < highest, both finite")
        self.net, self.scaling = net, scaling
        self.channels, self.size, self.sigma_range = channels, size, sigma_range
        self.num_classes, self.null_class = num_classes, null_class

    def predict(self, x: Tensor, sigma: Tensor, labels: Tensor | None = None) -> Prediction:
        """x0, and the raw variance channels if the network has them. labels=None is handed on as it is."""
        if x.ndim != 4 or x.shape[1] != self.channels:
            raise ValueError(f"x of shape {tuple(x.shape)}; this prior takes (B, {self.channels}, H, W)")
        self._check(labels, len(x))
        sigma = like_image(sigma, x)
        c = self.scaling(sigma)
        dtype = next((p.dtype for p in self.net.parameters() if p.is_floating_point()), x.dtype)
        level = c.noise.reshape(-1).expand(len(x)).to(dtype if dtype.itemsize >= 4 else torch.float32)
        raw: Tensor = self.net((c.into * x).to(dtype), level, labels).to(x.dtype)
        if raw.shape[1] not in (self.channels, 2 * self.channels):
            raise ValueError(
                f"the network answers with {raw.shape[1]} channels; expected C or 2 C, C = {self.channels}"
            )
        x0 = c.skip * x + c.out * raw[:, : self.channels]
        return Prediction(x0, raw[:, self.channels :] if raw.shape[1] > self.channels else None)

    def forward(self, x: Tensor, sigma: Tensor, labels: Tensor | None = None) -> Tensor:
        """E[x0 | x]: `predict(...).x0`."""
        return self.predict(x, sigma, labels).x0

    def given(self, labels: Tensor | None = None) -> "Given":
        """The denoiser for these labels, (B,) class numbers; None leaves them out."""
        self._check(labels, None)
        return Given(self, labels)

    def _check(self, labels: Tensor | None, batch: int | None) -> None:
        if labels is None:
            return
        if self.num_classes is None:
            raise ValueError("labels for a prior without classes; leave them out")
        if labels.ndim != 1 or labels.is_floating_point() or (batch is not None and len(labels) != batch):
            found = f"labels of shape {tuple(labels.shape)} and type {labels.dtype}"
            raise ValueError(
                f"{found}; expected one integer an image" + (f", ({batch},)" if batch is not None else "")
            )
        low, high = (int(labels.min()), int(labels.max())) if len(labels) else (0, 0)
        if low < 0 or high >= self.num_classes + self.null_class:
            also = f", and {self.num_classes} for none" if self.null_class else ""
            raise ValueError(
                f"labels from {low} to {high}; this prior has classes 0 to {self.num_classes - 1}{also}"
            )


@dataclass(frozen=True, slots=True)
class Given:
    """A prior with its labels filled in: a Denoise that can also `predict`."""

    prior: Prior
    labels: Tensor | None

    def __call__(self, x: Tensor, sigma: Tensor, /) -> Tensor:
        """E[x0 | x, labels]."""
        return self.predict(x, sigma).x0

    def predict(self, x: Tensor, sigma: Tensor, /) -> Prediction:
        """The prior's whole answer, variance included."""
        return self.prior.predict(x, sigma, self.labels)
