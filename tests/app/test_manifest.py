"""The manifest of a folder: last lines count, places stay right, and a million pictures fit into memory."""

import json
import tracemalloc

import pytest

from tests.pictures import photograph
from undiffuse.app import measurement
from undiffuse.app.restore import run
from undiffuse.app.restore.manifest import Manifest
from undiffuse.config import RestoreConfig
from undiffuse.core.images import write


def line(name, **more):
    return {"image": name, "status": "done", **more}


def test_the_last_line_of_a_picture_counts_through_kills_and_tidying(tmp_path):
    manifest = Manifest(tmp_path)
    for name, number in (("\u00e9\u4e2d.png", 1), ("b.png", 2), ("\u00e9\u4e2d.png", 3)):
        manifest.add(line(name, number=number))
    with manifest.path.open("ab") as file:
        file.write(b'{"image": "c\xff')  # cut off by a kill
    again = Manifest(tmp_path)
    assert "c.png" not in again and again.line("\u00e9\u4e2d.png")["number"] == 3
    again.add(line("a.png", number=4))
    again.tidy()
    names = ["\u00e9\u4e2d.png", "none.png", "a.png", "b.png"]
    assert [found["number"] for found in again.of(names)] == [3, 4, 2]
    assert again.of(names)[1:][-1]["number"] == 2
    written = [json.loads(text)["image"] for text in again.path.read_text().splitlines()]
    assert written == ["a.png", "b.png", "\u00e9\u4e2d.png"]
    again.add(line("b.png", number=5))
    assert Manifest(tmp_path).line("b.png")["number"] == again.line("b.png")["number"] == 5


def test_another_file_of_its_name_is_refused(tmp_path):
    (tmp_path / "manifest.jsonl").write_text('["no", "manifest"]\n')
    with pytest.raises(ValueError, match="no manifest of undiffuse .*; choose another --out"):
        Manifest(tmp_path)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"verdict": ["consistent"]}, "expected a text"),
        ({"seconds": None}, "expected a number"),
        ({"draws": "one"}, "expected a number"),
        ({"psnr": "high"}, "expected a number or null"),
    ],
)
def test_a_value_of_another_type_is_refused_with_its_line(tmp_path, more, said):
    manifest = Manifest(tmp_path)
    manifest.add(line("a.png", verdict="consistent", seconds=1, draws=1, psnr=None))
    assert Manifest(tmp_path).line("a.png")["seconds"] == 1
    manifest.add(line("b.png", **more))
    name, value = next(iter(more.items()))
    with pytest.raises(ValueError) as error:
        Manifest(tmp_path)
    told = f"'{manifest.path}', line 2: {name} is {str(value)!r}; {said}; remove the line, "
    assert str(error.value).startswith(told)


def test_a_picture_takes_no_more_memory_than_its_name(tmp_path):
    """In all 2,000 lines of 2 kB; of each the name (some 60 bytes), a number (32), and both in a dict (40 to 100)."""
    count, told = 2000, "x" * 2000
    text = "".join(json.dumps(line(f"{n:06}.png", told=told)) + "\n" for n in range(count))
    (tmp_path / "manifest.jsonl").write_text(text)
    Manifest(tmp_path)  # what is imported and kept once
    tracemalloc.start()
    try:
        manifest = Manifest(tmp_path)
        rows = manifest.of(f"{n:06}.png" for n in range(count))
        held, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        manifest.tidy()
        assert sum(row["status"] == "done" for row in rows) == count
        peak = tracemalloc.get_traced_memory()[1] - held
    finally:
        tracemalloc.stop()
    assert held < 250 * count
    assert peak < 250 * count  # one line after another, written and read


def test_pictures_of_one_size_share_an_operator(tmp_path, monkeypatch):
    built, build = [], measurement.build
    monkeypatch.setattr(measurement, "build", lambda text, shape: built.append(shape) or build(text, shape))
    for n, height in enumerate((16, 24, 16, 24, 16)):
        folder = tmp_path / "in"
        folder.mkdir(exist_ok=True)
        write(photograph(height, 16), folder / f"{n}.png")
    config = RestoreConfig(
        image=tmp_path / "in", out=tmp_path / "out", degrade="sr2", noise=0.05, prior="photo-gaussian"
    )
    *_, done = run(config)
    assert done.result.done == 5
    assert sorted(built) == [(3, 16, 16), (3, 24, 16)]
