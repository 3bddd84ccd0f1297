"""One-shot denoising of photographs that no prior was trained on, beside BM3D, with the same noise.

    pip install bm3d==4.0.3        # non-commercial licence; without it only ours are measured
    python benchmarks/denoising.py FOLDER [--prior photo] [--crop 256] [--count 8]

FOLDER holds PNG pictures (the Kodak set). White noise of sigma 15, 25 and 50 of 255 is added to the top left crop of
the first `count`; nothing is clipped or rounded. BM3D is its authors' code for colour images (Dabov et al. 2007;
bm3d_rgb, profile 'np'), told the true sigma, as the prior is. Writes benchmarks/results/denoising.json and .md.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from undiffuse.app.priors import open_prior
from undiffuse.core.images import read
from undiffuse.metrics import psnr

LEVELS = (15, 25, 50)  # of 255
RESULTS = Path(__file__).parent / "results"
Denoiser = Callable[[Tensor, float], Tensor]  # (1, 3, H, W) in [-1, 1], sigma in the same scale


def prior_named(name: str) -> Denoiser:
    prior = open_prior(name).denoise

    @torch.no_grad()
    def denoise(y: Tensor, sigma: float) -> Tensor:
        return prior(y, torch.tensor(sigma))

    return denoise


def bm3d_or_none() -> Denoiser | None:
    try:
        import bm3d
    except ImportError:
        return None

    def denoise(y: Tensor, sigma: float) -> Tensor:
        picture = (y[0].permute(1, 2, 0).double().numpy() + 1) / 2
        return torch.from_numpy(bm3d.bm3d_rgb(picture, sigma / 2)).permute(2, 0, 1)[None].float() * 2 - 1

    return denoise


def pictures(folder: Path, crop: int, count: int) -> list[Tensor]:
    paths = sorted(folder.glob("*.png"))[:count]
    if not paths:
        raise SystemExit(f"no PNG pictures in '{folder}'")
    return [read(path).pixels[None, :3, :crop, :crop] for path in paths]


def main() -> None:
    parser = argparse.ArgumentParser(description="One-shot denoising beside BM3D.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--prior", action="append", help="name, file or run; several may be given [photo]")
    parser.add_argument("--crop", type=int, default=256)
    parser.add_argument("--count", type=int, default=8)
    options = parser.parse_args()
    methods: dict[str, Denoiser | None] = {
        name: prior_named(name) for name in [*(options.prior or ["photo"]), "photo-gaussian"]
    }
    methods["BM3D"] = bm3d_or_none()
    clean = pictures(options.folder, options.crop, options.count)
    rows: list[dict[str, float | str]] = []
    for name, denoise in methods.items():
        if denoise is None:
            print(f"{name}: not installed")
            continue
        row: dict[str, float | str] = {"method": name}
        for level in LEVELS:
            sigma, began, found = 2 * level / 255, time.process_time(), []
            for number, x in enumerate(clean):
                generator = torch.Generator().manual_seed(1000 * level + number)
                y = x + sigma * torch.randn(x.shape, generator=generator)
                found.append(psnr(denoise(y, sigma).clamp(-1, 1), x).item())
            row[f"sigma {level}"] = round(statistics.mean(found), 2)
            row["CPU seconds a picture"] = round((time.process_time() - began) / len(clean), 2)
        rows.append(row)
        print(row, flush=True)
    report(rows, len(clean), options.crop)


def report(rows: list[dict[str, float | str]], count: int, crop: int) -> None:
    columns = list(rows[0])
    lines = [f"Mean PSNR in dB of {count} crops of {crop} x {crop}; sigma of 255.", ""]
    lines += ["| " + " | ".join(columns) + " |", "|---" * len(columns) + "|"]
    lines += ["| " + " | ".join(str(row[name]) for name in columns) + " |" for row in rows]
    (RESULTS / "denoising.md").write_text("\n".join(lines) + "\n")
    (RESULTS / "denoising.json").write_text(
        json.dumps({"crop": crop, "count": count, "rows": rows}, indent=1) + "\n"
    )


if __name__ == "__main__":
    main()
