"""Features of many pictures, computed a part at a time; parts that are on disk already are read."""

import hashlib
import json
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from undiffuse.app import machine
from undiffuse.app.evaluate.networks import Extractor
from undiffuse.app.evaluate.sources import picture
from undiffuse.app.events import Progress
from undiffuse.app.outputs import make_folder
from undiffuse.core.tensors import write_tensors
from undiffuse.data.dataset import Dataset

FOLDER = "features"
PART = 256  # pictures in a file: what an interrupt can cost


@dataclass(frozen=True)
class Features:
    """Of all pictures of a set, in the order of their checksums, which is as good as random and no matter of names."""

    values: Tensor  # (N, D) float32, on the CPU
    logits: Tensor | None  # (N, classes)
    digests: list[bytes]  # of the pictures
    kept: int  # pictures whose features were there already


def features_of(
    dataset: Dataset, extractor: Extractor, out: Path, device: torch.device, batch: int, label: str
) -> Generator[Progress, None, Features]:
    """Yields progress, returns the features. ValueError for a picture that cannot be read.

    A part's file is named by what its features depend on: the network, the resizing and the pictures' contents.
    """
    count, kept = len(dataset), 0
    parts: list[tuple[Tensor, Tensor | None]] = []
    digests: list[bytes] = []
    for start in range(0, count, PART):
        members = range(start, min(start + PART, count))
        hashes = [dataset.digest(i) for i in members]
        digests += hashes
        path = out / FOLDER / f"{_key(extractor, hashes)}.safetensors"
        part = _read(path, len(members))
        if part is None:
            found: list[tuple[Tensor, Tensor | None]] = []
            for first in range(members.start, members.stop, batch):
                group = range(first, min(first + batch, members.stop))
                found.append(_computed(dataset, group, extractor, device))
                yield Progress(group.stop, count, label)
            part = _joined(found)
            _write(path, part, extractor)
        else:
            kept += len(members)
            yield Progress(members.stop, count, label)
        parts.append(part)
    values, logits = _joined(parts)
    order = sorted(range(count), key=digests.__getitem__)
    logits = None if logits is None else logits[order]
    return Features(values[order], logits, [digests[i] for i in order], kept)


def _computed(
    dataset: Dataset, group: range, extractor: Extractor, device: torch.device
) -> tuple[Tensor, Tensor | None]:
    with ThreadPoolExecutor(machine.cores()) as readers:
        inputs = list(readers.map(lambda i: extractor.prepare(picture(dataset, i)), group))
    odd = next((i for i, x in zip(group, inputs, strict=True) if x.shape != inputs[0].shape), None)
    if odd is not None:
        shapes = f"{tuple(inputs[odd - group.start].shape)} beside {tuple(inputs[0].shape)}"
        raise ValueError(f"{dataset.name(odd)}: {shapes}; expected one size for all; give --size")
    with torch.no_grad():
        values, logits = extractor.compute(torch.stack(inputs).to(device))
    if not values.isfinite().all():
        bad = group[int((~values.isfinite()).any(1).nonzero()[0])]
        raise ValueError(
            f"{dataset.name(bad)}: its features are not finite; look at the network and its range"
        )
    return values.float().cpu(), None if logits is None else logits.float().cpu()


def _joined(parts: list[tuple[Tensor, Tensor | None]]) -> tuple[Tensor, Tensor | None]:
    logits = [part for _, part in parts if part is not None]
    return torch.cat([values for values, _ in parts]), torch.cat(logits) if logits else None


def _key(extractor: Extractor, hashes: list[bytes]) -> str:
    settings = json.dumps(dict(extractor.protocol), sort_keys=True).encode()
    return hashlib.sha256(settings + b"".join(hashes)).hexdigest()[:32]


def _read(path: Path, count: int) -> tuple[Tensor, Tensor | None] | None:
    """A part that is whole; None for one that is missing or is not what was written."""
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            names = set(file.keys())
            held = {name: file.get_tensor(name) for name in names & {"features", "logits"}}
    except (SafetensorError, OSError):
        return None
    whole = "features" in held and all(
        value.ndim == 2 and len(value) == count and value.dtype == torch.float32 and value.isfinite().all()
        for value in held.values()
    )
    return (held["features"], held.get("logits")) if whole else None


def _write(path: Path, part: tuple[Tensor, Tensor | None], extractor: Extractor) -> None:
    make_folder(path.parent)
    values, logits = part
    tensors = {"features": values} | ({} if logits is None else {"logits": logits})
    write_tensors(path, tensors, {"protocol": json.dumps(dict(extractor.protocol))})
