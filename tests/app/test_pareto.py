"""What `undiffuse pareto` measures, passes over, keeps and finds on a front."""

import csv
import json
import math
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from tests.pictures import photograph
from tests.small import CLASSES, PHOTO, changed, stored
from undiffuse.app.analyse.section import Figure
from undiffuse.app.events import Done, Note
from undiffuse.app.pareto import run, table
from undiffuse.app.pareto.front import front
from undiffuse.app.pareto.points import Measure, Point, alike, best
from undiffuse.app.pareto.store import FILE, Store
from undiffuse.app.priors import open_prior
from undiffuse.app.sample.preset import read_presets
from undiffuse.checkpoints import save
from undiffuse.checkpoints.native import MadeFor
from undiffuse.config.pareto import ParetoConfig
from undiffuse.config.said import command_line
from undiffuse.core.images import write
from undiffuse.metrics import LPIPS

NAN, INF = math.nan, math.inf
OWN = (10.0, 1.0)
STEPPED = changed(PHOTO, made_for=MadeFor(sampler="ddim", sigmas=OWN))
SMALL = changed(PHOTO, network={"widths": [4, 8]})
GUIDED = changed(CLASSES, made_for=MadeFor(guidance=3.0))


def brute(costs, losses):
    """By the definition: of each pair, whether one dominates the other."""
    points = list(zip(costs, losses, strict=True))
    whole = [all(map(math.isfinite, point)) for point in points]

    def beats(a, b):
        return a[0] <= b[0] and a[1] <= b[1] and a != b

    pairs = list(zip(points, whole, strict=True))
    return [ok and not any(other and beats(q, p) for q, other in pairs) for p, ok in pairs]


@pytest.mark.parametrize(
    ("costs", "values", "found"),
    [
        ([], [], []),
        ([3.0], [1.0], [True]),
        ([1, 2, 3], [10, 20, 30], [True, True, True]),
        ([1, 2, 3], [30, 20, 10], [True, False, False]),
        ([1, 1, 2], [5, 5, 6], [True, True, True]),  # equal in both: together
        ([1, 1, 1], [5, 6, 6], [False, True, True]),  # equal in cost: the better ones
        ([1, 2], [5, 5], [True, False]),  # equal in quality: the cheaper one
        ([1, NAN, 2], [NAN, 9, 3], [False, False, True]),
        ([NAN], [NAN], [False]),
        ([1, 2, INF], [INF, 4, 5], [False, True, False]),
    ],
)
def test_front_of_points_made_by_hand(costs, values, found):
    assert front(costs, values, higher=True) == found
    assert front(costs, [-value for value in values], higher=False) == found


def test_front_is_what_the_definition_says_in_any_order():
    draw = random.Random(0)
    for _ in range(2000):
        n = draw.randint(0, 7)
        costs, losses = ([draw.choice([0.0, 1.0, 2.0, 3.0, NAN, -INF]) for _ in range(n)] for _ in range(2))
        assert front(costs, losses, higher=False) == brute(costs, losses)


def test_what_cannot_be_told_apart_is_so_by_pairs_of_pictures():
    """Pictures that differ by 20 dB, and a difference of 0.1 dB on each: the bars overlap, the pairs do not."""
    restoring, drawing = Measure("sr4", "psnr", "PSNR, dB", True), Measure("sample", "kid", "KID", False)
    hard = (10.0, 20.0, 30.0)

    def point(measure, value, each=(), half=9.0):
        low, high = value - half, value + half
        costs = dict(calls=1, parameters=1, flop_of_call=1, seconds=1, cpu=1, memory=1)
        return Point(measure, "one", "student", "", 1, 1.0, 3, value, low, high, each=each, **costs)

    top = point(restoring, 20.0, hard)
    worse = point(restoring, 19.9, tuple(x - d for x, d in zip(hard, (0.1, 0.11, 0.09), strict=True)))
    other = point(restoring, 19.9, tuple(x - d for x, d in zip(hard, (0.4, -0.3, 0.2), strict=True)))
    assert alike(top, top) and not alike(worse, top) and alike(other, top)
    assert not alike(point(restoring, NAN), top)
    assert alike(point(drawing, 5.0), point(drawing, 1.0)) and not alike(
        point(drawing, 11.0), point(drawing, 1.0)
    )


