"""Presets are data for one prior, kind of task, noise and goal; tune writes one only if it is better elsewhere, too."""

import json
import math
from pathlib import Path

import pytest
import torch
import yaml

from tests.pictures import photograph
from undiffuse.app.bench.search import Bent, bent, climb
from undiffuse.app.bench.tune import run as tune
from undiffuse.app.events import Done
from undiffuse.app.kinds import KINDS, kind_of
from undiffuse.app.presets import GOALS, builtin, preset_for, presets_text, read_presets
from undiffuse.app.priors import open_prior
from undiffuse.app.restore import run as restore
from undiffuse.app.restore.result import record
from undiffuse.config import RestoreConfig
from undiffuse.config.bench import TuneConfig
from undiffuse.core.grids import exponential
from undiffuse.core.images import write
from undiffuse.core.loop import last, sample
from undiffuse.core.noise import SeededNoise
from undiffuse.metrics import psnr
from undiffuse.operators import build
from undiffuse.registry import RESTORERS
from undiffuse.restore import Problem, measure

GIVEN = {
    "prior": "photo-gaussian", "task": "reduction", "noise": [0.01, 0.1], "goal": "psnr", "algorithm": "dpir:lam=0.3",
    "steps": 3, "grid": [2.0, 0.5, 0.1], "draws": 1,
    "chosen_by": {"command": "c", "date": "2026-11-21", "data": "d", "pictures": 4, "figures": {"psnr": 30.0}},
}  # fmt: skip


def stored(path: Path, *changes: dict[str, object]) -> Path:
    tree = {"presets": [GIVEN | change for change in changes or ({},)]}
    path.write_text(yaml.safe_dump(json.loads(json.dumps(tree))))  # nothing is shared, so no aliases
    return path


def problem(task: str = "sr4", noise: float = 0.05, side: int = 32) -> Problem:
    A = build(task, (3, side, side)).float()
    x = photograph(side, side)[None]
    return Problem(A, measure(A, x, 2 * noise, SeededNoise([0])), 2 * noise)


@pytest.mark.parametrize(
    "degrade, kind",
    [
        ("sr4", "reduction"), ("sr_bicubic4", "reduction"), ("deblur_gauss", "blur"), ("deblur_aniso", "blur"),
        ("inp", "holes"), ("inp:random,missing=0.9", "holes"), ("color", "colour"), ("cs4", "sensing"),
        ("deno", "noise"), ("jpeg", None), ("inp . sr4", None), ("gamma", None),
    ],
)  # fmt: skip
def test_kinds_are_what_a_degradation_does(degrade, kind):
    assert kind_of(build(degrade, (3, 32, 32))) == kind


def test_those_of_the_package_can_be_used():
    """Each names a prior that there is, builds on a problem of its kind and noise, and has no twin."""
    found = builtin()
    tasks = dict(zip(KINDS, ("deno", "inp", "sr4", "deblur_gauss", "color", "cs4"), strict=True))
    opened = {name: open_prior(name) for name in {preset.prior for preset in found}}
    assert found and {preset.goal for preset in found} == set(GOALS)
    for preset in found:
        low, high = preset.noise
        for noise in (low, math.nextafter(high, 0)):
            given = problem(tasks[preset.task], noise)
            assert [p for p in found if p.suits(opened[preset.prior], given) and p.goal == preset.goal] == [
                preset
            ]
            method = preset.method(opened[preset.prior], given)
            assert len(method.sigmas) == preset.steps + 1 and method.sigmas[-1] == 0
        assert preset.goal != "posterior" or (
            preset.draws > 1
            and "coverage90" in preset.chosen_by.figures
            and "deterministic" not in method.entry.facts
        )


