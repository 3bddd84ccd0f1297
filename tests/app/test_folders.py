"""Where results go, and what must not be lost there."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.pictures import photograph
from undiffuse.app import outputs
from undiffuse.core.images import read, write


def shell(*arguments: object, **options: object) -> subprocess.Popen[str]:
    """The command line in a process of its own."""
    command = [sys.executable, "-m", "undiffuse", *map(str, arguments)]
    pipes = {"stderr": subprocess.PIPE, "stdout": subprocess.PIPE}
    return subprocess.Popen(command, text=True, **pipes, preexec_fn=interruptible, **options)


def interruptible() -> None:
    """A shell's background job ignores Ctrl-C, and so would what it starts."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.parametrize(
    ("role", "name"),
    [
        ("image", "report.html"),
        ("image", "metrics.csv"),
        ("reference", "bad_original.png"),
        ("mask", "bad_q50.png"),
    ],
)
def test_an_input_is_never_replaced(undiffuse, photo, tmp_path, role, name):
    if role == "mask":  # white pixels are kept, and a photograph need not have any
        write((photograph(48, 64) > 0).float() * 2 - 1, photo)
    picture = photo.read_bytes()
    for path in ("bad.png", name):
        (tmp_path / path).write_bytes(picture)
    arguments = {
        "image": [tmp_path / name, "--degrade", "sr4"],
        "reference": [
            tmp_path / "bad.png",
            "--measured",
            "--degrade",
            "deno",
            "--reference",
            tmp_path / name,
        ],
        "mask": [tmp_path / "bad.png", "--degrade", f"inp:mask={tmp_path / name}"],
    }[role]
    before = sorted(tmp_path.iterdir())
    done = undiffuse("restore", *arguments, "--out", tmp_path)
    assert done.code == 2 and "would replace" in done.err and done.err.count("\n") == 1
    assert (tmp_path / name).read_bytes() == picture and sorted(tmp_path.iterdir()) == before


def test_results_beside_the_picture(undiffuse, photo):
    """A name that ends like a result's is as good as any other."""
    picture = photo.rename(photo.with_name("my_restored.png"))
    assert undiffuse("restore", picture, "--degrade", "sr4", "--out", picture.parent).code == 0
    assert (picture.parent / "my_restored_restored.png").exists()


def test_a_table_of_another_kind_is_kept(undiffuse, photo, tmp_path):
    mine = tmp_path / "out" / "metrics.csv"
    mine.parent.mkdir()
    for content in (b"day,weight\n1,70\n", b"\xff\xfe\x00 no text"):
        mine.write_bytes(content)
        done = undiffuse("restore", photo, "--degrade", "sr4", "--out", mine.parent)
        assert done.code == 2 and "metrics.csv" in done.err and done.err.count("\n") == 1
        assert mine.read_bytes() == content and list(mine.parent.iterdir()) == [mine]


def test_each_noise_level_has_its_row(undiffuse, photo, tmp_path):
    for noise in (0.1, 0.2, 0.1):
        done = undiffuse("restore", photo, "--degrade", "deno", "--noise", noise, "--out", tmp_path / "o")
        assert done.code == 0
    rows = list(csv.DictReader((tmp_path / "o/metrics.csv").open()))
    assert [row["noise"] for row in rows] == ["0.2", "0.1"]


def test_pictures_of_one_name_do_not_replace_each_others_results(undiffuse, photo, tmp_path, monkeypatch):
    """Other endings, or other folders; the same picture may be restored again, under its path or another."""
    out, other = tmp_path / "o", tmp_path / "other"
    other.mkdir()
    for path in (photo.with_suffix(".jpg"), other / photo.name):
        write(photograph(48, 64).flip(2), path)
    given = ["--degrade", "sr2", "--prior", "photo-gaussian", "--out", out]
    for kinds in ([], ["--save", "restored"]):
        assert undiffuse("restore", photo, *given, *kinds).code == 0
        before = {path: path.read_bytes() for path in out.iterdir()}
        refused = [photo.with_suffix(".jpg"), *([other / photo.name] if not kinds else [])]
        for path in refused:
            done = undiffuse("restore", path, *given, *kinds)
            assert done.code == 2 and f"which those of '{path}' would replace" in done.err
            assert done.err.count("\n") == 1
        assert {path: path.read_bytes() for path in out.iterdir()} == before
        monkeypatch.chdir(photo.parent)
        assert undiffuse("restore", photo.name, *given, *kinds).code == 0
        for path in out.iterdir():
            path.unlink()


