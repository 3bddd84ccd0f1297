"""How far `--noise auto` is off: estimated over true noise, on photographs with noise added.

    python benchmarks/noise_level.py FOLDER

Noise in units where white - black = 1. Writes benchmarks/results/noise_level.json: the worst and the median ratio.
"""

import json
import statistics
import sys
from pathlib import Path

import torch

from undiffuse.core.images import read
from undiffuse.restore import estimate_sigma, noise_level

LEVELS = (0.005, 0.01, 0.02, 0.05, 0.1)


def ratios(pictures: list[torch.Tensor], level: float) -> list[float]:
    generator = torch.Generator().manual_seed(0)
    noisy = (x + 2 * level * torch.randn(x.shape, generator=generator) for x in pictures)
    return [estimate_sigma(y) / (2 * level) for y in noisy]


def main() -> None:
    paths = sorted(Path(sys.argv[1]).glob("*.png"))
    pictures = [read(path).pixels for path in paths]
    rows: list[dict[str, float]] = []
    for share in (noise_level.SMOOTH, 1.0):
        noise_level.SMOOTH = share
        for level in LEVELS:
            found = ratios(pictures, level)
            row = {"patches": share, "noise": level, "median": statistics.median(found), "worst": max(found)}
            rows.append(
                {name: round(value, 3) for name, value in row.items()} | {"least": round(min(found), 3)}
            )
            print(rows[-1], flush=True)
    result = {"pictures": [path.name for path in paths], "rows": rows}
    (Path(__file__).parent / "results" / "noise_level.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