def test_front_refuses_lists_of_other_lengths():
    with pytest.raises(ValueError, match="2 costs and 1 qualities"):
        front([1, 2], [1], higher=True)


def test_a_store_drops_the_line_that_a_kill_cut_off(tmp_path):
    store = Store(tmp_path)
    store.add({"task": "a"}, {"value": 1.0})
    store.add({"task": "b"}, {"value": NAN})
    data = (tmp_path / FILE).read_bytes()
    for cut in (len(data) - 1, data.index(b"\n") + 3):
        (tmp_path / FILE).write_bytes(data[:cut])
        again = Store(tmp_path)
        assert again.get({"task": "a"}) == {"value": 1.0} and again.get({"task": "b"}) is None
        again.add({"task": "b"}, {"value": NAN})
        assert (tmp_path / FILE).read_bytes() == data
    assert Store(tmp_path).get({"task": "b"}) == {"value": None}
    (tmp_path / FILE).write_text("{}\n")
    with pytest.raises(ValueError, match="no file of measurements"):
        Store(tmp_path)


@pytest.fixture
def undrawn(monkeypatch):
    """The picture takes longer than all else."""

    def figure(points, drawn):
        return Figure("cost", "", "", '<svg viewBox="0 0 1 1"></svg>', csv=drawn)

    monkeypatch.setattr(table, "figure", figure)


