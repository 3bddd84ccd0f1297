"""Are samples of a class-conditional prior of Fashion-MNIST recognised as the class that was asked for?

    undiffuse train configs/train/fashion_mnist.yaml --set data.path=FOLDER
    python benchmarks/fashion_mnist.py runs/fashion_mnist --data FOLDER [--scale 1 1.5 2 3] [--count 100]

FOLDER holds the four idx files (Debian: dataset-fashion-mnist). A small convolutional classifier, the recogniser, is
trained on the 60 000 real training images and has to be right on more than 90 % of the real test images. Then it is
shown `count` samples of every class. Guidance may not hide a collapse: the samples of a class have to lie as far apart
as real test images of that class do, in the recogniser's features and in pixels. Writes
benchmarks/results/fashion_mnist.json, and beside it the table that it prints (.md).
"""

import argparse
import json
import math
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from torch import Tensor, nn

from undiffuse.checkpoints import Checkpoint, load
from undiffuse.core.grids import karras
from undiffuse.core.images import from_unit
from undiffuse.core.loop import last, sample
from undiffuse.core.noise import SeededNoise, image_seeds
from undiffuse.data.idx import read
from undiffuse.priors.guidance import cfg
from undiffuse.samplers import dpmpp_2m

NAMES = ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
DATA = "/usr/share/datasets/fashion-mnist"  # where Debian's package puts it
NEEDED = 0.90  # of the real test images, for the recogniser to be believed
LOWEST = 0.01  # sigma of the last call: less than one of the 255 grey levels


@dataclass(frozen=True, slots=True)
class Labelled:
    """x (N, 1, 28, 28) in [-1, 1], labels (N,)."""

    x: Tensor
    labels: Tensor


class Recogniser(nn.Module):
    """Four convolutions; `features` is what its last layer sees, (B, 96)."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            *convolution(1, 24), nn.MaxPool2d(2), *convolution(24, 48), *convolution(48, 48), nn.MaxPool2d(2),
            *convolution(48, 64), nn.Flatten(), nn.Dropout(0.3), nn.Linear(64 * 7 * 7, 96), nn.ReLU(),
        )  # fmt: skip
        self.last = nn.Linear(96, len(NAMES))

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.features(x))


def convolution(width_in: int, width: int) -> list[nn.Module]:
    return [nn.Conv2d(width_in, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]


def real(folder: Path, split: str) -> Labelled:
    """One of the two published parts."""
    found = [next(folder.glob(f"{split}-{part}*")) for part in ("images", "labels")]
    pixels = torch.tensor(read(found[0], dims=3))[:, None].float() / 255
    return Labelled(from_unit(pixels), torch.tensor(read(found[1], dims=1)).long())


def recogniser(data: Labelled, epochs: int) -> Recogniser:
    """Trained on real images only, with AdamW and a rate that falls to zero; fixed seed."""
    torch.manual_seed(1)
    net, batch = Recogniser(), 128
    steps = epochs * (len(data.x) // batch)
    optimizer = torch.optim.AdamW(net.parameters(), lr=4e-3, weight_decay=0.02)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps)
    for _ in range(epochs):
        for rows in torch.randperm(len(data.x)).split(batch)[: len(data.x) // batch]:
            loss = nn.functional.cross_entropy(net(data.x[rows]), data.labels[rows], label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            rate.step()
    return net.eval()


@torch.no_grad()
def look(net: Recogniser, x: Tensor) -> tuple[Tensor, Tensor]:
    """Features (N, 96) and the recognised classes (N,)."""
    features = torch.cat([net.features(part) for part in x.split(500)])
    return features, net.last(features).argmax(1)


@torch.no_grad()
def drawn(checkpoint: Checkpoint, count: int, steps: int, scale: float, seed: int) -> Labelled:
    """`count` samples of every class, in the levels that eight bits keep."""
    prior, parts = checkpoint.prior, []
    labels = torch.arange(len(NAMES)).repeat_interleave(count)
    sigmas = karras(steps, sigma_min=max(LOWEST, prior.sigma_range[0]), sigma_max=prior.sigma_range[1])
    for rows in torch.arange(len(labels)).split(100):
        noise = SeededNoise(image_seeds(seed, [f"sample/{i}" for i in rows.tolist()]))
        x = noise(torch.empty(len(rows), 1, 28, 28)) * sigmas[0].item()
        given = prior.given(labels[rows])
        denoise = given if scale == 1 else cfg(given, prior.given(), scale=scale)
        parts.append(last(sample(dpmpp_2m(denoise, noise), x, sigmas)).x)
    return Labelled(((torch.cat(parts).clamp(-1, 1) + 1) * 127.5).round() / 127.5 - 1, labels)


def apart(rows: Tensor) -> float:
    """Mean distance between two of them; (N, D)."""
    return float(torch.pdist(rows.flatten(1)).mean())


def wilson(hits: int, count: int, z: float = 1.96) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson 1927)."""
    share, room = hits / count, z * z / count
    middle, half = share + room / 2, z * math.sqrt(share * (1 - share) / count + room / (4 * count))
    return (middle - half) / (1 + room), (middle + half) / (1 + room)


