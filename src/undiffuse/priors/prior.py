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

    net: F(x, noise, labels) with x (B, C + conditions, H, W), noise (B,), labels (B,) or None; it answers with
    C channels, or 2 C if it learned a variance. It is called in its own dtype, and the answer comes back in x's:
    keep x in float32 or wider. size: what it was trained on, for callers; not enforced. num_classes: None if it
    takes no labels. null_class: label number num_classes stands for no class, and so does labels=None. conditions:
    channels of the picture that it is conditioned on (low resolution, for instance), which the network finds
    behind those of x, as they are: F(cat(into x, cond), noise, labels).

    Labels are checked twice. Their range in `given`, once, for reading values stalls an accelerator; whoever calls
    `predict` with labels of their own relies on the network's embedding, which refuses a number that it does not
    have (IndexError on a CPU, a device assertion elsewhere). Shape and type in `predict`, at every call.
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
        conditions: int = 0,
        sigma_range: tuple[float, float] = (0.002, 80.0),
    ):
        super().__init__()
        if not 0 < sigma_range[0] < sigma_range[1] < float("inf"):
            raise ValueError(f"sigma_range = {sigma_range}; expected 0 < lowest < highest, both finite")
        if null_class and num_classes is None:
            raise ValueError("null_class without classes; set num_classes, or null_class to False")
        if conditions < 0:
            raise ValueError(f"conditions = {conditions}; expected a number of channels, 0 for none")
        self.net, self.scaling = net, scaling
        self.channels, self.size, self.sigma_range = channels, size, sigma_range
        self.num_classes, self.null_class, self.conditions = num_classes, null_class, conditions

    def predict(
        self, x: Tensor, sigma: Tensor, labels: Tensor | None = None, cond: Tensor | None = None
    ) -> Prediction:
        """x0, and the raw variance channels if the network has them.

        labels: (B,); None is the null class, or handed on as it is if there is none. cond: (B, conditions, H, W),
        or one picture for the whole batch.
        """
        if x.ndim != 4 or x.shape[1] != self.channels:
            raise ValueError(f"x of shape {tuple(x.shape)}; this prior takes (B, {self.channels}, H, W)")
        self._check_labels(labels, len(x))
        self._check_cond(cond, x)
        if labels is None and self.null_class:
            labels = torch.full((len(x),), self.num_classes or 0, device=x.device)
        sigma = like_image(sigma, x)
        c = self.scaling(sigma)
        dtype = next((p.dtype for p in self.net.parameters() if p.is_floating_point()), x.dtype)
        level = c.noise.reshape(-1).expand(len(x)).to(dtype if dtype.itemsize >= 4 else torch.float32)
        seen = c.into * x
        if cond is not None:
            seen = torch.cat((seen, cond.to(x.dtype).expand(len(x), -1, -1, -1)), 1)
        raw: Tensor = self.net(seen.to(dtype), level, labels).to(x.dtype)
        if raw.shape[1] not in (self.channels, 2 * self.channels):
            raise ValueError(
                f"the network answers with {raw.shape[1]} channels; expected C or 2 C, C = {self.channels}"
            )
        x0 = c.skip * x + c.out * raw[:, : self.channels]
        return Prediction(x0, raw[:, self.channels :] if raw.shape[1] > self.channels else None)

    def forward(
        self, x: Tensor, sigma: Tensor, labels: Tensor | None = None, cond: Tensor | None = None
    ) -> Tensor:
        """E[x0 | x]: `predict(...).x0`."""
        return self.predict(x, sigma, labels, cond).x0

    def given(self, labels: Tensor | None = None, cond: Tensor | None = None) -> "Given":
        """The denoiser for these labels, (B,) class numbers, and this picture; None leaves them out.

        ValueError for labels that are no classes of this prior. The null class can be asked for by its number.
        """
        self._check_labels(labels, None)
        self._check_cond(cond, None)
        if labels is not None and len(labels):
            low, high = int(labels.min()), int(labels.max())
            last = (self.num_classes or 0) - (not self.null_class)
            if low < 0 or high > last:
                named = f"classes 0 to {(self.num_classes or 0) - 1}"
                none = f", and {last} for none" if self.null_class else ""
                raise ValueError(f"labels from {low} to {high}; this prior has {named}{none}")
        return Given(self, labels, cond)

    def _check_labels(self, labels: Tensor | None, batch: int | None) -> None:
        if labels is None:
            return
        if self.num_classes is None:
            raise ValueError("labels for a prior without classes; leave them out")
        whole = not (labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool)
        if labels.ndim != 1 or not whole or (batch is not None and len(labels) != batch):
            found = f"labels of shape {tuple(labels.shape)} and type {labels.dtype}"
            raise ValueError(
                f"{found}; expected one integer an image" + (f", ({batch},)" if batch is not None else "")
            )

    def _check_cond(self, cond: Tensor | None, x: Tensor | None) -> None:
        if cond is None:
            if self.conditions:
                raise ValueError(
                    f"no cond; this prior is conditioned on a picture, (B, {self.conditions}, H, W)"
                )
            return
        found = f"cond of shape {tuple(cond.shape)} and type {cond.dtype}"
        if not self.conditions:
            raise ValueError(f"{found}; this prior takes none, leave it out")
        batch, height, width = ("B", "H", "W") if x is None else (len(x), x.shape[2], x.shape[3])
        fits = cond.ndim == 4 and cond.shape[1] == self.conditions and cond.is_floating_point()
        if fits and x is not None:
            fits = cond.shape[0] in (1, len(x)) and cond.shape[2:] == x.shape[2:]
        if not fits:
            raise ValueError(
                f"{found}; expected floats ({batch}, {self.conditions}, {height}, {width}), or one for all"
            )


@dataclass(frozen=True, slots=True)
class Given:
    """A prior with its labels and its picture filled in: a Denoise that can also `predict`."""

    prior: Prior
    labels: Tensor | None
    cond: Tensor | None = None

    def __call__(self, x: Tensor, sigma: Tensor, /) -> Tensor:
        """E[x0 | x, labels, cond]."""
        return self.predict(x, sigma).x0

    def predict(self, x: Tensor, sigma: Tensor, /) -> Prediction:
        """The prior's whole answer, variance included."""
        return self.prior.predict(x, sigma, self.labels, self.cond)