def test_a_preset_is_for_what_it_was_chosen_for(tmp_path):
    presets = read_presets(stored(tmp_path / "p.yaml"))
    gaussian, photo = open_prior("photo-gaussian"), open_prior("photo")
    assert preset_for(gaussian, problem(), "psnr", presets) == presets[0]
    assert preset_for(gaussian, problem(noise=0.01), "psnr", presets) == presets[0]
    assert preset_for(photo, problem(), "psnr", presets) is None
    assert preset_for(gaussian, problem(), "posterior", presets) is None
    assert preset_for(gaussian, problem(noise=0.1), "psnr", presets) is None
    assert preset_for(gaussian, problem("inp"), "psnr", presets) is None
    assert photo.sha256 is not None
    by_hash = read_presets(stored(tmp_path / "h.yaml", {"prior": photo.sha256[:16]}))
    assert preset_for(photo, problem(), "psnr", by_hash) == by_hash[0]
    short = read_presets(stored(tmp_path / "s.yaml", {"prior": photo.sha256[:8]}))
    assert preset_for(photo, problem(), "psnr", short) is None


def test_its_method_is_what_it_says(tmp_path):
    (preset,) = read_presets(stored(tmp_path / "p.yaml"))
    method = preset.method(open_prior("photo-gaussian"), problem())
    assert (
        method.entry.name == "dpir" and method.options == {"lam": 0.3, "mirror": False} and method.calls == 3
    )
    assert method.sigmas.tolist() == [2.0, 0.5, 0.1, 0.0]


def test_files_come_back_as_they_were(tmp_path):
    presets = read_presets(stored(tmp_path / "p.yaml", {}, {"task": "holes", "grid": None}))
    (tmp_path / "q.yaml").write_text(presets_text(presets))
    assert read_presets(tmp_path / "q.yaml") == presets


@pytest.mark.parametrize(
    "change, said",
    [
        ({"algorithm": "dpri"}, "did you mean 'dpir'"),
        ({"algorithm": "dpir:lamb=1"}, "did you mean 'lam'"),
        ({"noise": [0.1, 0.1]}, "low < high"),
        ({"grid": [0.5, 2.0, 0.1]}, "levels that fall"),
        ({"grid": [2.0, 0.5]}, "make them equal"),
        ({"grid": [2.0, 0.5, 0.0]}, "stay above 0"),
        ({"widen": 0.5}, "greater than or equal to 1"),
        ({"task": "sr4"}, "'reduction'"),
        ({"goal": "best"}, "'perceptual'"),
        ({"colour": 1}, "no option 'presets.0.colour'"),
        ({"chosen_by": {"command": "c"}}, "needs the option"),
    ],
)
def test_whatever_is_wrong_is_one_line(tmp_path, change, said):
    with pytest.raises(ValueError) as error:
        read_presets(stored(tmp_path / "p.yaml", change))
    assert said in str(error.value) and "p.yaml" in str(error.value) and "\n" not in str(error.value)


def test_another_kind_of_file_is_told(tmp_path):
    (tmp_path / "p.yaml").write_text("root:x:0:0\n")
    with pytest.raises(ValueError, match="expected presets:, as `undiffuse tune` writes"):
        read_presets(tmp_path / "p.yaml")


def test_a_missing_file_is_told(tmp_path):
    with pytest.raises(ValueError, match="no file of presets"):
        read_presets(tmp_path / "p.yaml")


def test_a_preset_beside_an_algorithm_is_refused(undiffuse, photo, tmp_path):
    """It would be ignored, even where there is no such file."""
    done = undiffuse(
        "restore", photo, "--degrade", "sr4", "--algorithm", "dpir", "--preset", tmp_path / "none.yaml"
    )
    assert done.code == 2 and "leave one of them out" in done.err and "--algorithm dpir" in done.err


def test_a_goal_that_chooses_nothing_is_refused(undiffuse, photo, tmp_path):
    given = ("restore", photo, "--degrade", "sr4", "--prior", "photo-gaussian", "--out", tmp_path / "o")
    done = undiffuse(*given, "--algorithm", "dpir", "--goal", "perceptual")
    assert done.code == 2 and not (tmp_path / "o").exists()
    assert done.err == (
        "error: --goal perceptual chooses the algorithm, and --algorithm dpir is another; leave one of them out\n"
    )
    assert undiffuse(*given, "--algorithm", "ddrm", "--goal", "posterior", "--steps", 2).code == 0
    (record,) = (tmp_path / "o").glob("*.json")
    assert json.loads(record.read_text())["config"]["draws"] == 8  # this one chooses the draws


