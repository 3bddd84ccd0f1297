"""Which table of tensors is meant in what a training run saved: the average before the raw weights."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

DEEPEST = 4  # wrappings around each other
EMA = ("ema", "model_ema", "ema_model", "ema_state_dict", "params_ema", "state_dict_ema")
RAW = ("state_dict", "model", "model_state_dict", "params", "net", "network", "unet")
AVERAGED = "ema_model."  # of ema_pytorch, which keeps both kinds of weights in one table
PREFIXES = ("module.", AVERAGED, "_orig_mod.", "model.", "net.", "unet.")


def unwrapped(path: Path, held: Any, raw: bool) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """The one table of tensors that is meant in what was saved, and how it was found, in words.

    Averaged weights (EMA) before others, unless `raw`. ValueError if there is none.
    """
    told: list[str] = []
    for _ in range(DEEPEST):
        if _is_table(held):
            return _unprefixed({str(name): value for name, value in held.items()}, raw, told)
        inner = dict(_inside(held))
        if not inner:
            break
        kinds = sorted(inner, key=lambda name: (_is_average(name) == raw, list(inner).index(name)))
        others = [name for name in inner if name != kinds[0]]
        left = f"; {', '.join(others)} left out" if others else ""
        told.append(
            f"{'averaged (EMA) weights: ' if _is_average(kinds[0]) else ''}{kinds[0]} of the file{left}"
        )
        held = inner[kinds[0]]
    raise ValueError(f"'{path}' holds no table of tensors, but {_kind(held)}")


def _is_table(held: Any) -> bool:
    return isinstance(held, Mapping) and len(held) > 0 and all(isinstance(v, Tensor) for v in held.values())


def _inside(held: Any) -> Iterator[tuple[str, Any]]:
    """What may hold the network's tensors: of a list of DDIM's training [model, optimiser, epoch, step, ema]."""
    if isinstance(held, list | tuple):
        tables = [(number, item) for number, item in enumerate(held[:100]) if _is_table(item)]
        for number, item in tables:
            average = len(tables) > 1 and number == tables[-1][0]
            yield f"item {number + 1}" + (" (ema)" if average else ""), item
    elif isinstance(held, Mapping):
        for name in (*EMA, *RAW):
            if isinstance(held.get(name), Mapping | list | tuple):
                yield name, held[name]


def _is_average(name: str) -> bool:
    return name in EMA or name.endswith("(ema)")


def _unprefixed(
    tensors: dict[str, Tensor], raw: bool, told: list[str]
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Without what DataParallel and its like put before every name."""
    averaged = {name: value for name, value in tensors.items() if name.startswith(AVERAGED)}
    if averaged and len(averaged) < len(tensors):
        other = "online_model."
        chosen = {name: v for name, v in tensors.items() if name.startswith(other)} if raw else averaged
        told.append(f"{other if raw else AVERAGED}* of {len(tensors)} tensors")
        tensors = {name.removeprefix(other): value for name, value in chosen.items()}
    starts: Callable[[str], bool] = lambda prefix: all(name.startswith(prefix) for name in tensors)  # noqa: E731
    while tensors and (prefix := next(filter(starts, PREFIXES), None)):
        tensors = {name.removeprefix(prefix): value for name, value in tensors.items()}
        told.append(f"'{prefix}' taken off the names")
    return tensors, tuple(told)


def _kind(held: Any) -> str:
    if isinstance(held, Mapping):
        return f"a table of {', '.join(str(name)[:30] for name in list(held)[:8]) or 'nothing'}"
    return f"a {type(held).__name__}"
