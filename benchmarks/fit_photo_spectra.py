"""Fit the embedded model of photographs' log spectra, by which a blur is told from a soft subject.

    python benchmarks/fit_photo_spectra.py FOLDER OUT.safetensors

One crop of up to 512 x 512 from the middle of every JPEG, those named gb82__* left out; channels averaged. Each log
spectrum is fitted by the shapes of restore/power.py; the table holds the mean and covariance of their weights.
"""

import argparse
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from undiffuse.core.images import read
from undiffuse.restore.power import measure_power, shapes

RIDGE = 1e-3  # of the mean square of a shape: keeps crops without content at zero


def weights(grey: Tensor, side: int) -> Tensor | None:
    power = measure_power(grey, torch.ones_like(grey, dtype=torch.bool), side)
    if power is None or float(grey.std()) < 0.02:
        return None
    B = shapes(power)
    eye = torch.eye(B.shape[1], dtype=torch.float64) * RIDGE * B.square().sum(0)
    return torch.linalg.solve(B.T @ B + eye, B.T @ power.log_power)


def main() -> None:
    parser = argparse.ArgumentParser(description="Fit the model of log spectra.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    options = parser.parse_args()
    paths = [p for p in sorted(options.folder.glob("*.jpg")) if not p.name.startswith("gb82__")]
    found: list[Tensor] = []
    for path in paths:
        x = read(path).pixels.mean(0)
        top, left = max(x.shape[0] - 512, 0) // 2, max(x.shape[1] - 512, 0) // 2
        z = weights(x[top : top + 512, left : left + 512], 128)
        if z is not None:
            found.append(z)
    z = torch.stack(found)
    meta = {"licence": f"statistics of {len(z)} photographs"}
    save_file({"mean": z.mean(0), "covariance": z.T.cov()}, options.out, meta)
    print(f"{len(z)} of {len(paths)} photographs")
    print("mean", [round(v, 3) for v in z.mean(0).tolist()])
    print("deviation", [round(v, 3) for v in z.std(0).tolist()])


if __name__ == "__main__":
    main()
