"""What turns pictures into features: the networks of the literature, any network of a file, or plain pixels."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from undiffuse.app.evaluate.files import open_onnx, open_torchscript
from undiffuse.app.pull.shelf import shelf
from undiffuse.checkpoints.weights import Weights, open_weights
from undiffuse.config.evaluate import EvaluateConfig
from undiffuse.core.images import to_unit
from undiffuse.data import transforms
from undiffuse.metrics import dinov2, inception

Compute = Callable[[Tensor], tuple[Tensor, Tensor | None]]  # a batch -> features (B, D), logits (B, classes)
SIDE = 16  # of pca, and of pixels unless said
USUAL, MOST = {"pixels": SIDE, "pca": 64}, {"pixels": 64, "pca": 3 * SIDE**2}


@dataclass(frozen=True)
class Extractor:
    """A network, or what takes its place, and how pictures are brought to it."""

    name: str
    prepare: Callable[[Tensor], Tensor]  # (3, H, W) of uint8 -> one size for all
    compute: Compute
    protocol: Mapping[str, Any]  # all that decides the features
    published: bool = False  # numbers can be compared with those of papers
    components: int | None = None  # principal ones of the reference, that features are reduced to


@dataclass(frozen=True)
class Standard:
    """Weights as published, by the names under which they lie about."""

    files: tuple[str, ...]
    where: str
    sha256: str


STANDARD = {
    "inception": Standard(
        ("pt_inception-2015-12-05-6726825d.pth", "weights-inception-2015-12-05-6726825d.pth"),
        "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth",
        inception.SHA256,
    ),
    "dinov2": Standard(
        ("dinov2_vitl14_pretrain.pth",),
        "https://dl.fbaipublicfiles.com/dinov2/dinov2_vitl14/dinov2_vitl14_pretrain.pth",
        dinov2.SHA256,
    ),
}


def network_file(config: EvaluateConfig) -> Path | None:
    """The file that the features come from; None for pixels. ValueError if it is not there."""
    name, _, _ = config.features.partition(":")
    if name in MOST:
        _number(config.features)
        return None
    if name not in STANDARD:
        if not Path(config.features).is_file():
            known = "inception, dinov2, pixels, pca, or a .onnx or TorchScript file"
            raise ValueError(f"no features '{config.features}'; choose from {known}")
        return Path(config.features)
    if config.features != name:
        raise ValueError(f"--features {config.features}; expected {name} alone")
    standard = STANDARD[name]
    if config.weights is not None:
        if not config.weights.is_file():
            raise ValueError(f"no weights at '{config.weights}'; {_needed(standard)}")
        return config.weights
    folders = (shelf(), Path(torch.hub.get_dir()) / "checkpoints")
    for path in (folder / file for folder in folders for file in standard.files):
        if path.is_file():
            return path
    raise ValueError(f"no weights of {name} on this machine; {_needed(standard)}")


def _needed(standard: Standard) -> str:
    return (
        f"expected {standard.files[0]} ({standard.where}, SHA-256 {standard.sha256}): name it as --weights FILE or put "
        f"it into {shelf()}; --features pixels and pca need none, and compare with nothing published"
    )


def extractor(
    config: EvaluateConfig, file: Path | None, sha256: str | None, device: torch.device
) -> Extractor:
    """Ready to compute on a device. ValueError, in one line, for weights that do not fit."""
    name, _, _ = config.features.partition(":")
    if file is None:
        return _pixels(config.features)
    if name == "inception":
        return _inception(file, sha256, config.resize, device)
    if name == "dinov2":
        return _dinov2(file, sha256, device)
    return _from_file(file, sha256, config, device)


def _inception(file: Path, sha256: str | None, resize: str, device: torch.device) -> Extractor:
    net = inception.Inception()
    _fill(net, open_weights(file), ())
    net.to(device).to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue] (0.6 of the time)

    def prepare(image: Tensor) -> Tensor:
        x = transforms.signed(image)
        if resize == "tf1":
            return inception.resized(x[None])[0]
        return transforms.resized(x, inception.SIDE, inception.SIDE)

    protocol = {
        "network": "Inception 2015-12-05, pool_3",
        "sha256": sha256,
        "resize": {"tf1": "299x299 bilinear of TensorFlow 1", "clean": "299x299 bicubic with a filter"}[
            resize
        ],
    }
    return Extractor("inception", prepare, net, protocol, sha256 == inception.SHA256)


def _dinov2(file: Path, sha256: str | None, device: torch.device) -> Extractor:
    weights = open_weights(file)
    try:
        net = dinov2.fitting(weights.shapes)
    except ValueError as error:
        raise ValueError(f"'{file}' is not of dinov2: {error}; {_needed(STANDARD['dinov2'])}") from None
    _fill(net, weights, ("mask_token",))
    net.to(device)

    def prepare(image: Tensor) -> Tensor:
        shown = Image.fromarray(image.permute(1, 2, 0).contiguous().numpy())
        small = shown.resize((dinov2.SIDE, dinov2.SIDE), Image.Resampling.BICUBIC)
        return transforms.signed(torch.from_numpy(np.array(small)).permute(2, 0, 1))

    protocol = {
        "network": f"DINOv2 ViT/14 of width {net.width}, class token",
        "sha256": sha256,
        "resize": "224x224 bicubic of Pillow",
    }
    return Extractor("dinov2", prepare, lambda x: (net(x), None), protocol, sha256 == dinov2.SHA256)


def _fill(net: nn.Module, weights: Weights, unused: tuple[str, ...]) -> None:
    wanted = {name: tuple(v.shape) for name, v in net.state_dict().items() if v.is_floating_point()}
    given = {name: shape for name, shape in weights.shapes.items() if name not in unused}
    for name in sorted(wanted.keys() | given.keys()):
        if wanted.get(name) != given.get(name):
            told = (
                f"{name[:100]} is {given.get(name, 'missing')}, expected {wanted.get(name, 'no such tensor')}"
            )
            raise ValueError(f"'{weights.path}': {told}; is it the file that was meant?")
    net.load_state_dict({name: weights.tensors[name] for name in wanted}, strict=False)


def width(features: str) -> int | None:
    """How many features there are of a picture; None where the network has to be asked."""
    if features.partition(":")[0] == "pixels":
        return 3 * _number(features) ** 2
    return inception.WIDTH if features == "inception" else None


def components(features: str) -> int | None:
    """How many principal ones are asked for; None of features that are not reduced."""
    return _number(features) if features.partition(":")[0] == "pca" else None


def _number(features: str) -> int:
    """That of `pixels:16` and `pca:64`. ValueError for any other."""
    name, _, number = features.partition(":")
    if number and not (number.isascii() and number.isdecimal() and 1 <= int(number) <= MOST[name]):
        raise ValueError(f"--features {features}; expected {name}:1 to {name}:{MOST[name]}")
    return int(number or USUAL[name])


def _pixels(features: str) -> Extractor:
    reduced = components(features)
    side = _number(features) if reduced is None else SIDE

    def prepare(image: Tensor) -> Tensor:
        return functional.adaptive_avg_pool2d(transforms.signed(image)[None], side)[0]

    protocol = {"network": "none", "sha256": None, "resize": f"means over {side}x{side} areas"}
    shown = f"pixels:{side}" if reduced is None else f"pca:{reduced}"
    return Extractor(shown, prepare, lambda x: (x.flatten(1), None), protocol, False, reduced)


def _from_file(file: Path, sha256: str | None, config: EvaluateConfig, device: torch.device) -> Extractor:
    onnx = file.suffix.lower() == ".onnx"
    compute, whole = open_onnx(file) if onnx else open_torchscript(file, device)
    span, size = config.range or ("0..255" if whole else None), config.size
    if span is None or (size is None and not whole):
        raise ValueError(
            f"'{file}' does not say what it sees; give --size, such as 224, and --range, such as imagenet"
        )

    def prepare(image: Tensor) -> Tensor:
        image = image if size is None else transforms.resized(image, size, size)
        return seen(image, span)

    resize = "by the network" if size is None else f"{size}x{size} bicubic with a filter"
    protocol = {"network": file.name, "sha256": sha256, "resize": resize, "range": span}
    return Extractor(file.name, prepare, compute, protocol)


def seen(image: Tensor, span: str) -> Tensor:
    """Bytes as a network wants them: 0..255, 0..1, -1..1, or less ImageNet's mean and over its deviation."""
    if span == "0..255":
        return image.float()
    x = transforms.signed(image)
    if span == "-1..1":
        return x
    x = to_unit(x)
    if span == "0..1":
        return x
    mean, deviation = (torch.tensor(values)[:, None, None] for values in (dinov2.MEAN, dinov2.DEVIATION))
    return (x - mean) / deviation
