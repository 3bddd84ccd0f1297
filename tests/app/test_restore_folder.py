"""`undiffuse restore FOLDER`: resumable, the same pixels whatever the order, batch or machine."""

import csv
import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from PIL import Image

from tests.pictures import photograph
from undiffuse.app.restore import solve as solving
from undiffuse.app.restore.folder import pictures
from undiffuse.core.images import read, write
from undiffuse.priors import StationaryGaussian

OPTIONS = (
    "--degrade",
    "sr2",
    "--noise",
    0.05,
    "--prior",
    "photo-gaussian",
    "--algorithm",
    "ddrm",
    "--steps",
    4,
)


@pytest.fixture
def scans(tmp_path):
    """Five good pictures of three sizes, in two folders, with names that are hard to handle."""
    folder = tmp_path / "scans"
    (folder / "older ones").mkdir(parents=True)
    big = photograph(64, 72)
    sizes = {"a b.png": (32, 40), "\u00e9\u4e2d.png": (32, 40), "-v.png": (40, 32), "z.jpg": (32, 40)}
    for name, (h, w) in {**sizes, "older ones/a b.png": (36, 36)}.items():
        write(big[:, :h, :w], folder / name)
    return folder


def lines(out):
    return {
        line["image"]: line for line in map(json.loads, (out / "manifest.jsonl").read_text().splitlines())
    }


def pixels(out):
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in out.rglob("*_restored.png")}


def test_a_folder_in_a_folder_out(undiffuse, scans, tmp_path):
    out = tmp_path / "restored"
    done = undiffuse("restore", scans, *OPTIONS, "--out", out)
    assert done.code == 0 and "5 restored" in done.out
    wanted = {"a b", "\u00e9\u4e2d", "-v", "older ones/a b", "z"}
    assert set(pixels(out)) == {f"{name}_restored.png" for name in wanted}
    found = lines(out)
    for name, line in found.items():
        assert line["status"] == "done" and line["files"] == [f"{name.rsplit('.', 1)[0]}_restored.png"]
        assert line["psnr"] > 20 and line["seconds"] > 0 and line["calls"] == 4
        assert len(line["operator"]) == 16 and line["versions"]["torch"] == torch.__version__
    assert (
        found["a b.png"]["image_seed"] == found["older ones/a b.png"]["image_seed"]
    )  # the name's, not the path's
    rows = list(csv.DictReader((out / "metrics.csv").open(encoding="utf-8")))
    assert [row["image"] for row in rows] == sorted(found)
    assert float(rows[0]["psnr"]) == pytest.approx(found[rows[0]["image"]]["psnr"], abs=1e-4)
    assert "older ones/a b.png" in (out / "report.html").read_text()
    again = undiffuse("restore", scans, *OPTIONS, "--out", out)
    assert again.code == 0 and "0 restored, 5 were there already" in again.out


def test_alone_or_in_a_folder_or_in_batches(undiffuse, scans, tmp_path):
    assert undiffuse("restore", scans, *OPTIONS, "--out", tmp_path / "a").code == 0
    assert undiffuse("restore", scans, *OPTIONS, "--batch", 3, "--out", tmp_path / "b").code == 0
    assert pixels(tmp_path / "a") == pixels(tmp_path / "b")
    assert undiffuse("restore", scans / "z.jpg", *OPTIONS, "--out", tmp_path / "c").code == 0
    assert pixels(tmp_path / "c")["z_restored.png"] == pixels(tmp_path / "a")["z_restored.png"]


@pytest.mark.parametrize("files", [None, 3, [3]], ids=str)
def test_a_line_of_another_hand_is_done_again(undiffuse, tmp_path, files):
    (tmp_path / "in").mkdir()
    write(photograph(16, 16), tmp_path / "in/a.png")
    out = tmp_path / "out"
    given = ["restore", tmp_path / "in", "--degrade", "sr2", "--prior", "photo-gaussian", "--out", out]
    assert undiffuse(*given).code == 0
    line = lines(out)["a.png"]
    (out / "manifest.jsonl").write_text(json.dumps({**line, "files": files}) + "\n")
    again = undiffuse(*given)
    assert again.code == 0 and "1 restored" in again.out
    assert lines(out)["a.png"]["files"] == line["files"]