def test_error_bars_are_widened_as_the_preset_says(tmp_path, photo):
    """For the preset as it is; another number of steps, or an algorithm of one's own, was not measured."""
    drawn = {"goal": "posterior", "algorithm": "ddrm", "grid": None, "draws": 4}
    given = {
        "image": photo, "degrade": "sr4", "noise": "0.05", "prior": "photo-gaussian", "goal": "posterior",
        "draws": 4, "out": tmp_path / "out",
    }  # fmt: skip
    plain = stored(tmp_path / "plain.yaml", drawn)
    wide = stored(tmp_path / "wide.yaml", drawn | {"widen": 2.0})

    def restored(**more: object):
        *_, done = restore(RestoreConfig(**{**given, **more}))
        return done.result

    before, after = restored(preset=plain), restored(preset=wide)
    torch.testing.assert_close(after.posterior.deviation, 2 * before.posterior.deviation)
    torch.testing.assert_close(
        after.restored - after.posterior.low[0],
        2 * (before.restored - before.posterior.low[0]),
        rtol=1e-4,
        atol=1e-5,
    )
    assert torch.equal(after.restored, before.restored) and torch.equal(after.draws, before.draws)
    assert "error bars widened 2 times" in after.task.asked() and "widened" not in before.task.asked()
    assert record(after)["widened"] == 2.0 and record(before)["widened"] is None
    report = (tmp_path / "out/report.html").read_text()
    assert "are 2 times those" in report
    assert "was not measured" in (restored(preset=plain), (tmp_path / "out/report.html").read_text())[1]
    for others in (
        {"preset": wide, "steps": 4},
        {"preset": wide, "eta": 1.0},
        {"algorithm": "ddrm", "steps": 3},
    ):
        assert restored(**others).method.widen is None


def test_a_search_starts_at_the_grid_and_climbs():
    base = exponential(4, 0.05, 2.0)
    start = bent(base)
    assert start.levels() == pytest.approx(base[:-1].tolist(), rel=1e-12)
    aim = Bent(start.places, math.log(5.0), math.log(0.03), 0.4)

    def score(grid: Bent) -> float:
        return -((grid.top - aim.top) ** 2) - (grid.bottom - aim.bottom) ** 2 - (grid.bend - aim.bend) ** 2

    tried = list(climb(start, score, 0.01, 80.0, 8))
    assert tried[0].score == score(start) and max(one.score for one in tried) == tried[-1].best_score
    # A step of 0.7 / 2^7 in each of three coordinates is left.
    assert tried[-1].best_score > -3 * (0.7 / 2**7) ** 2
    inside = list(climb(start, score, 0.04, 3.0, 8))[-1].best.levels()
    assert 0.04 * (1 - 1e-6) <= inside[-1] < inside[0] <= 3.0 * (1 + 1e-6)
    one = bent(exponential(1, 0.05, 2.0))
    assert one.levels() == (pytest.approx(2.0),) and list(climb(one, score, 0.01, 80.0, 3))[-1].best.top > 0.7


@pytest.fixture
def photos(tmp_path) -> Path:
    """Eight colour pictures of 48 x 48."""
    folder = tmp_path / "photos"
    folder.mkdir()
    whole = photograph(480, 480)
    for i in range(8):
        write(whole[:, 24 + 52 * i : 72 + 52 * i, 200:248], folder / f"{i}.png")
    return folder


@pytest.fixture
def badly():
    """An algorithm that is DPIR on a grid far too low."""
    before = dict(RESTORERS._entries)
    good = RESTORERS["dpir"]

    def low(steps: int, sigma_y: float) -> torch.Tensor:
        return exponential(steps, 0.004, 0.008)

    RESTORERS.register("badly", summary="t", example="t", **{**good.facts, "grid": low})(good.factory)
    yield
    RESTORERS._entries.clear()
    RESTORERS._entries.update(before)


