"""Where a network's attention goes, seen from outside: its code, its answer and its memory stay as they are."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from undiffuse.core.devices import total, wide

T = TypeVar("T")
BUDGET = 2**24  # weights at once: 64 MB, and 300 MB with all that is made of them, for any number of pixels


@dataclass(frozen=True, slots=True)
class Layer:
    """What is kept of a layer's weights w = softmax(q k^T / sqrt(d)), (B, heads, h w, h w), which are never held whole.

    A pixel of the layer is a block of the picture's; distances are in pixels of the picture. On the CPU, float64.
    """

    name: str  # of the module, as its weights are named
    size: tuple[int, int]  # (h, w)
    received: (
        Tensor  # (B, heads, h, w): what all pixels together give to each; its mean is 1, as is even attention
    )
    entropy: (
        Tensor  # (B, heads): mean over pixels of -sum w log w, over log(h w); 1 is even, 0 is one pixel each
    )
    distance: Tensor  # (B, heads): mean of sum w |query - key|; 0 is each pixel at itself
    even_distance: float  # what that is of even attention
    queries: Tensor  # (B, heads, Q, h, w): the weights of the chosen pixels; each sums to 1

    @property
    def heads(self) -> int:
        """How many."""
        return self.received.shape[1]


@dataclass(frozen=True, slots=True)
class Shot:
    """All layers at one noise level, on the way from noise to a picture."""

    sigma: float  # in [-1, 1] units
    x: Tensor  # (C, H, W): the first picture as it is there
    x0: Tensor  # (C, H, W): what the network takes it for
    layers: tuple[Layer, ...]  # maps of the first picture; entropy and distance of all of them, (n, heads)


def attention(
    net: nn.Module,
    call: Callable[[], T],
    /,
    *,
    size: tuple[int, int],
    queries: Sequence[tuple[int, int]] = (),
    budget: int = BUDGET,
) -> tuple[T, list[Layer]]:
    """What `call` answers, to the bit, and the layers of `net` that attended meanwhile, in their order.

    Every call of torch's scaled_dot_product_attention is seen on its way; hooks tell in which module it happens, and
    how many pixels that sees. Weights are computed again from q and k, in float32 or wider, `budget` numbers at a time,
    and reduced at once. size: (H, W) of the picture; queries: (row, column) in it, of pixels whose maps are kept.

    No layer means that the network has none, or computes its attention in another way. ValueError for attention that
    is masked, or is not from all pixels to all pixels; for a query outside the picture.
    """
    for row, column in queries:
        if not (0 <= row < size[0] and 0 <= column < size[1]):
            raise ValueError(
                f"the pixel {row},{column} lies outside the picture of {size[0]}x{size[1]}; choose another"
            )
    watch = _Watch(size, tuple(queries), budget)
    with _hooked(net, watch), watch:
        answer = call()
    return answer, watch.layers


class _Watch(TorchFunctionMode):
    """Passes every function on; of attention it keeps what it did."""

    def __init__(self, size: tuple[int, int], queries: tuple[tuple[int, int], ...], budget: int):
        super().__init__()
        self.size, self.queries, self.budget = size, queries, budget
        self.layers: list[Layer] = []
        self.inside: list[
            tuple[str, tuple[int, ...]]
        ] = []  # modules at work: name, shape of what they are given

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        answer = func(*args, **(kwargs or {}))
        if func is F.scaled_dot_product_attention:
            with torch.no_grad():
                self.layers.append(self._seen(*args, **(kwargs or {})))
        return answer

    def _seen(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        **_: Any,
    ) -> Layer:
        name, sizes = (self.inside or [("", ())])[-1][0], [shape[2:] for _, shape in reversed(self.inside)]
        pixels = query.shape[-2]
        size = next((s for s in sizes if len(s) == 2 and s[0] * s[1] == pixels), None)
        if attn_mask is not None or is_causal or key.shape[-2] != pixels or size is None or query.ndim != 4:
            raise ValueError(
                f"the layer '{name}' attends from {pixels} to {key.shape[-2]} places"
                f"{', masked' if attn_mask is not None or is_causal else ''}; maps are of attention from all pixels to "
                "all pixels"
            )
        q, k = (t.to(torch.promote_types(t.dtype, torch.float32)) for t in (query, key))
        q = q * (query.shape[-1] ** -0.5 if scale is None else scale)
        return _reduced(name, q, k, (size[0], size[1]), self)


def _reduced(name: str, q: Tensor, k: Tensor, size: tuple[int, int], asked: _Watch) -> Layer:
    """q, scaled, and k: (B, heads, L, d). Rows of the weights are made, counted and forgotten."""
    batch, heads, pixels, _ = q.shape
    places = _places(size, asked.size).to(q)
    chosen = [
        row * size[0] // asked.size[0] * size[1] + col * size[1] // asked.size[1]
        for row, col in asked.queries
    ]
    received = torch.zeros(batch, heads, pixels, dtype=torch.float64)
    entropy, distance = (torch.zeros(batch, heads, dtype=torch.float64) for _ in range(2))
    maps = torch.zeros(batch, heads, len(chosen), pixels, dtype=torch.float64)
    even = 0.0
    for rows in torch.arange(pixels).split(max(1, asked.budget // (batch * heads * pixels))):
        first, last = int(rows[0]), int(rows[-1])
        w = (q[:, :, first : last + 1] @ k.transpose(-1, -2)).softmax(-1)  # (B, heads, rows, L)
        apart = torch.cdist(places[first : last + 1], places, compute_mode="donot_use_mm_for_euclid_dist")
        received += total(w, -2)
        entropy += total(torch.special.entr(w), (-1, -2))
        distance += total(w * apart, (-1, -2))
        even += wide(apart).mean(-1).sum().item()
        for number, at in enumerate(chosen):
            if first <= at <= last:
                maps[:, :, number] = w[:, :, at - first].cpu().double()
    most = torch.tensor(float(max(2, pixels)), dtype=torch.float64).log()  # of one pixel the entropy is 0
    return Layer(
        name=name,
        size=size,
        received=received.unflatten(-1, size),
        entropy=entropy / pixels / most,
        distance=distance / pixels,
        even_distance=even / pixels,
        queries=maps.unflatten(-1, size),
    )


def _places(size: tuple[int, int], picture: tuple[int, int]) -> Tensor:
    """(h w, 2): middles of the layer's pixels, in pixels of the picture."""
    rows, columns = ((torch.arange(n) + 0.5) * whole / n for n, whole in zip(size, picture, strict=True))
    return torch.cartesian_prod(rows, columns)


@contextmanager
def _hooked(net: nn.Module, watch: _Watch) -> Iterator[None]:
    """`watch.inside` is right while this holds."""

    def enter(name: str) -> Callable[..., None]:
        def begin(module: nn.Module, args: tuple[Any, ...]) -> None:
            shape = tuple(args[0].shape) if args and isinstance(args[0], Tensor) else ()
            watch.inside.append((name, shape))

        return begin

    def leave(*_: Any) -> None:
        watch.inside.pop()

    with ExitStack() as stack:
        for name, module in net.named_modules():
            stack.callback(module.register_forward_pre_hook(enter(name)).remove)
            stack.callback(module.register_forward_hook(leave, always_call=True).remove)
        yield