def test_a_file_that_only_has_the_name_of_a_record_is_kept(undiffuse, photo, tmp_path):
    mine = tmp_path / "photo.json"
    for text in ("{}", "[1]", "no json"):
        mine.write_text(text)
        done = undiffuse("restore", photo, "--degrade", "sr4", "--out", tmp_path)
        assert done.code == 2 and "photo.json' is no record" in done.err and mine.read_text() == text


def test_a_row_without_the_pictures_ending_is_replaced(undiffuse, photo, tmp_path):
    """As an earlier version wrote them."""
    given = ["restore", photo, "--degrade", "deno", "--noise", 0.1, "--out", tmp_path / "o"]
    assert undiffuse(*given).code == 0
    table = tmp_path / "o/metrics.csv"
    table.write_text(table.read_text().replace("photo.png", "photo"))
    assert undiffuse(*given).code == 0
    assert [row["image"] for row in csv.DictReader(table.open())] == ["photo.png"]


@pytest.mark.parametrize("kind", ["link", "nested"])
def test_folders_that_can_be(undiffuse, photo, tmp_path, kind):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    out = tmp_path / {"link": "link", "nested": "a/b c/d"}[kind]
    assert undiffuse("restore", photo, "--degrade", "sr4", "--out", out).code == 0
    assert (out / "photo_restored.png").exists()


def test_folders_that_cannot_be(undiffuse, photo, tmp_path):
    (tmp_path / "nowhere").symlink_to("missing")
    for out in (tmp_path / "nowhere", photo, photo / "below"):
        for command in (["restore", photo, "--degrade", "sr4"], ["demo"]):
            done = undiffuse(*command, "--out", out)
            assert done.code == 2 and done.err.startswith("error: cannot write") and done.err.count("\n") == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_the_right_to_write(undiffuse, photo, tmp_path):
    (tmp_path / "locked").mkdir(mode=0o555)
    done = undiffuse("restore", photo, "--degrade", "sr4", "--out", tmp_path / "locked/new")
    assert done.code == 2 and "no right to write" in done.err


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
def test_pictures_of_few_bits(undiffuse, tmp_path, depth):
    """Results of a picture of 16 levels cannot be stored in 16 levels: no format has them."""
    values = np.random.default_rng(0).integers(0, 2**depth, (24, 32), dtype=np.uint8)
    if depth == 1:
        Image.fromarray(values > 0).save(tmp_path / "few.png")
    else:
        Image.fromarray(values).save(tmp_path / "few.png", bits=depth)
    done = undiffuse(
        "restore", tmp_path / "few.png", "--degrade", "deno", "--noise", 0.1, "--out", tmp_path / "o"
    )
    assert done.code == 0 and read(tmp_path / "o/few_restored.png").levels == 255


def test_measurements_in_one_row_are_stored_and_read(undiffuse, photo, tmp_path):
    first = undiffuse("restore", photo, "--degrade", "ddrm_inp", "--out", tmp_path / "a")
    assert first.code == 0
    again = undiffuse(
        "restore", tmp_path / "a/photo_y.npy", "--measured", "--degrade", "ddrm_inp", "--noise", 0,
        "--size", "3x48x64", "--out", tmp_path / "b",
    )  # fmt: skip
    assert again.code == 0
    a, b = read(tmp_path / "a/photo_restored.png"), read(tmp_path / "b/photo_y_restored.png")
    assert (a.pixels - b.pixels).abs().max() <= 2 / 255 + 1e-6


