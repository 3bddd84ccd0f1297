"""Numbers of LPIPS when a command is given again with other weights: told anew, never mixed."""

import csv
import json

import pytest
from safetensors.torch import save_file

from tests.metrics.weights import filled
from tests.pictures import photograph
from undiffuse.core.images import write


@pytest.fixture
def weights(tmp_path):
    """Two files of weights that give different numbers."""
    state = filled("alex").state_dict()
    for name, scale in (("a", 1.0), ("b", 1.1)):
        save_file({key: value * scale for key, value in state.items()}, tmp_path / f"{name}.safetensors")
    return [tmp_path / f"{name}.safetensors" for name in "ab"]


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for n in range(2):
        write(photograph(96, 96).roll(9 * n, 2)[:, :48, :40], folder / f"{n}.png")
    return folder


def test_a_folder_is_told_anew(undiffuse, photos, weights, tmp_path):
    """Its file counts, not its name; without a reference there is no LPIPS that could be another."""
    out, (a, b) = tmp_path / "out", weights
    given = ["restore", photos, "--degrade", "sr2", "--prior", "photo-gaussian", "--out", out]

    def restored(*extra):
        done = undiffuse(*given, *extra)
        assert done.code == 0 and "2 restored" in done.out and "already" not in done.out
        return [json.loads(line).get("lpips") for line in (out / "manifest.jsonl").open()]

    assert restored() == [None, None]
    first = restored("--lpips", a)
    b.replace(a)
    assert None not in first and first != restored("--lpips", a)
    a.rename(b)
    assert "2 were there already" in undiffuse(*given, "--lpips", b).out
    bad = ["restore", photos, "--degrade", "deno", "--measured", "--noise", 0.05, "--out", tmp_path / "bad"]
    assert undiffuse(*bad, "--prior", "photo-gaussian").code == 0
    assert "2 were there already" in undiffuse(*bad, "--prior", "photo-gaussian", "--lpips", b).out


def test_a_benchmark_is_measured_anew(undiffuse, photos, weights, tmp_path):
    """Added, changed, and left out again, which is content with what is there."""
    given = [
        "bench",
        "--data",
        photos,
        "--tasks",
        "sr4",
        "--noise",
        0.05,
        "--baselines",
        "none",
        "--size",
        40,
    ]
    given += ["--prior", "photo-gaussian", "--calls", 2, "--out", tmp_path / "o"]

    def rows():
        return list(csv.DictReader((tmp_path / "o/bench.csv").open()))

    counts, (a, b) = [], weights
    for extra in ([], ["--lpips", a], ["--lpips", a], ["--lpips", b], []):
        assert (done := undiffuse(*given, "--algorithms", "ddrm", *extra)).code == 0
        counts.append(len(rows()))
        assert ("LPIPS" in done.out) == (counts[-1] > 2)
    assert counts == [2, 4, 4, 6, 6]
    lpips = [row["lpips"] for row in rows()]
    assert lpips[:2] == ["", ""] and "" not in lpips[2:] and lpips[2:4] != lpips[4:]
    one = undiffuse(*given, "--algorithms", "diffpir", "--lpips", a)  # ddrm's are of b, and left out
    told = one.out.replace(" +-", "+-").splitlines()
    lines = {line.split()[0]: line.split() for line in told if "@2 " in line}
    assert len(lines["diffpir@2"]) == len(lines["ddrm@2"]) + 1
    assert "LPIPS" not in undiffuse(*given, "--algorithms", "diffpir").out
