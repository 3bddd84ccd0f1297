"""Weights in a safetensors file, whose header says what network to build around them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import pydantic
import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from undiffuse.checkpoints.weights import shown
from undiffuse.config import Options, explain, validated
from undiffuse.core.tensors import write_tensors
from undiffuse.networks import Photo
from undiffuse.registry import NETWORKS, Entry

WIDEST = 100_000  # any size in a header: wider layers are nobody's
MOST = 10_000  # tensors; the largest published U-Nets have a thousand
LONGEST = 2**20  # characters of configuration, and of facts
FLOATS = ("F16", "BF16", "F32", "F64")


class Described(Options):
    """A network by its name and sizes, channels included."""

    network: dict[str, Any]

    def follows(self) -> dict[str, Any]:
        """Sizes that the network must have, for the rest of the description to be true of it."""
        raise NotImplementedError

    def network_config(self) -> Any:
        """The network's own configuration, all sizes filled in. ValueError unless they are those that follow."""
        entry, sizes = self._sizes()
        return entry(**sizes)

    def build_network(self) -> nn.Module:
        """The network, freshly initialised. ValueError as in `network_config`."""
        return self.network_config().build()

    def bounded(self, tensors: int) -> None:
        """ValueError for sizes that `tensors` tensors cannot have: building would take all time or memory."""
        _, sizes = self._sizes()
        levels = 1
        for key, value in sizes.items():
            numbers = value if isinstance(value, tuple | list) else (value,)
            for number in numbers:
                if isinstance(number, int | float) and not 0 <= number <= WIDEST:
                    raise ValueError(f"network.{key} = {str(number)[:20]}; expected 0 to {WIDEST}")
            levels = max(levels, len(numbers))
        if levels * sizes.get("blocks", 1) > tensors:
            raise ValueError(f"more blocks than the file has tensors, {tensors}")

    def _sizes(self) -> tuple[Entry, dict[str, Any]]:
        entry = NETWORKS[str(self.network.get("name"))[:100]]
        sizes = validated(entry, {key: value for key, value in self.network.items() if key != "name"})
        wanted = self.follows()
        if not wanted.keys() <= sizes.keys():
            raise ValueError(
                f"the network '{entry.name}' is not made for this: it has no {_first(wanted, sizes)}"
            )
        for key, value in wanted.items():
            if sizes[key] != value:
                raise ValueError(f"network.{key} = {sizes[key]}; expected {value}, as the rest says")
        return entry, sizes


D = TypeVar("D", bound=Described)


def _first(wanted: Mapping[str, Any], sizes: Mapping[str, Any]) -> str:
    return next(key for key in wanted if key not in sizes)


def check_size(net: nn.Module, size: tuple[int, int] | None) -> None:
    """ValueError for a size (height, width) that the network cannot be shown; `photo` pads any by itself."""
    unit: int = 1 if isinstance(net, Photo) else getattr(getattr(net, "config", None), "multiple", 1)
    if size is not None and any(side % unit or not side for side in size):
        raise ValueError(
            f"size {size[0]}x{size[1]}; expected sides that {unit} divides: give the size that it was trained on"
        )


def write(path: Path, kind: str, net: nn.Module, config: Described, facts: Mapping[str, Any]) -> None:
    """Weights and header in one file, which replaces `path` whole or not at all."""
    meta = {"kind": kind, "config": config.model_dump_json(), "facts": json.dumps(facts)}
    write_tensors(path, net.state_dict(), meta)


def read(path: Path, kind: str, model: type[D], what: str) -> tuple[nn.Module, D, dict[str, Any]]:
    """(network, description, facts). ValueError, in one line, for a file that does not hold `what`.

    Nothing in the file is executed, and its header is believed only as far as the tensors bear it out: sizes
    are bounded before a layer is made, layers are made without memory, and memory is that of the file's own
    tensors.
    """
    try:
        with safe_open(path, framework="pt") as file:
            config, facts = _header(file.metadata() or {}, kind, model)
            net = _empty(config, file)
            net.load_state_dict({name: file.get_tensor(name) for name in file.keys()}, assign=True)  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise ValueError(f"'{path}' cannot be read as safetensors: {error}") from None
    except ValueError as error:
        raise ValueError(f"'{path}' is no {what} of undiffuse: {error}") from None
    return net.eval().requires_grad_(False), config, facts


def _header(meta: Mapping[str, str], kind: str, model: type[D]) -> tuple[D, dict[str, Any]]:
    if meta.get("kind") != kind:
        raise ValueError(f"kind {meta.get('kind', '')[:40]!r}, expected {kind!r}")
    config, facts = (meta.get(key, "") for key in ("config", "facts"))
    if max(len(config), len(facts)) > LONGEST:
        raise ValueError(f"a header of more than {LONGEST} characters")
    try:
        read = json.loads(facts)
        if not isinstance(read, dict):
            raise ValueError("no object")
        return model.model_validate_json(config), read
    except pydantic.ValidationError as error:
        raise ValueError(explain(error, "it", model)) from None
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"facts that cannot be read ({error})") from None


def _empty(config: Described, file: Any) -> nn.Module:
    """The network of a header, without memory, once its tensors are known to be those of the file."""
    slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
    if len(slices) > MOST:
        raise ValueError(f"{len(slices)} tensors; expected at most {MOST}")
    if len(kinds := {value.get_dtype() for value in slices.values()}) > 1 or not kinds <= {*FLOATS}:
        raise ValueError(f"tensors of type {', '.join(sorted(kinds))}; expected one of {', '.join(FLOATS)}")
    config.bounded(len(slices))
    try:
        with torch.device("meta"):
            net = config.build_network()
    except (RuntimeError, OverflowError) as error:  # a product of sizes beyond 63 bits
        raise ValueError(f"sizes that no tensor has ({' '.join(str(error).split())[:200]})") from None
    wanted = {name: tuple(value.shape) for name, value in net.state_dict().items()}
    shapes = {name: tuple(value.get_shape()) for name, value in slices.items()}
    for name in sorted(wanted.keys() | shapes.keys()):
        if wanted.get(name) != shapes.get(name):
            found, expected = shapes.get(name, "missing"), wanted.get(name, "no such tensor")
            raise ValueError(
                f"{shown(name)} is {found}, expected {expected}; take the file from its source again"
            )
    return net