@pytest.fixture
def desk(tmp_path, monkeypatch):
    """Two students, what is none, and pictures of 8x8."""
    stored(tmp_path / "all/small.safetensors", SMALL)
    stored(tmp_path / "all/deep/stepped.safetensors", STEPPED)
    (tmp_path / "all/other.safetensors").write_bytes(b"nothing of ours")
    stored(tmp_path / "big.safetensors", PHOTO)
    (tmp_path / "photos").mkdir()
    for i in range(6):
        write(photograph(8, 8 + i)[:, :, :8].roll(i, 2), tmp_path / f"photos/{i}.png")
    (tmp_path / "two").mkdir()
    for name in ("0.png", "1.png"):
        shutil.copy(tmp_path / "photos" / name, tmp_path / "two" / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


GIVEN = {
    "students": Path("all"), "teacher": "big.safetensors", "tasks": ("sample", "sr2"), "calls": (1, 3), "n": 4,
    "reference": Path("photos"), "features": "pixels:4", "data": ("photos",), "count": 3, "out": Path("out"),
}  # fmt: skip


def measured(**changes):
    events = list(run(ParetoConfig(**{**GIVEN, **changes})))
    notes = [event.text for event in events if isinstance(event, Note)]
    return next(event.result for event in events if isinstance(event, Done)), notes


def rows(out="out"):
    return list(csv.DictReader((Path(out) / "figures/pareto_cost.csv").open()))


def test_each_prior_is_asked_for_what_it_is_made_for(desk, undrawn):
    found, notes = measured()
    asked = {(p.prior, p.measure.task, p.levels, p.calls) for p in found.points}
    teacher = "big (teacher)"
    free = {(name, task, n, n) for name in (teacher, "small") for task in ("sample", "sr2") for n in (1, 3)}
    assert asked == free | {("deep/stepped", task, 2, 2) for task in ("sample", "sr2")}
    assert sum("other.safetensors" in note and "not of undiffuse" in note for note in notes) == 1
    own = [json.loads(line)["asked"] for line in (desk / "out" / FILE).read_text().splitlines()]
    assert [one["sampler"] for one in own if one.get("grid") == list(OWN) and "sampler" in one] == ["ddim"]
    assert all(p.flop_of_call * p.calls == p.flop > 0 and p.memory > 0 and p.cpu > 0 for p in found.points)
    sizes = {p.prior: p.parameters for p in found.points}
    assert sizes["small"] < sizes["deep/stepped"] == sizes[teacher]
    kids = [p for p in found.points if p.measure.metric == "kid"]
    assert all(p.low < p.value < p.high for p in kids) and all("kernel" in p.measure.title for p in kids)
    assert all(math.isnan(p.low) for p in found.points if p.measure.metric == "fid")


def test_values_are_those_of_the_commands_that_it_stands_for(desk, undiffuse, undrawn):
    """Samples as `undiffuse sample` draws them and `evaluate` compares them; restored as `bench` restores."""
    found, _ = measured(calls=(3,))
    value = {(p.prior, p.measure.task, p.measure.metric): p.value for p in found.points}
    done = undiffuse("sample", "big.safetensors", "--n", 4, "--steps", 3, "--out", "drawn")
    assert done.code == 0, done.err
    words = "--reference photos --features pixels:4 --metrics fid,kid --out scored"
    done = undiffuse("evaluate", "drawn", *words.split())
    assert done.code == 0, done.err
    scored = json.loads((desk / "scored/result.json").read_text())["metrics"]
    # float32 in batches of another size
    assert value["big (teacher)", "sample", "fid"] == pytest.approx(scored["fd"], rel=1e-4)
    assert value["big (teacher)", "sample", "kid"] == pytest.approx(scored["kd"]["value"], rel=1e-4)
    bench = "--tasks sr2 --noise 0.05 --algorithms dpir@3 --baselines none --count 3 --size 8 --out benched"
    done = undiffuse("bench", "--data", "photos", "--prior", "big.safetensors", *bench.split())
    assert done.code == 0, done.err
    psnrs = [float(row["psnr"]) for row in csv.DictReader((desk / "benched/bench.csv").open())]
    assert value["big (teacher)", "sr2", "psnr"] == pytest.approx(np.mean(psnrs), abs=1e-4)
    index = [
        json.loads((desk / place / "measurements/index.json").read_text()) for place in ("out", "benched")
    ]
    assert index[0].keys() == index[1].keys()  # every prior reads the same y, and so does the benchmark


def test_lpips_is_that_of_the_benchmark(desk, undiffuse, undrawn):
    torch.manual_seed(0)
    network = LPIPS()
    for p in network.parameters():
        torch.nn.init.uniform_(p, 0, 0.1)
    save_file(network.state_dict(), "alex.safetensors")
    (desk / "large").mkdir()
    for name in ("a.png", "b.png"):
        write(photograph(64, 64 + ord(name[0])), desk / "large" / name)
    given = {"tasks": ("sr4",), "calls": (1,), "size": 64, "data": ("large",), "lpips": "alex.safetensors"}
    found, _ = measured(**given, reference=None)
    assert {(p.measure.metric, p.measure.higher) for p in found.points} == {("psnr", True), ("lpips", False)}
    bench = "--tasks sr4 --noise 0.05 --algorithms dpir@1 --baselines none --size 64 --lpips alex.safetensors"
    done = undiffuse(
        "bench", "--data", "large", "--prior", "big.safetensors", *bench.split(), "--out", "benched"
    )
    assert done.code == 0, done.err
    other = [float(row["lpips"]) for row in csv.DictReader((desk / "benched/bench.csv").open())]
    mine = next(p for p in found.points if p.prior == "big (teacher)" and p.measure.metric == "lpips")
    assert mine.value == pytest.approx(np.mean(other), rel=1e-4) and mine.low < mine.value < mine.high
    with pytest.raises(ValueError, match="--lpips needs .* pixels a side, and pictures are 8x8"):
        measured(**{**given, "size": None}, reference=None)


@pytest.mark.parametrize("option", ["--lpips auto", "--data large"])
def test_what_no_task_uses_is_refused(undiffuse, option):
    done = undiffuse("pareto", "all", *option.split())
    assert done.code == 2
    assert f"error: pareto: {option} is of tasks such as sr4; add one to --tasks, or leave it out" in done.err


def test_presets_are_taken_where_they_fit(desk, undiffuse, undrawn):
    words = "--samplers dpmpp:3 --presets 3 --n 2 --fine 20 --rounds 1 --out chosen"
    done = undiffuse("compare", "big.safetensors", *words.split())
    assert done.code == 0, done.err
    found, _ = measured(tasks=("sample",), data=(), presets=Path("chosen/samplers.yaml"))
    grids = {}
    for line in (desk / "out" / FILE).read_text().splitlines():
        asked = json.loads(line)["asked"]
        if asked["task"] == "sample":
            grids[asked["prior"], asked["steps"]] = asked["grid"]
    preset = read_presets(desk / "chosen/samplers.yaml")[0]
    big = open_prior("big.safetensors").mark
    assert grids.pop((big, 3)) == list(preset.sigmas) and len(grids) == 4
    assert [grid for (_, steps), grid in grids.items() if steps != 2] == ["karras"] * 3


def test_what_is_measured_is_not_measured_again(desk, monkeypatch, undrawn):
    """Killed after any line of the file, the same command gives the same table but for what it times anew."""
    first, _ = measured()
    before, lines = rows(), (desk / "out" / FILE).read_bytes().splitlines(keepends=True)
    again, notes = measured()
    assert (again.measured, again.kept) == (0, first.measured) and rows() == before
    (desk / "out" / FILE).write_bytes(b"".join(lines[:4]) + lines[4][:20])
    killed, _ = measured()
    assert 0 < killed.kept < first.measured and killed.kept + killed.measured == first.measured
    timed = {"seconds a picture", "CPU seconds a picture", "front against seconds"}
    for old, new in zip(before, rows(), strict=True):
        assert {k: v for k, v in old.items() if k not in timed} == {
            k: v for k, v in new.items() if k not in timed
        }
    more, _ = measured(calls=(1, 3, 4))
    assert more.kept == first.measured and more.measured == 4  # two priors, two tasks
    other, _ = measured(seed=1)
    assert other.kept == 0


def test_a_run_that_was_stopped_before_its_first_answer_goes_on(desk, monkeypatch, undrawn):
    """While the features of the first samples are computed, which takes longest."""

    def killed(*_):
        raise KeyboardInterrupt
        yield

    with monkeypatch.context() as patched:
        patched.setattr("undiffuse.app.evaluate.measure.measured", killed)
        with pytest.raises(KeyboardInterrupt):
            measured()
    assert {path.name for path in (desk / "out").iterdir()} == {"samples.npz", "evaluate"}
    found, _ = measured()
    assert found.kept == 0 and found.measured > 0


def test_guidance_counts_twice_but_not_where_it_is_built_in(desk, undrawn):
    stored(desk / "classes/plain.safetensors", CLASSES)
    stored(desk / "classes/guided.safetensors", GUIDED)
    (desk / "grey").mkdir()
    for i in range(3):
        write(photograph(8, 8)[:1].roll(i, 2), desk / f"grey/{i}.png")
    given = {"reference": Path("grey"), "data": ("grey",), "calls": (2,), "out": Path("g")}
    found, notes = measured(students=Path("classes"), teacher=None, guidance=3.0, **given)
    drawn = {p.prior: (p.calls, p.guidance) for p in found.points if p.measure.task == "sample"}
    assert drawn == {"plain": (4, 3.0), "guided": (2, 1.0)}
    restored = {p.prior: (p.calls, p.guidance) for p in found.points if p.measure.task == "sr2"}
    assert restored == {"plain": (2, 1.0)}  # no classes of these pictures are known
    assert sum("guided is left out: it has guidance built in" in note for note in notes) == 1


def test_the_teacher_is_whom_the_runs_name(desk, undiffuse, undrawn):
    (desk / "many").mkdir()
    for i in range(16):
        write(photograph(8, 8).roll(i, 2), desk / f"many/{i}.png")
    settings = [
        "data.path=many", "data.size=8", "data.validation=0.5", "train.steps=1", "train.batch=2", "train.pictures=0",
        "train.check_every=1", "network.widths=[8,16]",
    ]  # fmt: skip
    words = [word for setting in settings for word in ("--set", setting)]
    config = Path(__file__).parents[2] / "configs/train/photos64.yaml"
    done = undiffuse("train", config, "--out", "runs/big", *words)
    assert done.code == 0, done.err
    done = undiffuse("distil", "runs/big", "--size", 0.5, "--steps", 1, "--out", "runs/students")
    assert done.code == 0, done.err
    for students, labels in (
        ("runs/students", ["big (teacher)", "size_0.5"]),
        ("runs", ["big (teacher)", "students/size_0.5"]),
    ):
        found, notes = measured(
            students=Path(students),
            teacher=None,
            reference=None,
            data=(),
            tasks=("sample", "sr2"),
            calls=(1,),
        )
        assert list(dict.fromkeys(p.prior for p in found.points)) == labels
        assert found.points[0].role == "teacher"
        assert any("that it held out" in note for note in notes)
    done = undiffuse(
        "distil", "runs/big", "--method", "progressive", "--from-steps", 4, "--to-steps", 1, "--steps", 1,
        "--out", "runs/chain",
    )  # fmt: skip
    assert done.code == 0, done.err
    given = {"teacher": None, "reference": None, "data": (), "tasks": ("sample", "sr2"), "calls": (1,)}
    found, _ = measured(students=Path("runs/chain/progressive_1"), **given)  # its stages are not its teacher
    assert list(dict.fromkeys(p.prior for p in found.points)) == ["big (teacher)", "progressive_1"]


def test_a_reader_gets_a_page_a_picture_and_a_table(desk, undiffuse):
    words = "--teacher big.safetensors --tasks sample;sr2 --calls 1,3 --n 4 --reference photos --features pixels:4"
    (desk / "mine.py").write_text("")
    words += " --data photos --count 3 --out page --plugin mine.py"
    done = undiffuse("pareto", "all", *words.split())
    assert done.code == 0, done.err
    assert "sr2, PSNR, dB" in done.out and "report: page/report.html" in done.out
    page = (desk / "page/report.html").read_text()
    assert (
        'class="sortable"' in page and "Frechet distance" in page and "compare among themselves only" in page
    )
    command = page.split("<pre>")[1].split("</pre>")[0]
    assert (
        command.startswith("undiffuse pareto all --tasks")
        and "--data photos" in command
        and "--plugin mine.py" in command
    )
    found = rows("page")
    assert len(found) == 3 * (2 + 2 + 1)
    for name, column in (("network calls", "calls a picture"), ("FLOP", "GFLOP a picture")):
        for measure in {row["measure"] for row in found}:
            some = [row for row in found if row["measure"] == measure]
            sign = -1 if measure.startswith("PSNR") else 1
            losses = [sign * float(row["value"]) for row in some]
            on = [row[f"front against {name}"] == "True" for row in some]
            assert on == brute([float(row[column]) for row in some], losses) and any(on)
    assert (desk / "page/figures/pareto_cost.png").stat().st_size > 10_000
    svg = (desk / "page/figures/pareto_cost.svg").read_text()
    assert all(
        word in svg for word in ("deep/stepped", "big (teacher)", "FLOP a picture", "higher is better")
    )


def test_folders_of_one_name_have_a_place_each(desk, undrawn):
    """And the same folder, by whatever path, has the one that it had."""
    for place in ("a/x", "b/x"):
        stored(desk / place / "small.safetensors", SMALL)
    given = {"teacher": None, "tasks": ("sample",), "calls": (1,), "data": (), "out": None}
    folders = [
        measured(**given, students=Path(place))[0].folder for place in ("a/x", "b/x", "b/../a/x", "b/x")
    ]
    assert folders == [Path("out/pareto/x"), Path("out/pareto/x-2")] * 2
    with (folders[0] / "analysis.json").open() as file:
        assert "undiffuse pareto b/../a/x" in json.load(file)["command"]


def test_the_command_names_plugins():
    config = ParetoConfig(students=Path("all"), plugins=(Path("one.py"), Path("my two.py")))
    assert (
        command_line(config, "undiffuse", "pareto")
        == "undiffuse pareto all --plugin one.py --plugin 'my two.py'"
    )


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"students": Path("nowhere")}, "no students at 'nowhere'"),
        ({"students": Path("photos"), "teacher": None}, "holds no prior of undiffuse"),
        ({"tasks": ("sample", "smudge")}, "no degradation named 'smudge'"),
        ({"sampler": "leap"}, "no sampler named 'leap'"),
        ({"sampler": "ddim:leap=1"}, "'ddim' has no option 'leap'"),
        ({"sampler": "churn:s_churn=-1"}, "option s_churn"),
        ({"presets": Path("nowhere.yaml")}, "no file of presets 'nowhere.yaml'"),
        ({"algorithm": "dpir:mu=3"}, "has no option 'mu'"),
        ({"out": Path("photos")}, "'photos' holds other files"),
        ({"beside": ("photo-gaussian",)}, "is no network"),
        ({"reference": Path("two")}, "2 pictures to compare samples with; expected 3"),
        ({"reference": None}, "give pictures with --reference"),
        ({"data": ()}, "give a folder of them with --data"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_in_one_line(desk, changes, told, undrawn):
    with pytest.raises(ValueError, match=told) as error:
        measured(**changes)
    assert "\n" not in str(error.value)
    assert not (desk / "out" / FILE).exists()


def test_other_kinds_of_pictures_are_passed_over(desk, undrawn):
    stored(
        desk / "all/grey.safetensors",
        changed(PHOTO, network={"in_channels": 1, "out_channels": 1}, channels=1),
    )
    found, notes = measured(tasks=("sample",), data=())
    assert "grey" not in {p.prior for p in found.points}
    assert any("grey: it draws 1 channels" in note for note in notes)


def test_a_run_that_has_no_weights_yet_is_told(desk, undrawn):
    """One that was stopped before its first save, or waits for its turn."""
    (desk / "all/begun").mkdir()
    (desk / "all/begun/config.yaml").write_text("name: begun\n")
    found, notes = measured(tasks=("sample",), data=(), calls=(1,))
    assert any("the run in 'all/begun' has no prior.safetensors yet" in note for note in notes)
    assert "begun" not in {point.prior for point in found.points}


def test_what_diverged_is_no_point_of_a_front(desk, undrawn):
    config = changed(PHOTO)
    prior = config.build()
    with torch.no_grad():
        for p in prior.net.parameters():
            p.fill_(NAN)
    save(desk / "all/broken.safetensors", prior, config, {})
    found, _ = measured()
    broken = [p for p in found.points if p.prior == "broken"]
    assert len(broken) == 6 and all(math.isnan(p.value) and not p.on for p in broken)
    assert best(found.points[:5]) is not None and best(broken) is None


def test_numbers_of_calls():
    assert ParetoConfig(students=Path("s"), calls="4, 1,4").calls == (1, 4)
    with pytest.raises(ValueError, match="integer"):
        ParetoConfig(students=Path("s"), calls="1,two")


BROKEN = ({}, {"values": 3}, {"n": 3, "calls": 1, "seconds": 1, "cpu": 0, "values": {"psnr": [1]}})


@pytest.mark.parametrize("found", BROKEN)
def test_an_answer_that_no_run_wrote_is_measured_again(desk, undrawn, found):
    first, _ = measured(calls=(1,))
    before, path = [row["value"] for row in rows()], desk / "out" / FILE
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps({**line, "found": found}) + "\n" for line in lines))
    again, _ = measured(calls=(1,))
    assert again.measured == first.measured and [row["value"] for row in rows()] == before
