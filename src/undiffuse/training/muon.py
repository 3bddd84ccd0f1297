"""Muon: orthogonalised momentum for kernels and matrices, AdamW for the rest.

Jordan et al. 2024 (kellerjordan.github.io/posts/muon); the scale of an update as in Liu et al. 2025
(arXiv:2502.16982, eq. 4), so that AdamW's learning rates and weight decay carry over.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

NARROW = 16  # channels: kernels with fewer in or out (first and last layers) are AdamW's


class Muon(torch.optim.Optimizer):
    """For kernels W of n x m (all taps as columns): W <- (1 - rate decay) W - rate 0.2 sqrt(max(n, m)) O.

    O is about U V^T of G = U S V^T, the gradient with Nesterov momentum: every direction of the kernel moves equally
    far. All else (biases, norms, embeddings, linear layers, narrow kernels) takes AdamW with the same rate.
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        lr: float,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
    ):
        kernels = [p for p in module.parameters() if p.requires_grad and is_kernel(p)]
        others = [p for p in module.parameters() if p.requires_grad and not is_kernel(p)]
        groups: list[dict[str, Any]] = [
            {"params": kernels, "kernels": True},
            {"params": others, "kernels": False},
        ]
        defaults = {"lr": lr, "momentum": momentum, "betas": betas, "weight_decay": weight_decay, "eps": 1e-8}
        super().__init__([group for group in groups if group["params"]], defaults)

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One update of every parameter that has a gradient."""
        if closure is not None:
            raise ValueError("Muon takes no closure; call backward first")
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                p.mul_(1 - group["lr"] * group["weight_decay"])
                rule = self._kernel if group["kernels"] else self._adam
                update = rule(p, p.grad, group)
                p.add_(update, alpha=-group["lr"])

    def _kernel(self, p: Tensor, gradient: Tensor, group: dict[str, Any]) -> Tensor:
        state, momentum = self.state[p], group["momentum"]
        if not state:
            state["momentum"] = torch.zeros_like(p)
        average = state["momentum"].lerp_(gradient, 1 - momentum)
        ahead = gradient.lerp(average, momentum).flatten(1)
        return (orthogonal(ahead) * 0.2 * max(ahead.shape) ** 0.5).view_as(p)

    def _adam(self, p: Tensor, gradient: Tensor, group: dict[str, Any]) -> Tensor:
        state, (b1, b2) = self.state[p], group["betas"]
        if not state:
            state |= {"step": torch.zeros(()), "mean": torch.zeros_like(p), "square": torch.zeros_like(p)}
        state["step"] += 1
        mean = state["mean"].lerp_(gradient, 1 - b1)
        square = state["square"].lerp_(gradient.square(), 1 - b2)
        seen = float(state["step"])
        return mean / (1 - b1**seen) / ((square / (1 - b2**seen)).sqrt() + group["eps"])


def is_kernel(p: Tensor) -> bool:
    """Convolution kernels with at least 16 channels in and out."""
    return p.ndim >= 3 and min(p.shape[:2]) >= NARROW


def orthogonal(G: Tensor, /, steps: int = 5) -> Tensor:
    """About U V^T of G (n, m) = U S V^T, singular values between 0.7 and 1.2: Jordan et al.'s quintic iteration."""
    a, b, c = 3.4445, -4.7750, 2.0315
    X = G / (G.norm() + 1e-7)
    tall = X.shape[0] > X.shape[1]
    X = X.mT if tall else X
    for _ in range(steps):
        A = X @ X.mT
        X = a * X + (b * A + c * A @ A) @ X
    return X.mT if tall else X


def named(
    name: str, module: nn.Module, *, rate: float, betas: tuple[float, float], weight_decay: float
) -> torch.optim.Optimizer:
    """The optimiser `name` of the module's parameters: adam, adamw or muon."""
    learning: Iterable[nn.Parameter] = [p for p in module.parameters() if p.requires_grad]
    if name == "muon":
        return Muon(module, lr=rate, betas=betas, weight_decay=weight_decay)
    if name == "adamw":
        return torch.optim.AdamW(learning, lr=rate, betas=betas, weight_decay=weight_decay)
    if name == "adam":
        return torch.optim.Adam(learning, lr=rate, betas=betas, weight_decay=weight_decay)
    raise ValueError(f"no optimiser named '{name}'; choose from adam, adamw, muon")