def test_a_pipe_is_left_out(scans, tmp_path):
    """Opening one to read it would wait for ever."""
    os.mkfifo(scans / "pipe.png")
    names, left = pictures(scans, tmp_path / "out")
    assert "pipe.png" not in names and left == ("1 pipe(s) or device(s) left out",)


def test_what_is_bad_is_passed_over(undiffuse, scans, tmp_path):
    (scans / "empty.png").write_bytes(b"")
    (scans / "cut.png").write_bytes((scans / "a b.png").read_bytes()[:300])
    (scans / "notes.txt").write_text("not a picture")
    (scans / ".hidden.png").write_bytes((scans / "a b.png").read_bytes())
    (tmp_path / "secret.png").write_bytes((scans / "a b.png").read_bytes())
    (scans / "link.png").symlink_to(tmp_path / "secret.png")
    (scans / "linked").symlink_to(tmp_path)
    (scans / "z.png").write_bytes((scans / "a b.png").read_bytes())  # would share the results of z.jpg
    Image.new("CMYK", (40, 32), (90, 40, 10, 20)).save(scans / "print.jpg")
    frames = [Image.new("RGB", (40, 32), (n, 90, 20)) for n in (10, 200)]
    frames[0].save(scans / "moving.webp", save_all=True, append_images=frames[1:], lossless=True)
    (scans / "-v.png").chmod(0o444)
    out = tmp_path / "out"
    done = undiffuse("restore", scans, *OPTIONS, "--out", out)
    assert done.code == 2 and "3 of 10 pictures passed over: cut.png and 2 more" in done.err.splitlines()[-1]
    assert "link(s) that lead out of the folder left out" in done.err and "1 linked folder(s)" in done.err
    status = {name: line["status"] for name, line in lines(out).items()}
    assert {name for name, word in status.items() if word == "failed"} == {"cut.png", "empty.png", "z.png"}
    assert "z.jpg" in lines(out)["z.png"]["error"] and "CMYK" in lines(out)["print.jpg"]["notes"][0]
    assert len(lines(out)["moving.webp"]["notes"]) == 1
    assert len(list(csv.DictReader((out / "metrics.csv").open()))) == 7
    (scans / "cut.png").write_bytes((scans / "a b.png").read_bytes())  # mended: only this one is tried anew
    (scans / "empty.png").unlink()
    (scans / "z.png").unlink()
    mended = undiffuse("restore", scans, *OPTIONS, "--out", out)
    assert mended.code == 0 and "1 restored, 7 were there already" in mended.out


def test_what_changed_is_done_again(undiffuse, scans, tmp_path):
    out = tmp_path / "out"
    assert undiffuse("restore", scans, *OPTIONS, "--out", out).code == 0
    before = pixels(out)
    (out / "z_restored.png").unlink()
    write(photograph(40, 32).flip(2), scans / "-v.png")
    os.utime(scans / "a b.png")  # touched, not changed
    with (out / "manifest.jsonl").open("a") as file:
        file.write('{"image": "a b.p')  # cut off by a kill
    done = undiffuse("restore", scans, *OPTIONS, "--out", out)
    assert done.code == 0 and "2 restored, 3 were there already" in done.out
    after = pixels(out)
    assert {name for name in before if before[name] != after[name]} == {"-v_restored.png"}
    other = undiffuse("restore", scans, *OPTIONS, "--seed", 1, "--out", out)
    assert "5 restored" in other.out and len(lines(out)) == 5


