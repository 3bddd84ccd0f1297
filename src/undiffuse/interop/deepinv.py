"""deepinv's physics as a degradation here, and a prior as a denoiser there.

Its pictures are in [0, 1] and ours in [-1, 1], x = 2 x' - 1, so that noise levels double: sigma = 2 sigma'. A linear A
is the same map in both, but data are not: y = 2 y' - A 1, with 1 the white picture.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from undiffuse.core.images import from_unit, to_unit
from undiffuse.core.state import Denoise
from undiffuse.operators import LinearOperator
from undiffuse.operators.base import Shape
from undiffuse.restore import Problem

SAME = 1e-3  # of what the physics measures: how far its copy in float64 may be from it
COMPLEX = {torch.float32: torch.complex64, torch.float64: torch.complex128}


class PhysicsOperator(LinearOperator):
    """A and A_adjoint of a deepinv.physics.LinearPhysics; its noise and sensor models are not part of it.

    in_shape: (C, H, W) of pictures. It works on a copy in float64; `.to()` converts the copy, complex tensors to
    complex ones. ValueError for physics without an adjoint, that measures anything but one real tensor, or whose copy
    does not measure the same.
    """

    place: Tensor  # where the copy is, and of which type

    def __init__(self, physics: Any, in_shape: Shape):
        name = type(physics).__name__
        if not hasattr(physics, "A_adjoint"):
            raise ValueError(f"{name} has no A_adjoint; expected a deepinv.physics.LinearPhysics")
        here = next((t.device for t in (*physics.buffers(), *physics.parameters())), torch.device("cpu"))
        x = torch.linspace(-1, 1, math.prod(in_shape), device=here).sin().reshape(1, *in_shape)
        copied = _converted(physics.clone(), here, torch.float64)
        with torch.no_grad():
            y = physics.A(x)
            if not isinstance(y, Tensor) or not y.is_floating_point():
                found = str(y.dtype) if isinstance(y, Tensor) else type(y).__name__
                raise ValueError(f"{name} measures {found}; expected one tensor of real numbers")
            try:
                again = copied.A(x.double())
                copied.A_adjoint(again)
            except RuntimeError as error:
                reason = " ".join(str(error).split())[:150]
                raise ValueError(
                    f"{name} does not compute in float64 ({reason}); make it with that dtype"
                ) from None
        if again.shape != y.shape or not torch.allclose(
            again.float(), y.float(), SAME, SAME * float(y.abs().max())
        ):
            raise ValueError(f"{name} measures something else in float64; make it with that dtype")
        super().__init__(in_shape, tuple(y.shape[1:]))
        self._held = (copied,)  # in a tuple: as a submodule, `.to()` would make complex tensors real
        self.register_buffer("place", torch.empty(0, dtype=torch.float64, device=here), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """A x."""
        return self._held[0].A(x).to(x)

    def adjoint(self, y: Tensor) -> Tensor:
        """A^T y."""
        return self._held[0].A_adjoint(y).to(y)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "PhysicsOperator":
        super()._apply(fn, recurse)
        _converted(self._held[0], self.place.device, self.place.dtype)
        return self


def _converted(physics: Any, device: torch.device, dtype: torch.dtype) -> Any:
    """The same module, with its tensors of that type and there."""
    kinds = COMPLEX.get(dtype, torch.complex64)
    return physics._apply(
        lambda t: t.to(device, kinds if t.is_complex() else dtype if t.is_floating_point() else t.dtype)
    )


def operator(physics: Any, in_shape: Shape) -> PhysicsOperator:
    """A degradation for pictures (C, H, W); `contracts.operator.check` says whether it is what it should be."""
    return PhysicsOperator(physics, in_shape)


def problem(physics: Any, y: Tensor, in_shape: Shape, sigma: float) -> Problem:
    """What deepinv measured, y = A x + sigma n of pictures in [0, 1], as a `Problem`. sigma in its units, too."""
    A = operator(physics, in_shape).to(y)
    white = torch.ones(1, *in_shape, dtype=y.dtype, device=y.device)
    with torch.no_grad():
        return Problem(A, 2 * y - A(white), 2 * sigma)


class UnitDenoiser(nn.Module):
    """forward(x, sigma) -> x0, pictures and sigma in units of [0, 1]: what deepinv's algorithms call a denoiser.

    denoise: a prior, one `given` labels, or any `Denoise`. sigma: a number, or a tensor of one level or one an image.
    """

    def __init__(self, denoise: Denoise):
        super().__init__()
        self.denoise = denoise

    def forward(self, x: Tensor, sigma: float | Tensor, *_: Any, **__: Any) -> Tensor:
        """(D(2 x - 1, 2 sigma) + 1) / 2."""
        level = torch.as_tensor(sigma, dtype=x.dtype, device=x.device).flatten()
        if len(level) not in (1, len(x)):
            raise ValueError(f"{len(level)} noise levels for {len(x)} images; expected one, or one an image")
        return to_unit(self.denoise(from_unit(x), 2 * level.reshape(-1, *[1] * (x.ndim - 1))))


def denoiser(denoise: Denoise) -> UnitDenoiser:
    """A prior for deepinv: its plug-and-play, DiffPIR, DPS and DDRM take it."""
    return UnitDenoiser(denoise)
