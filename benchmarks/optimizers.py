"""AdamW and Muon on the photograph U-Net: denoising error of unseen photographs after the same CPU time.

    python benchmarks/optimizers.py PHOTOS KODAK [--minutes 5]

One thread, one after the other; cosine decay over the time given, batch 16 of 64 x 64. Mean PSNR in dB of the first
eight KODAK pictures' top left 256 x 256 at sigma 25 of 255. Prints; writes benchmarks/results/optimizers.json.
"""

import argparse
import dataclasses
import json
import math
import time
from pathlib import Path

import torch
from denoising import pictures
from torch import Tensor

from undiffuse.app.train.build import build
from undiffuse.config.train import read_train
from undiffuse.metrics import psnr
from undiffuse.training.loop import accelerator_for, train

ROOT = Path(__file__).parents[1]
CASES = (("adamw", 1e-3), ("adamw", 3e-3), ("muon", 1e-3), ("muon", 3e-3))
SIGMA = 2 * 25 / 255


def score(prior: torch.nn.Module, clean: list[Tensor]) -> float:
    found = []
    for number, x in enumerate(clean):
        noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(number))
        with torch.no_grad():
            found.append(psnr(prior(x + SIGMA * noise, torch.tensor(SIGMA)).clamp(-1, 1), x).item())
    return sum(found) / len(found)


def trained(name: str, rate: float, photos: Path, minutes: float) -> tuple[torch.nn.Module, int]:
    settings = [f"optimizer.name={name}", f"optimizer.rate={rate}", f"data.path={photos}", "data.workers=0"]
    pieces = build(read_train(ROOT / "configs/train/photos64.yaml", settings))
    began, over = time.process_time(), 60 * minutes

    def share() -> float:
        return min(1.0, (time.process_time() - began) / over)

    def rate_at(images_seen: int) -> float:
        return min(1, (images_seen + 1) / 2000) * math.cos(math.pi / 2 * share()) ** 2

    states = train(
        pieces.objective,
        lambda which: (pieces.stream(which).x, None),
        pieces.optimizer,
        pieces.averages,
        dataclasses.replace(pieces.recipe, rate=rate_at),
        accelerator=accelerator_for("fp32", "cpu"),
        images=10**9,
        stop=lambda: share() >= 1,
    )
    seen = [state.images_seen for state in states][-1]
    return pieces.averages[0].module, seen


def main() -> None:
    parser = argparse.ArgumentParser(description="AdamW and Muon on the photograph U-Net.")
    parser.add_argument("photos", type=Path)
    parser.add_argument("kodak", type=Path)
    parser.add_argument("--minutes", type=float, default=5.0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    clean, rows = pictures(options.kodak, 256, 8), []
    for name, rate in CASES:
        prior, seen = trained(name, rate, options.photos, options.minutes)
        rows.append({"optimizer": name, "rate": rate, "images": seen, "psnr": round(score(prior, clean), 2)})
        print(rows[-1], flush=True)
    path = Path(__file__).parent / "results" / "optimizers.json"
    path.write_text(json.dumps({"minutes": options.minutes, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