def tuned(config: TuneConfig):
    *_, done = tune(config)
    assert isinstance(done, Done)
    return done.result


def test_tune_finds_a_better_grid_and_writes_it(badly, photos, undiffuse, monkeypatch):
    out = photos.parent / "preset.yaml"
    given = {
        "task": "inp",
        "data": (str(photos),),
        "noise": 0.05,
        "calls": 3,
        "prior": "photo-gaussian",
        "size": 48,
    }
    config = TuneConfig(**given, algorithm="badly", rounds=1, out=out)
    result = tuned(config)
    (preset,) = read_presets(out)
    assert preset.chosen_by.command == (
        f"undiffuse tune inp --data {photos} --noise 0.05 --calls 3 --algorithm badly --prior photo-gaussian "
        f"--size 48 --rounds 1 --out {out}"
    )
    assert result.kept and result.gain.low > 0 and result.gain.n == 4 and preset.chosen_by.pictures == 4
    opened, clean = open_prior("photo-gaussian"), photograph(64, 64)[None]
    A = build("inp", (3, 64, 64)).float()
    other = Problem(A, measure(A, clean, 0.1, SeededNoise([3])), 0.1)
    assert preset_for(opened, other, "psnr", [preset]) == preset
    found: list[float] = []
    for method in (
        preset.method(opened, other),
        preset.model_copy(update={"grid": None}).method(opened, other),
    ):
        noise = SeededNoise([0])
        x = method.start(other, method.sigmas[0].float(), noise)
        state = last(sample(method.step(opened.denoise, other, noise), x, method.sigmas))
        found.append(psnr(state.x, clean).item())
    assert found[0] > found[1] + 1  # dB, on a picture that neither half held

    calls: list[int] = []
    opened.denoise.register_forward_hook(lambda *_: calls.append(1))
    monkeypatch.setattr("undiffuse.app.bench.tune.open_prior", lambda *_: opened)
    again = tuned(config)
    assert again.after == result.after and again.gain == result.gain
    assert (
        len(calls) == 2 * 4 * 3
    )  # the search is looked up; the judging of two grids on four pictures is not


def test_tune_keeps_the_default_where_nothing_is_better(undiffuse, photos):
    """The exact posterior mean does not look at its grid."""
    out = photos.parent / "p.yaml"
    done = undiffuse(
        "tune", "sr4", "--data", photos, "--size", 48, "--noise", 0.05, "--calls", 1, "--count", 4, "--rounds", 1,
        "--algorithm", "exact:sample=false", "--prior", "photo-gaussian", "--out", out,
    )  # fmt: skip
    assert done.code == 0 and "no preset was written" in done.out and not out.exists()
    out.write_text("presets: []\n")
    again = undiffuse(
        "tune", "sr4", "--data", photos, "--size", 48, "--noise", 0.05, "--calls", 1, "--count", 4, "--rounds", 1,
        "--algorithm", "exact:sample=false", "--prior", "photo-gaussian", "--out", out,
    )  # fmt: skip
    assert again.code == 0 and "is of an earlier search" in " ".join(again.out.split())


@pytest.mark.parametrize(
    "wrong, said",
    [
        (["jpeg"], "of no kind"),
        (["sr5"], "no degradation named"),
        (["sr4", "--algorithm", "wiener"], "only algorithms have noise levels"),
        (["sr4", "--calls", "0"], "greater than or equal to 1"),
        (["sr4", "--count", "2"], "greater than or equal to 4"),
        (["sr4", "--size", "9000"], "use a smaller --size"),
    ],
)
def test_mistakes_cost_one_line(undiffuse, photos, wrong, said):
    size = ["--size", 48] if "--size" not in wrong else []
    failed = undiffuse(
        "tune",
        *wrong,
        "--data",
        photos,
        "--prior",
        "photo-gaussian",
        *size,
        "--out",
        photos.parent / "p.yaml",
    )
    assert failed.code == 2 and said in failed.err and failed.err.count("\n") == 1
    assert not (photos.parent / "p_tune").exists()
