"""Fit the embedded Gaussian prior: the mean power spectrum of a folder of photographs.

python benchmarks/fit_photo_gaussian.py FOLDER OUT.safetensors
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from undiffuse.priors.estimate import estimate_stationary


def photographs(files: list[Path]) -> Iterator[Tensor]:
    for file in files:
        with Image.open(file) as photo:
            pixels = np.asarray(photo.convert("RGB"), dtype=np.float32)
        yield torch.from_numpy(pixels).permute(2, 0, 1) / 127.5 - 1


def main() -> None:
    parser = argparse.ArgumentParser(description="Fit the embedded Gaussian prior.")
    parser.add_argument("folder", type=Path, help="JPEG photographs")
    parser.add_argument("out", type=Path)
    parser.add_argument("--leave-out", default="gb82__*", help="held out: a pattern of file names")
    options = parser.parse_args()
    held_out = set(options.folder.glob(options.leave_out))
    files = sorted(set(options.folder.glob("*.jpg")) - held_out)
    prior = estimate_stationary(photographs(files))
    exponent = f"{prior.exponent:.3f}"
    prior.meta |= {"exponent": exponent, "licence": f"statistics of {len(files)} photographs"}
    prior.save(options.out)
    print(f"{len(files)} photographs ({len(held_out)} held out): grey power falls as 1 / f^{exponent}")
    for f, S in zip(prior.frequencies.tolist(), prior.power.T.tolist(), strict=True):
        print(f"{f:9.5f}", *(f"{s:12.5f}" for s in S))
    print("colours", prior.colours.tolist())
    print("mean", prior.mean.tolist(), "variance of the mean", prior.mean_variance.tolist())


if __name__ == "__main__":
    main()
