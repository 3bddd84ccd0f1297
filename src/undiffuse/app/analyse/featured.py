"""Features of pictures that were just drawn, by what `undiffuse evaluate` knows."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import pydantic
import torch
from torch import Tensor

from undiffuse.app.evaluate.networks import extractor, network_file
from undiffuse.config import explain
from undiffuse.config.analyse.sizes import SizesConfig
from undiffuse.config.evaluate import EvaluateConfig
from undiffuse.core.images import to_bytes

Features = Callable[[Tensor], Tensor]  # (B, C, H, W) in [-1, 1] -> (B, D) on the CPU
COLOURS = 3


def open_features(config: SizesConfig, device: torch.device) -> Features:
    """Of pictures as they would be saved: bytes, grey as three channels. ValueError for features that are not here."""
    nowhere = Path()
    try:
        asked = EvaluateConfig(samples=nowhere, reference=nowhere, features=config.features)
    except pydantic.ValidationError as error:
        raise ValueError(explain(error, "analyse sizes", EvaluateConfig)) from None
    file = network_file(asked)
    digest = None
    if file is not None:
        with file.open("rb") as held:
            digest = hashlib.file_digest(held, "sha256").hexdigest()
    made = extractor(asked, file, digest, device)

    def measure(x: Tensor) -> Tensor:
        if x.shape[1] not in (1, COLOURS):
            raise ValueError(f"pictures of {x.shape[1]} channels have no features; expected 1 or 3")
        images = [torch.from_numpy(to_bytes(picture.float().cpu())) for picture in x]
        seen = [made.prepare(image.permute(2, 0, 1).expand(COLOURS, -1, -1)) for image in images]
        with torch.no_grad():
            return made.compute(torch.stack(seen).to(device))[0].float().cpu()

    return measure