def measured(net: Recogniser, samples: Labelled, test: Labelled) -> dict[str, Any]:
    """Shares recognised and spreads, over all and by class; `real` is the same of the test images."""
    features, found = look(net, samples.x)
    real_features, real_found = look(net, test.x)
    rows: list[dict[str, Any]] = []
    for label, name in enumerate(NAMES):
        mine, theirs = samples.labels == label, test.labels == label
        hits, count = int((found[mine] == label).sum()), int(mine.sum())
        rows.append(
            {
                "class": name,
                "recognised": hits / count,
                "interval": [round(end, 4) for end in wilson(hits, count)],
                "real": round(float((real_found[theirs] == label).double().mean()), 4),
                "spread": round(apart(features[mine]) / apart(real_features[theirs]), 3),
                "pixel_spread": round(apart(samples.x[mine]) / apart(test.x[theirs]), 3),
            }
        )
    hits = int((found == samples.labels).sum())
    return {
        "recognised": hits / len(found),
        "interval": [round(end, 4) for end in wilson(hits, len(found))],
        "spread": round(sum(row["spread"] for row in rows) / len(rows), 3),
        "pixel_spread": round(sum(row["pixel_spread"] for row in rows) / len(rows), 3),
        "classes": rows,
    }


def line(name: str, row: dict[str, Any], real_share: float) -> str:
    low, high = row["interval"]
    shares = f"{row['recognised']:.3f} | {low:.3f} to {high:.3f} | {real_share:.3f}"
    return f"| {name} | {shares} | {row['spread']:.2f} | {row['pixel_spread']:.2f} |"


def table(first: str, lines: list[str]) -> str:
    head = f"| {first} | recognised as asked | 95 % | real test images | spread, features | spread, pixels |"
    return "\n".join([head, "|---" * 6 + "|", *lines])


def report(result: dict[str, Any]) -> str:
    """All scales in one table, and the classes of each in one more."""
    setup, on_test = result["setup"], result["recogniser_on_test"]
    said = f"{setup['count']} samples a class, {setup['steps']} steps of DPM-Solver++(2M); the prior after "
    said += f"{result['prior'].get('images_seen', 0):,} images. Spread: the mean distance of two samples of a class "
    said += "over that of two real test images of it."
    scales = result["scales"]
    parts = [said, table("guidance", [line(f"{row['scale']:g}", row, on_test) for row in scales])]
    for row in scales:
        lines = [line(part["class"], part, part["real"]) for part in row["classes"]]
        parts += [f"Guidance {row['scale']:g}:", table("class", lines)]
    return "\n\n".join(parts) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, help="the folder of a run, or its .safetensors")
    parser.add_argument("--data", type=Path, default=Path(DATA), help="folder of the four idx files")
    parser.add_argument("--count", type=int, default=100, help="samples of each class")
    parser.add_argument("--steps", type=int, default=24, help="of DPM-Solver++(2M)")
    parser.add_argument(
        "--scale", type=float, nargs="+", default=[1.0, 1.5, 2.0, 3.0], help="of guidance; 1 = none"
    )
    parser.add_argument("--epochs", type=int, default=4, help="of the recogniser")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--output", type=Path, default=Path(__file__).parent / "results" / "fashion_mnist.json"
    )
    given = parser.parse_args()
    checkpoint = load(given.run)
    if checkpoint.prior.num_classes != len(NAMES) or checkpoint.config.size != (28, 28):
        raise SystemExit(f"'{given.run}' is no class-conditional prior of Fashion-MNIST at 28 x 28")
    test, began = real(given.data, "t10k"), time.perf_counter()
    net = recogniser(real(given.data, "train"), given.epochs)
    right = float((look(net, test.x)[1] == test.labels).double().mean())
    print(f"recogniser: {right:.4f} of the real test images, {time.perf_counter() - began:.0f} s", flush=True)
    if right <= NEEDED:
        raise SystemExit(f"the recogniser needs more than {NEEDED}; give it more --epochs")
    setup = {"steps": given.steps, "count": given.count, "threads": torch.get_num_threads()}
    result: dict[str, Any] = {
        "setup": {**setup, "torch": torch.__version__},
        "prior": dict(checkpoint.facts),
        "recogniser_on_test": round(right, 4),
        "scales": [],
    }
    for scale in given.scale:
        began = time.perf_counter()
        samples = drawn(checkpoint, given.count, given.steps, scale, given.seed)
        took = round(time.perf_counter() - began, 1)
        result["scales"].append({"scale": scale, "sampling_seconds": took, **measured(net, samples, test)})
    given.output.parent.mkdir(parents=True, exist_ok=True)
    given.output.write_text(json.dumps(result, indent=1) + "\n")
    text = report(result)
    given.output.with_suffix(".md").write_text(f"# Fashion-MNIST: `benchmarks/fashion_mnist.py`\n\n{text}")
    print(text)


if __name__ == "__main__":
    main()