def test_killed_and_resumed(scans, tmp_path):
    """SIGKILL after the first picture, then the same command: as if nothing had happened."""
    arguments = [sys.executable, "-m", "undiffuse", "restore", str(scans), *map(str, OPTIONS)]
    whole = subprocess.run([*arguments, "--out", str(tmp_path / "whole")], capture_output=True)
    assert whole.returncode == 0
    out = tmp_path / "out"
    killed = subprocess.Popen(
        [*arguments, "--out", str(out)], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
    for _ in range(3000):
        if (out / "manifest.jsonl").exists():
            break
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert killed.returncode == -signal.SIGKILL and not (out / "metrics.csv").exists()
    resumed = subprocess.run([*arguments, "--out", str(out)], capture_output=True, text=True)
    assert resumed.returncode == 0 and "were there already" in resumed.stdout
    assert pixels(out) == pixels(tmp_path / "whole")
    assert not list(out.rglob(".undiffuse-*"))


def test_out_of_memory_halves_the_batch(undiffuse, scans, tmp_path, monkeypatch):
    plain, batches = StationaryGaussian.forward, list[int]()

    def small(self, x, sigma):
        batches.append(len(x))
        if len(x) > 2:
            raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")
        return plain(self, x, sigma)

    monkeypatch.setattr(StationaryGaussian, "forward", small)
    done = undiffuse("restore", scans / "z.jpg", *OPTIONS, "--draws", 8, "--out", tmp_path / "a")
    assert done.code == 0 and "out of memory with 8 pictures at once; going on with 4" in done.err
    assert max(batches) == 8 and batches.count(2) == 16
    monkeypatch.undo()
    assert undiffuse("restore", scans / "z.jpg", *OPTIONS, "--draws", 8, "--out", tmp_path / "b").code == 0
    assert pixels(tmp_path / "a") == pixels(tmp_path / "b")


def test_draws_of_a_folder(undiffuse, scans, tmp_path):
    out = tmp_path / "out"
    kinds = "restored,deviation,q05,draws"
    done = undiffuse("restore", scans, *OPTIONS, "--draws", 3, "--save", kinds, "--out", out)
    assert done.code == 0
    names = {path.name for path in out.iterdir() if path.name.startswith("z_")}
    assert names == {
        f"z_{kind}.png" for kind in ("restored", "deviation", "q05", "draw000", "draw001", "draw002")
    }
    draws = torch.stack([read(out / f"z_draw00{n}.png").pixels for n in range(3)])
    mean = read(out / "z_restored.png").pixels
    inside = draws.abs().amax(0) < 1  # not clamped
    assert (draws.mean(0) - mean)[inside].abs().max() <= 2 / 255 + 1e-6  # each rounded by half a level
    assert "coverage90" in lines(out)["z.jpg"]


def test_references_and_measured_noise(undiffuse, scans, tmp_path):
    """A folder of measurements, their clean pictures in another one under the same names, other endings."""
    clean, bad, out = tmp_path / "clean", tmp_path / "bad", tmp_path / "out"
    clean.mkdir(), bad.mkdir()
    for n in range(2):
        x = photograph(64, 72).roll(7 * n, 2)
        write(x, clean / f"{n}.tif")
        write(x + 0.1 * torch.randn(x.shape, generator=torch.Generator().manual_seed(n)), bad / f"{n}.png")
    (bad / "2.png").write_bytes((bad / "1.png").read_bytes())
    arguments = ["restore", bad, "--measured", "--degrade", "deno", "--prior", "photo-gaussian"]
    done = undiffuse(*arguments, "--reference", clean, "--out", out)
    assert done.code == 2 and "no reference" in lines(out)["2.png"]["error"]
    for n in range(2):
        line = lines(out)[f"{n}.png"]
        assert line["noise"] == pytest.approx(0.05, rel=0.25) and line["psnr"] > line["psnr_degraded"] + 1
    (bad / "2.png").unlink()
    before = lines(out)
    again = undiffuse(*arguments, "--reference", clean, "--out", out)
    assert again.code == 0 and "2 are restored already" in again.err
    write(photograph(64, 72).flip(1), clean / "0.tif")  # another reference: its numbers are told anew
    again = undiffuse(*arguments, "--reference", clean, "--out", out)
    assert again.code == 0 and "1 are restored already" in again.err
    assert lines(out)["0.png"]["psnr"] < before["0.png"]["psnr"] - 3
    assert lines(out)["1.png"]["psnr"] == before["1.png"]["psnr"]


DEADLY = """
import os
from pathlib import Path
from undiffuse.registry import RESTORERS
from undiffuse.restore import ddrm

if "deadly" not in RESTORERS:
    @RESTORERS.register("deadly", summary="ddrm whose first two processes die", example="")
    def deadly(denoise, problem, noise, /, *, died: str):
        step = ddrm(denoise, problem, noise)

        def fatal(state, sigma_next):
            if len(list(Path(died).iterdir())) < 2:
                (Path(died) / str(os.getpid())).touch()
                os.kill(os.getpid(), 9)
            return step(state, sigma_next)

        return fatal
"""


def test_a_fleet_that_loses_workers(undiffuse, scans, tmp_path):
    """Two processes of a cluster on this machine; the first two to begin are killed, others do their pictures."""
    pytest.importorskip("ray")
    (tmp_path / "deadly.py").write_text(DEADLY)
    died = tmp_path / "died"
    died.mkdir()
    arguments = ["restore", scans, *OPTIONS[:-4], "--algorithm", f"deadly:died={died}", "--steps", 4]
    arguments += ["--plugin", tmp_path / "deadly.py"]
    done = undiffuse(*arguments, "--fleet", "local", "--workers", 2, "--out", tmp_path / "fleet")
    assert done.code == 0 and "5 restored" in done.out and "2 workers" in done.err
    assert len(list(died.iterdir())) >= 2
    alone = undiffuse(*arguments, "--out", tmp_path / "alone")
    assert alone.code == 0 and pixels(tmp_path / "alone") == pixels(tmp_path / "fleet")


BAD = {
    "no pictures": (["nothing", *OPTIONS], "holds no picture"),
    "an unknown degradation": (["scans", "--degrade", "sr5"], "did you mean"),
    "an unknown algorithm": (["scans", *OPTIONS[:-4], "--algorithm", "ddrn"], "did you mean"),
    "a mask that is missing": (["scans", "--degrade", "inp:mask=none.png"], "none.png"),
    "a file as references": (["scans", *OPTIONS, "--measured", "--reference", "scans/z.jpg"], "give a folder"),
    "a fleet for one picture": (["scans/z.jpg", *OPTIONS, "--fleet", "local"], "folder"),
    "files of draws that there are not": (["scans", *OPTIONS, "--save", "deviation"], "--draws 2"),
    "a class of a prior without": (["scans", *OPTIONS, "--label", "3"], "has no classes"),
    "presets that are missing": (["scans", *OPTIONS, "--preset", "none.yaml"], "none.yaml"),
    "an unknown kind of file": (["scans", *OPTIONS, "--save", "restored,graph"], "graph"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_what_no_picture_can_have_is_one_line(undiffuse, scans, tmp_path, monkeypatch, case):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nothing").mkdir()
    arguments, said = BAD[case]
    done = undiffuse("restore", *arguments, "--out", "results")
    assert (
        done.code == 2 and done.err.startswith("error: ") and done.err.count("\n") == 1 and said in done.err
    )
    assert not (tmp_path / "results").exists()


def test_results_do_not_mix_with_the_pictures(undiffuse, scans):
    assert undiffuse("restore", scans, *OPTIONS, "--out", scans).code == 2
    inside = undiffuse("restore", scans, *OPTIONS, "--out", scans / "restored")
    assert inside.code == 0 and "5 restored" in inside.out
    again = undiffuse("restore", scans, *OPTIONS, "--out", scans / "restored")
    assert "0 restored, 5 were there already" in again.out  # results are no pictures to restore


def test_a_batch_is_a_number_of_draws():
    assert (
        solving.VALUES["cpu"] // (3 * 512 * 512) > 8
    )  # the default of 8 draws of half a megapixel fits one batch


def test_a_dry_run_writes_nothing(undiffuse, scans, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    one = undiffuse("restore", scans / "z.jpg", *OPTIONS, "--draws", 3, "--dry-run")
    assert one.code == 0 and "3x32x40" in one.out and "12 network calls" in one.out and "GiB" in one.out
    (scans / "empty.png").write_bytes(b"")
    many = undiffuse("restore", scans, *OPTIONS, "--dry-run")
    assert many.code == 0 and "6 pictures" in many.err and "3x36x36" in many.out
    assert "5 pictures" in many.out and "would be passed over: empty.png: " in many.err
    (scans / "empty.png").unlink()
    assert sorted(tmp_path.rglob("*")) == before
    wrong = undiffuse("restore", scans / "z.jpg", "--degrade", "jpeg", "--algorithm", "ddrm", "--dry-run")
    assert wrong.code == 2 and wrong.err.count("\n") == 1


def test_a_dry_run_counts_what_a_run_would_do(undiffuse, scans, tmp_path):
    """Not what is done, nor what has no reference or would share results; nor is it told of weights that are none."""
    out, clean = tmp_path / "out", tmp_path / "clean"
    (clean / "older ones").mkdir(parents=True)
    for name in ("a b.png", "\u00e9\u4e2d.png", "z.jpg", "older ones/a b.png"):
        (clean / name).write_bytes((scans / name).read_bytes())
    given = [
        "restore",
        scans,
        "--degrade",
        "deno",
        "--measured",
        "--noise",
        0.05,
        "--prior",
        "photo-gaussian",
    ]
    given += ["--reference", clean, "--out", out]
    dry = undiffuse(*given, "--dry-run")
    assert dry.code == 0 and "4 pictures" in dry.out and "passed over: -v.png: no reference" in dry.err
    wrong = undiffuse(*given, "--lpips", scans / "z.jpg", "--dry-run")
    assert wrong.code == 2 and not out.exists()
    assert undiffuse(*given).code == 2
    (scans / "-v.png").unlink()
    kept = undiffuse(*given, "--dry-run")
    assert kept.code == 0 and "4 are restored already" in kept.err
    assert kept.out.endswith("nothing is left to do\n") and kept.out.count("\n") == 1
    write(photograph(32, 40).flip(2), scans / "z.jpg")
    (scans / "z.png").write_bytes((scans / "a b.png").read_bytes())  # would share the results of z.jpg
    changed = undiffuse(*given, "--dry-run")
    assert "1 pictures" in changed.out and "3 are restored already" in changed.err
    assert "passed over: z.png: 'z.jpg' has the same name" in changed.err
    (scans / "z.jpg").unlink()
    (clean / "z.jpg").unlink()
    none = undiffuse(*given, "--dry-run")
    assert none.code == 2 and "none of the pictures" in none.err and "no reference" in none.err


def test_a_folder_of_which_nothing_is_restored_says_so(undiffuse, tmp_path):
    (tmp_path / "scans").mkdir()
    (tmp_path / "scans/empty.png").write_bytes(b"")
    done = undiffuse("restore", tmp_path / "scans", *OPTIONS, "--out", tmp_path / "out")
    assert done.code == 2 and "1 of 1 pictures passed over: empty.png" in done.err
    assert done.out.splitlines()[1] == "  no picture is restored, so that there is nothing to judge"


def test_goals(undiffuse, scans, tmp_path):
    """The closed-form prior: its mean, one of its draws, eight of them."""
    arguments = ["restore", scans / "z.jpg", "--degrade", "sr2", "--noise", 0.05, "--prior", "photo-gaussian"]
    for goal in ("psnr", "perceptual", "posterior"):
        assert undiffuse(*arguments, "--goal", goal, "--out", tmp_path / goal).code == 0
    found = {
        goal: json.loads((tmp_path / goal / "z.json").read_text())
        for goal in ("psnr", "perceptual", "posterior")
    }
    assert found["psnr"]["metrics"]["psnr"] > found["perceptual"]["metrics"]["psnr"] + 0.5
    assert found["perceptual"]["options"]["sample"] == found["posterior"]["options"]["sample"] == "True"
    assert found["posterior"]["config"]["draws"] == 8 and "coverage90" in found["posterior"]["metrics"]
    assert undiffuse(*arguments, "--goal", "speed", "--out", tmp_path / "x").code == 2


def test_results_of_others_are_left_alone(undiffuse, scans, tmp_path):
    """A table of single pictures is not overwritten by a folder's, nor a folder's results by a single picture."""
    assert undiffuse("restore", scans / "z.jpg", *OPTIONS, "--out", tmp_path / "one").code == 0
    table = (tmp_path / "one/metrics.csv").read_bytes()
    mixed = undiffuse("restore", scans, *OPTIONS, "--out", tmp_path / "one")
    assert mixed.code == 2 and "metrics.csv" in mixed.err
    assert (tmp_path / "one/metrics.csv").read_bytes() == table
    assert undiffuse("restore", scans, *OPTIONS, "--out", tmp_path / "many").code == 0
    single = undiffuse("restore", scans / "z.jpg", *OPTIONS, "--out", tmp_path / "many")
    assert single.code == 2 and "results of a folder" in single.err


def test_a_result_that_somebody_wrote_over_is_made_again(undiffuse, scans, tmp_path):
    out = tmp_path / "out"
    assert undiffuse("restore", scans, *OPTIONS, "--out", out).code == 0
    before = pixels(out)
    (out / "z_restored.png").write_bytes(b"")
    again = undiffuse("restore", scans, *OPTIONS, "--out", out)
    assert "1 restored, 4 were there already" in again.out and pixels(out) == before


def test_a_picture_that_changes_while_it_is_restored(undiffuse, scans, tmp_path, monkeypatch):
    """What is recorded is what was read: the next run sees the change."""
    plain, changed = StationaryGaussian.forward, list[bool]()

    def slow(self, x, sigma):
        if not changed:
            changed.append(True)
            write(photograph(40, 32).flip(2), scans / "-v.png")  # the first in the order of names
        return plain(self, x, sigma)

    monkeypatch.setattr(StationaryGaussian, "forward", slow)
    assert undiffuse("restore", scans, *OPTIONS, "--out", tmp_path / "out").code == 0
    again = undiffuse("restore", scans, *OPTIONS, "--out", tmp_path / "out")
    assert "1 restored, 4 were there already" in again.out


def test_a_plugin_that_changes_is_a_change(undiffuse, scans, tmp_path):
    plugin = tmp_path / "plugin.py"
    plugin.write_text("# one")
    arguments = ["restore", scans, *OPTIONS, "--plugin", plugin, "--out", tmp_path / "out"]
    assert undiffuse(*arguments).code == 0
    assert "5 were there already" in undiffuse(*arguments).out
    plugin.write_text("# two")
    assert "5 restored" in undiffuse(*arguments).out


@pytest.mark.skipif(sys.platform == "darwin", reason="its file systems refuse such names themselves")
def test_pictures_of_other_kinds_are_named(scans, tmp_path):
    for name in ("a.bmp", "b.BMP", "c.txt", ".d.bmp"):
        (scans / name).write_bytes(b"x")
    before = pictures(scans, tmp_path / "out")[1]
    assert "2 .bmp file(s), which are not read, left out" in before


def test_a_name_that_is_not_utf8_is_left_out(undiffuse, scans, tmp_path):
    with open(os.fsencode(scans) + b"/\xff.png", "wb") as file:
        file.write((scans / "a b.png").read_bytes())
    done = undiffuse("restore", scans, *OPTIONS, "--out", tmp_path / "out")
    assert done.code == 0 and "5 restored" in done.out and "1 name(s) that are not UTF-8 left out" in done.err
