"""A run of seconds: its data, its configuration, and ways to start it."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import yaml

from undiffuse.app.train import run
from undiffuse.config.train import read_train

ROOT = Path(__file__).parents[2]
CONFIG = {
    "name": "tiny",
    "data": {
        "source": "npz:labels=labels", "path": "data.npz", "size": 8, "crop": "none", "validation": 0.2, "workers": 1,
    },
    "network": {"name": "photo", "widths": [8, 8], "blocks": 1, "embedding": 16},
    "objective": {"prediction": "edm", "log_sigma": [-1.2, 1.2]},
    "conditioning": {"classes": 2},
    "optimizer": {"name": "muon", "rate": 3e-3, "decay": "cosine", "warmup": 2},
    "train": {
        "steps": 12, "batch": 8, "ema": [40, 400], "power_ema": [0.1], "log_every": 2, "check_every": 6,
        "pictures": 4, "save_minutes": 1e-6, "keep_every": 6,
    },
}  # fmt: skip


def prepare():
    """Data and a configuration, in the current folder."""
    generator = np.random.default_rng(0)
    labels = np.arange(60) % 2
    images = (80 + 90 * labels[:, None, None, None] + generator.normal(0, 20, (60, 8, 8, 3))).clip(0, 255)
    np.savez("data.npz", images=images.astype(np.uint8), labels=labels)
    write(CONFIG)


def write(tree, name="tiny.yaml"):
    Path(name).write_text(yaml.safe_dump(tree))


def go(*settings, out="run", **options):
    return list(run(read_train(Path("tiny.yaml"), settings), Path(out), **options))


def rows(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def command(*arguments, processes=1, **options):
    launch = (
        []
        if processes == 1
        else ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "src")}
    return subprocess.Popen(
        [sys.executable, *launch, "-m", "undiffuse", "train", "tiny.yaml", "--out", "run",
            "--device", "cpu", *arguments],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options,
    )  # fmt: skip