def test_a_perfect_result_is_valid_json(undiffuse, photo, tmp_path):
    Image.new("L", (64, 48), 255).save(tmp_path / "all.png")
    out = tmp_path / "o"
    assert undiffuse("restore", photo, "--degrade", f"inp:mask={tmp_path}/all.png", "--out", out).code == 0

    def refuse(word: str):
        raise AssertionError(word)

    record = json.loads((out / "photo.json").read_text(), parse_constant=refuse)
    assert record["metrics"]["psnr"] is None


def test_hostile_names_are_text_in_the_report(undiffuse, photo, tmp_path):
    picture = photo.rename(photo.with_name("<img src=x onerror=alert(1)>&\"'.png"))
    assert undiffuse("restore", picture, "--degrade", "sr4", "--out", tmp_path / "o").code == 0
    page = (tmp_path / "o/report.html").read_text()
    assert "<img src=x" not in page and "&lt;img src=x" in page


def test_two_at_once_in_one_folder(photo, tmp_path):
    runs = [
        shell("restore", photo, "--degrade", degrade, "--out", tmp_path / "o")
        for degrade in ("sr2", "sr4", "deno")
    ]
    assert [run.wait() for run in runs] == [0, 0, 0]
    rows = list(csv.DictReader((tmp_path / "o/metrics.csv").open()))
    assert sorted(row["degrade"] for row in rows) == ["deno", "sr2", "sr4"]


def test_an_interrupt_leaves_nothing(tmp_path: Path):
    write(photograph(160, 200), tmp_path / "p.png")
    run = shell(
        "restore", tmp_path / "p.png", "--degrade", "sr2", "--algorithm", "ddrm", "--steps", 100_000,
        "--out", tmp_path / "o",
    )  # fmt: skip
    assert run.stderr is not None
    assert "ddrm" in run.stderr.readline()  # it has begun
    time.sleep(0.5)
    run.send_signal(signal.SIGINT)
    assert run.wait(30) == 130
    assert run.stderr.read() == "error: interrupted; files already written are complete\n"
    assert not (tmp_path / "o").exists()


def on_a_terminal(*arguments: object) -> str:
    """What the command line writes to a terminal, which is not what it writes to a pipe."""
    pty = pytest.importorskip("pty")
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ |= {"TERM": "xterm", "COLUMNS": "120"}
        os.execv(sys.executable, [sys.executable, "-m", "undiffuse", *map(str, arguments)])
    said = b""
    while True:
        try:
            part = os.read(terminal, 4096)
        except OSError:  # Linux's way to say that it is closed
            part = b""
        if not part:
            break
        said += part
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    return said.decode()


def test_a_bar_for_long_runs_only(tmp_path: Path):
    write(photograph(24, 24), tmp_path / "s.png")
    write(photograph(160, 200), tmp_path / "p.png")
    options = ["--degrade", "sr2", "--algorithm", "ddrm", "--out", tmp_path / "o"]
    short = on_a_terminal("restore", tmp_path / "s.png", *options, "--steps", 2, "--prior", "photo-gaussian")
    assert "\x1b" not in short and "━" not in short
    long = on_a_terminal("restore", tmp_path / "p.png", *options, "--steps", 200)
    assert "/200" in long and "left" in long
    assert all(
        "━" not in line.split("\x1b[2K")[-1]
        for line in long.split("\r\n")
        if "wrote" in line or "PSNR" in line
    )


@pytest.mark.parametrize("block", [1, 3, 2**16])
@pytest.mark.parametrize(
    ("before", "kept"), [(None, b""), (b"", b""), (b"one\n", b"one\n"), (b"one\ntw", b"one\n"), (b"cut", b"")]
)
def test_a_line_that_a_kill_cut_off_goes_with_the_next(tmp_path, monkeypatch, block, before, kept):
    monkeypatch.setattr(outputs, "BLOCK", block)
    path = tmp_path / "lines"
    if before is not None:
        path.write_bytes(before)
    assert outputs.append_lines(path, b"a\nb\n") == len(kept)
    assert path.read_bytes() == kept + b"a\nb\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no full device")
def test_a_full_disk_is_named(tmp_path):
    with pytest.raises(ValueError, match="/dev/full' cannot be written .*; free some space"):
        outputs.append_lines(Path("/dev/full"), b"a\n")
