"""What a run needs to go on as if nothing had happened: one safetensors file, written whole or not at all."""

import json
import re
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from undiffuse.core.tensors import write_tensors
from undiffuse.training.ema import EMA

KIND = "undiffuse resume state 1"


def save_resume(
    path: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    averages: Sequence[EMA],
    *,
    images_seen: int,
    skipped: int = 0,
    scaler: torch.amp.GradScaler | None = None,
    data: str | None = None,
) -> None:
    """Weights, the optimiser's moments, averages, counters, and the scale of fp16. Replaces `path` atomically.

    data: in words, what the training set is known by; whoever goes on must have the same.
    """
    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    for i, average in enumerate(averages):
        tensors |= {f"average.{i}.{name}": value for name, value in average.state_dict().items()}
    for i, moments in optimizer.state_dict()["state"].items():
        for name, value in moments.items():
            tensors[f"optimizer.{i}.{name}"] = torch.as_tensor(value)
    meta = {
        "kind": KIND,
        "images_seen": str(images_seen),
        "skipped": str(skipped),
        "averages": str(len(averages)),
    }
    if data is not None:
        meta["data"] = data
    if scaler is not None:
        meta["scale"] = json.dumps(scaler.state_dict())
    write_tensors(path, tensors, meta)


def load_resume(
    path: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    averages: Sequence[EMA],
    scaler: torch.amp.GradScaler | None = None,
    *,
    data: str | None = None,
) -> tuple[int, int]:
    """Put back what `save_resume` wrote; returns (images_seen, skipped).

    ValueError if it is of another run, or of other `data`.
    """
    try:
        with safe_open(path, framework="pt") as file:
            meta = file.metadata() or {}
            tensors: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise ValueError(
            f"'{path}' cannot be read as a resume state: {error}; start another run, in another folder, from the "
            "weights beside it with train.start"
        ) from None
    if meta.get("kind") != KIND:
        raise ValueError(f"'{path}' is no resume state of this version; start the run anew in another folder")
    if data is not None and meta.get("data", data) != data:
        raise ValueError(
            f"'{path}' is of a run on other data ({meta['data']}; here: {data}); give it the same, or start another "
            "run from its weights with train.start"
        )
    held, seen, skipped = (
        _count(meta.get(name), name, path) for name in ("averages", "images_seen", "skipped")
    )
    if held != len(averages):
        raise ValueError(f"'{path}' holds {held} averages, this run has {len(averages)}")
    try:
        model.load_state_dict(_under(tensors, "model."))
        for i, average in enumerate(averages):
            average.load_state_dict(_under(tensors, f"average.{i}."))
    except RuntimeError as error:
        raise ValueError(f"'{path}' is of another network: {' '.join(str(error).split())}") from None
    state = optimizer.state_dict()
    weights = [p for group in optimizer.param_groups for p in group["params"]]
    moments = {i: _under(tensors, f"optimizer.{i}.") for i in range(len(weights))}
    for i, p in enumerate(weights):
        for name, value in moments[i].items():
            if value.ndim and value.shape != p.shape:
                raise ValueError(
                    f"'{path}' holds optimizer.{i}.{name} of shape {tuple(value.shape)}; expected {tuple(p.shape)}, "
                    "as of its weights; start the run anew in another folder"
                )
    state["state"] = {i: found for i, found in moments.items() if found}
    optimizer.load_state_dict(state)
    if scaler is not None and "scale" in meta:
        _set_scale(scaler, meta["scale"], path)
    return seen, skipped


def _count(text: str | None, name: str, path: Path) -> int:
    if text is None or not re.fullmatch("[0-9]{1,18}", text):
        said = "none" if text is None else repr(text[:20])
        raise ValueError(
            f"'{path}' should count {name}, and says {said}; expected a number; start the run anew in another folder"
        )
    return int(text)


def _set_scale(scaler: torch.amp.GradScaler, text: str, path: Path) -> None:
    own = scaler.state_dict()
    try:
        found = json.loads(text)
        told = {name: type(value)(found[name]) for name, value in own.items()}
    except (ValueError, TypeError, KeyError):
        told = dict.fromkeys(own, -1.0)
    if not all(0 <= value < float("inf") for value in told.values()) or not told["scale"] > 0:
        raise ValueError(
            f"'{path}' holds no scale of fp16 that can be used; start the run anew in another folder"
        )
    scaler.load_state_dict(told)


def _under(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
