"""A classifier that judges finished pictures: which class does it see?"""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from undiffuse.app.evaluate.files import open_onnx, open_torchscript
from undiffuse.app.evaluate.networks import seen
from undiffuse.app.guides import open_guide
from undiffuse.config.analyse.guidance import GuidanceConfig
from undiffuse.core.images import to_bytes
from undiffuse.data import transforms

CLEAN = 0.0  # noise level that a noisy classifier is asked at
Judge = Callable[[Tensor], Tensor]  # (B, C, H, W) in [-1, 1] -> scores (B, classes)


def open_judge(config: GuidanceConfig, device: torch.device, channels: int, classes: int) -> Judge:
    """Scores of pictures as they would be saved, by config.classifier. ValueError, in one line, for what is none.

    A noisy classifier is asked at its lowest level. Files that are neither ours nor ONNX are taken for TorchScript,
    which is a program and runs with the user's rights, as `undiffuse evaluate` has it.
    """
    path = config.classifier
    assert path is not None
    if not path.is_file():
        raise ValueError(
            f"no classifier '{path}'; expected a noisy classifier, a .onnx or a TorchScript file"
        )
    if path.suffix.lower() == ".onnx":
        return _network(open_onnx(path)[0], config, path, classes)
    if path.suffix.lower() in (".ts", ".jit", ".torchscript"):
        return _network(open_torchscript(path, device)[0], config, path, classes)
    guide = open_guide(str(path), 1.0)
    found = guide.config
    if (found.num_classes, found.channels) != (classes, channels):
        raise ValueError(
            f"--classifier {path} knows {found.num_classes} classes of pictures of {found.channels} channels; "
            f"expected {classes} and {channels}"
        )
    classifier = guide.classifier.to(device)

    def judge(x: Tensor) -> Tensor:
        guide.check_size(*x.shape[2:])
        with torch.no_grad():
            return classifier(x.clamp(-1, 1), torch.tensor(CLEAN, device=device)).cpu()

    return judge


def _network(
    compute: Callable[[Tensor], tuple[Tensor, None]], config: GuidanceConfig, path: Path, classes: int
) -> Judge:
    side = config.classifier_size

    def judge(x: Tensor) -> Tensor:
        images = [torch.from_numpy(to_bytes(picture.cpu())).permute(2, 0, 1) for picture in x]
        if side is not None:
            images = [transforms.resized(image, side, side) for image in images]
        with torch.no_grad():
            scores = compute(torch.stack([seen(image, config.classifier_range) for image in images]))[0].cpu()
        if scores.shape[1] < classes:
            raise ValueError(
                f"--classifier {path} answers {scores.shape[1]} scores; expected {classes}, one a class"
            )
        return scores

    return judge


def check_labels(labels: Sequence[int | None]) -> None:
    """ValueError if no picture has a class that could be seen."""
    if all(label is None for label in labels):
        raise ValueError("--classifier with --label none; expected classes that it could see")
