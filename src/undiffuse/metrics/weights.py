"""LPIPS weights from files that are already there: nothing is downloaded, and nothing in a file is executed."""

import hashlib
import importlib.util
import os
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from undiffuse.metrics.lpips import LPIPS

VARIABLE = "UNDIFFUSE_LPIPS"
LARGEST = 2**30  # bytes of a file, packed or not; the largest published one, of VGG16, has 553 million


@dataclass(frozen=True, slots=True)
class Published:
    """A file as its authors publish it."""

    name: str
    where: str
    sha256: str


TRUNK = Published(
    "alexnet-owt-7be5be79.pth",
    "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
    "7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02",
)
HEADS = Published(
    "alex.pth",
    "lpips/weights/v0.1/alex.pth of the Python package lpips 0.1.4",
    "df73285e35b22355a2df87cdb6b70b343713b667eddbda73e1977e0c860835c0",
)
VGG_TRUNK = "397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0"  # vgg16-397923af.pth
VGG_HEADS = "a78928a0af1e5f0fcb1f3b9e8f8c3a2a5a3de244d830ad5c1feddc79b8432868"  # vgg.pth, version 0.1
NAMED = f"give {TRUNK.name} and {HEADS.name} of LPIPS 0.1 as --lpips FILE,FILE; docs/restore.md says where they are"
PUBLISHED = {frozenset({TRUNK.sha256, HEADS.sha256}), frozenset({VGG_TRUNK, VGG_HEADS})}


def open_lpips(named: str | None = None) -> LPIPS:
    """LPIPS with the weights of `named`, "FILE" or "FILE,FILE"; else of UNDIFFUSE_LPIPS; else what lies about.

    Together the files hold torchvision's `features.*` of AlexNet or VGG16 (its classifier is not used) and the
    heads `lin*.model.1.weight` that the authors of LPIPS publish: .pth, read as weights only, or .safetensors.
    Without names: AlexNet's file in the torch hub's cache, and the heads there or in an installed `lpips`.

    The result's `published` is True if the files are the published ones, by their SHA-256. ValueError, in one
    line, where files are missing, too large or hold anything else.
    """
    files = _files(named)
    tensors: dict[str, Tensor] = {}
    for path in files:
        tensors |= _tensors(path)
    names = ", ".join(str(path) for path in files)
    first = tensors.get("features.0.weight")
    if first is None or "lin0.model.1.weight" not in tensors:
        lacking = f"the layers {'features.*' if first is None else 'lin*'} are not in {names}"
        raise ValueError(f"{lacking}; {NAMED}")
    net = LPIPS("alex" if first.shape[-1] == 11 else "vgg")
    _fill(net, tensors, names)
    net.published = frozenset(_sha256(path) for path in files) in PUBLISHED
    return net


def _fill(net: LPIPS, tensors: dict[str, Tensor], names: str) -> None:
    wanted = net.state_dict()
    for key in sorted(wanted.keys() | tensors.keys()):
        found = tuple(tensors[key].shape) if key in tensors else "missing"
        expected = tuple(wanted[key].shape) if key in wanted else "no such tensor"
        if found != expected:
            raise ValueError(f"{names}: {key[:100]} is {found}, expected {expected}; {NAMED}")
        if not torch.isfinite(tensors[key]).all():
            raise ValueError(f"{names}: {key[:100]} holds NaN or infinity; {NAMED}")
    net.load_state_dict(tensors)


def _files(named: str | None) -> list[Path]:
    given = named or os.environ.get(VARIABLE)
    if given:
        files = [Path(given)] if Path(given).is_file() else [Path(part.strip()) for part in given.split(",")]
        for path in files:
            if not path.is_file():
                raise ValueError(f"no LPIPS weights at '{path}'; {_needed()}")
        return files
    cache = Path(torch.hub.get_dir()) / "checkpoints"
    heads = [cache / HEADS.name, *_packaged()]
    files = [cache / TRUNK.name, next((path for path in heads if path.is_file()), heads[0])]
    if not all(path.is_file() for path in files):
        raise ValueError(f"no LPIPS weights on this machine; {_needed()}")
    return files


def _packaged() -> list[Path]:
    """The heads inside an installed `lpips`, which is not imported."""
    found = importlib.util.find_spec("lpips")
    folders = [] if found is None else found.submodule_search_locations or []
    return [Path(folder, "weights", "v0.1", HEADS.name) for folder in folders]


def _needed() -> str:
    files = " and ".join(f"{file.name} ({file.where}, SHA-256 {file.sha256})" for file in (TRUNK, HEADS))
    return f"expected {files}: name both as --lpips FILE,FILE or in {VARIABLE}"


def _tensors(path: Path) -> dict[str, Tensor]:
    """Floats by name, without the classifier. ValueError for anything that is not that."""
    try:
        if not path.stat().st_size:
            raise ValueError("it is empty")
        if path.stat().st_size > LARGEST:
            raise ValueError(f"more than {LARGEST} bytes")
        held = _safetensors(path) if path.suffix == ".safetensors" else _pickled(path)
        if not isinstance(held, dict):
            raise ValueError("no tensors by name")
        return {str(k): _plain(v) for k, v in held.items() if not str(k).startswith("classifier.")}
    except Exception as error:  # readers raise anything on bytes that nobody vouches for
        said = " ".join(str(error).split())[:200] if isinstance(error, ValueError | OSError) else ""
        raise ValueError(
            f"'{path}' cannot be read as weights ({said or type(error).__name__}); {NAMED}"
        ) from None


def _safetensors(path: Path) -> dict[str, Tensor]:
    with safe_open(path, framework="pt") as file:
        return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118


def _pickled(path: Path) -> Any:
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > LARGEST:
                raise ValueError(f"unpacks to more than {LARGEST} bytes")
    return torch.load(path, map_location="cpu", weights_only=True)


def _plain(value: Any) -> Tensor:
    if not isinstance(value, Tensor) or value.layout != torch.strided or not value.is_floating_point():
        raise ValueError("something else than tensors of floats")
    return value.detach().float()


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
