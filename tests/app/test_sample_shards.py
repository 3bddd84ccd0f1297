"""`undiffuse sample` in several processes: the same pictures as one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.small import PHOTO, stored
from undiffuse.app.sample.folder import NOTHING, gathered, write_share
from undiffuse.app.sample.shards import Shard
from undiffuse.core.images import read

ROOT = Path(__file__).parents[2]
LAUNCHER = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "undiffuse"]


def test_two_processes_draw_what_one_does(undiffuse, tmp_path):
    """Also the strip, of pictures that the first process draws. Batches of other members round in other ways."""
    file = stored(tmp_path / "run" / "prior.safetensors", PHOTO)
    arguments = [
        "sample",
        str(file),
        "-n",
        "12",
        "--steps",
        "3",
        "--npz",
        "--path",
        "strip",
        "--device",
        "cpu",
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{ROOT / 'src'}"}
    out, alone = tmp_path / "two", tmp_path / "one"
    done = subprocess.run(
        [sys.executable, *LAUNCHER, *arguments, "--out", str(out)],
        env=environment, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("12 drawn") == 1 and done.stderr.count("2 processes") == 1
    assert undiffuse(*arguments, "--out", alone).code == 0
    names = sorted(path.name for path in out.iterdir())
    assert names == sorted(path.name for path in alone.iterdir())
    for i in range(12):
        pictures = [read(folder / f"{i:05}.png").pixels for folder in (out, alone)]
        assert (
            pictures[0] - pictures[1]
        ).abs().max() <= 2.001 / 255  # a level, where rounding falls the other way
    records = [json.loads((folder / "sample.json").read_text()) for folder in (out, alone)]
    for key in NOTHING:
        assert records[0]["values"][key] == pytest.approx(records[1]["values"][key], abs=1e-4)
    again = undiffuse(*arguments, "--out", out)
    assert again.code == 0 and "12 kept" in again.out


def test_shares_are_a_partition():
    members = list(range(3, 20))
    shares = [Shard(rank, 4).share(members) for rank in range(4)]
    assert sorted(sum(shares, [])) == members and {len(share) for share in shares} == {4, 5}


def test_counts_of_processes_that_were_stopped(tmp_path):
    write_share(tmp_path, 1, {"pictures": 2, "low": -1.5, "high": 0.5, "outside": 0.5})
    write_share(tmp_path, 12, NOTHING)
    own = {"pictures": 2, "low": -1.0, "high": 1.0, "outside": 0.0}
    assert gathered(tmp_path, own) == {"pictures": 4, "low": -1.5, "high": 1.0, "outside": 0.25}
    assert not list(tmp_path.iterdir())
    (tmp_path / "sample.3.json").write_text("[]")
    with pytest.raises(ValueError, match="no count of samples"):
        gathered(tmp_path, own)
