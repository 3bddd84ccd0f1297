"""`undiffuse analyse trajectories`: what the same prior scores, what is stored and read again, what is refused."""

import csv
import json
import re
import shutil
import sys
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.small import CLASSES, PHOTO, changed, stored
from undiffuse import cli
from undiffuse.analysis.geometry import geometry
from undiffuse.analysis.trajectory import Sketch, Trajectories
from undiffuse.app.analyse import embedding, run, store
from undiffuse.app.analyse.subjects import compared, merged, open_subjects
from undiffuse.app.analyse.trajectories import analyse, record
from undiffuse.app.analyse.trajectory_figures import against_table, geometry_table
from undiffuse.app.analyse.trajectory_measures import common, measured, per_fold
from undiffuse.app.events import Done, Progress
from undiffuse.app.priors import open_prior
from undiffuse.checkpoints.native import MadeFor
from undiffuse.config.analyse.trajectories import TrajectoriesConfig
from undiffuse.config.said import command_line
from undiffuse.core.grids import karras


def ended(events):
    """What a generator returns."""
    while True:
        try:
            next(events)
        except StopIteration as stop:
            return stop.value


def config(tmp_path, *priors, **given):
    return TrajectoriesConfig(
        priors=tuple(map(str, priors)), **{"n": 6, "steps": 8, "out": tmp_path / "out", **given}
    )


def section_of(given):
    return [event.result for event in analyse(given) if isinstance(event, Done)][0]


@pytest.fixture
def priors(tmp_path):
    """A teacher, itself again, and another one."""
    teacher = stored(tmp_path / "teacher.safetensors", CLASSES)
    shutil.copy(teacher, tmp_path / "twin.safetensors")
    return teacher, tmp_path / "twin.safetensors", stored(tmp_path / "student.safetensors", CLASSES, seed=1)


def stored_with(path, seed):
    from tests.small import prior_of
    from undiffuse.checkpoints import save

    save(path, prior_of(CLASSES, seed), CLASSES, {})
    return path


@pytest.fixture
def student(tmp_path):
    return stored_with(tmp_path / "other.safetensors", 1)


def numbers_of(given):
    """Without the drawing."""
    recorded = ended(record(given))
    return measured(recorded.trajectories, len(recorded.drawing.labels))


def test_the_same_prior_is_at_no_distance_and_another_is(tmp_path, priors, student):
    found = numbers_of(config(tmp_path, *priors[:2], student))
    (against,) = against_table(found)
    twin, other = (dict(zip(("name", *range(1, 10)), row, strict=True)) for row in against.rows)
    assert twin["name"] == "twin" and [twin[i] for i in (1, 2, 3, 4, 7)] == [0, 0, 0, 0, 0]
    assert twin[5] == twin[6] and twin[8] == twin[9]  # of halves: at the floor, exactly
    assert all(other[i] > 0 for i in (1, 3, 4, 7))
    assert not found.others[0].states.any() and not found.others[0].estimates.any()
    assert found.others[1].estimates.min() > 0
    geometry = geometry_table(found).rows
    assert geometry[0][1:] == geometry[1][1:] != geometry[2][1:]


def test_the_order_of_the_pictures_is_no_matter(tmp_path, priors, student):
    teacher, other = ended(record(config(tmp_path, priors[0], student))).trajectories
    order = torch.tensor([3, 4, 5, 0, 1, 2])  # classes in turn, as before
    turned = [
        replace(it, states=it.states[:, order], estimates=it.estimates[:, order]) for it in (teacher, other)
    ]
    one, two = measured((teacher, other), 3), measured(turned, 3)
    assert torch.equal(one.others[0].states[:, order], two.others[0].states)
    assert torch.allclose(one.sets[0].paired, two.sets[0].paired, rtol=1e-12)
    assert torch.allclose(one.sets[0].energy, two.sets[0].energy, rtol=1e-9)


def test_batches_are_no_matter(tmp_path, priors):
    whole, parts = (ended(record(config(tmp_path, priors[0], batch=size))).trajectories[0] for size in (6, 4))
    assert torch.allclose(
        whole.states, parts.states, atol=1e-4
    )  # of float32 sums at sigma 80 over other batches
    assert torch.allclose(whole.guess.length, parts.guess.length, rtol=1e-3)


def test_the_report_is_one_page_with_files_beside_it(tmp_path, priors, student, monkeypatch, capsys):
    monkeypatch.setattr(
        sys, "argv",
        ["undiffuse", "analyse", "trajectories", str(priors[0]), str(student), "--n", "6", "--steps", "8", "--embed",
         "pca,tsne", "--out", str(tmp_path / "out")],
    )  # fmt: skip
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 0
    page = (tmp_path / "out/report.html").read_text()
    assert (
        not re.search(r"(src|href)=\"(https?:)?//", page) and "#010203" not in page and "currentColor" in page
    )
    for name in re.findall(r'<a href="([^"#]+)"', page):
        assert (tmp_path / "out" / name).is_file()
    names = {"distance", "by_level", "shapes", "sets", "pca_2d", "pca_3d", "tsne_2d", "tsne_3d", "variance"}
    for name in names:
        assert "#010203" not in (tmp_path / f"out/figures/{name}.svg").read_text()
        assert (tmp_path / f"out/figures/{name}.png").read_bytes().startswith(b"\x89PNG")
        rows = list(csv.reader((tmp_path / f"out/figures/{name}.csv").open()))
        assert len(rows) > 2 and {len(row) for row in rows} == {len(rows[0])}
    told = json.loads((tmp_path / "out/analysis.json").read_text())
    assert told["sections"][0]["facts"]["priors"] == ["teacher", "other"]
    interactive = (tmp_path / "out/embedding.html").read_text()
    assert "Plotly.newPlot" in interactive and 'src="http' not in interactive
    assert "report.html" in capsys.readouterr().out


def test_what_was_stored_gives_the_same_numbers(tmp_path, priors, student):
    given, file = config(tmp_path, priors[0], student), tmp_path / "stored.safetensors"
    first = ended(record(given))
    store.write_trajectories(file, first.drawing, first.trajectories)
    again, before = numbers_of(config(tmp_path, stored=file)), numbers_of(given)
    assert geometry_table(again) == geometry_table(before) and against_table(again) == against_table(before)
    added = numbers_of(config(tmp_path, priors[1], stored=file))  # a third, beside the two
    rows = against_table(added)[0].rows
    assert [row[0] for row in rows] == ["other", "twin"] and rows[0] == against_table(again)[0].rows[0]
    assert rows[1][1] == 0
    with pytest.raises(ValueError, match="with seed 0, and these would have 3"):
        ended(record(config(tmp_path, priors[1], stored=file, seed=3)))
    with pytest.raises(ValueError, match="with n 6, and these would have 5"):
        ended(record(config(tmp_path, priors[1], stored=file, n=5)))


def test_a_frame_is_used_again(tmp_path, priors, student):
    frame, sketch = tmp_path / "frame.safetensors", Sketch((1, 8, 8), 64)
    teacher = ended(record(config(tmp_path, priors[0]))).trajectories[0]
    store.write_frame(frame, embedding.fitted(teacher.estimates), "estimates", sketch, teacher.label)
    found = {it.name: it for it in section_of(config(tmp_path, student, frame=frame)).figures}
    held, fitted_on = store.read_frame(frame, Sketch((1, 8, 8), 64))
    assert fitted_on == "teacher"
    (mine,) = ended(record(config(tmp_path, student))).trajectories
    first = held(mine.estimates[0, 0])[:2] / 2 / 8  # 64 numbers: the root mean square
    assert found["pca_2d"].csv.rows[0][3:] == pytest.approx(first.tolist(), rel=1e-6)
    with pytest.raises(ValueError, match="a frame of estimates; expected states"):
        section_of(config(tmp_path, student, frame=frame, of="states"))
    with pytest.raises(ValueError, match="frame of 1x8x8; expected 1x8x8 in 32"):
        store.read_frame(frame, Sketch((1, 8, 8), 32))


def broken(path, change):
    tensors = load_file(path)
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        meta = dict(file.metadata())
    change(tensors, meta)
    save_file(tensors, path, meta)


HOSTILE = {
    "another kind": (lambda t, m: m.update(undiffuse="{}"), "holds no trajectories of version 1"),
    "no header": (lambda t, m: m.clear(), "holds no trajectories"),
    "a later version": (
        lambda t, m: m.update(undiffuse=m["undiffuse"].replace('"version":1', '"version":2')), "version",
    ),
    "more pictures than it says": (lambda t, m: t.update({"0.states": t["0.states"][:, :3].clone()}), "expected"),
    "missing": (lambda t, m: t.pop("0.guess_chord"), "0.guess_chord is missing"),
    "not finite": (lambda t, m: t["0.estimates"].fill_(float("nan")), "not of finite"),
    "another type": (lambda t, m: t.update({"0.states": t["0.states"].double()}), "not of finite"),
    "levels that climb": (lambda t, m: t.update({"0.sigmas": t["0.sigmas"].flip(0).clone()}), "do not fall"),
    "huge numbers": (
        lambda t, m: m.update(undiffuse=re.sub(r'"n":\d+', '"n":99999999999', m["undiffuse"])), "drawing.n",
    ),
    "one picture": (lambda t, m: m.update(undiffuse=re.sub(r'"n":\d+', '"n":1', m["undiffuse"])), "drawing.n"),
    "an endless name": (
        lambda t, m: m.update(undiffuse=m["undiffuse"].replace('["teacher"]', '["' + "t" * 1001 + '"]')), "priors",
    ),
}  # fmt: skip


@pytest.mark.parametrize("change, said", HOSTILE.values(), ids=HOSTILE)
def test_files_that_are_not_what_they_say(tmp_path, priors, change, said):
    drawing = ended(record(config(tmp_path, priors[0])))
    path = tmp_path / "t.safetensors"
    store.write_trajectories(path, drawing.drawing, drawing.trajectories)
    broken(path, change)
    with pytest.raises(ValueError, match=re.escape(said)):
        store.read_trajectories(path)


def test_what_is_no_safetensors_file_is_refused(tmp_path):
    path = tmp_path / "t.safetensors"
    torch.save({"a": torch.ones(3)}, path)
    with pytest.raises(ValueError, match="cannot be read as safetensors"):
        section_of(config(tmp_path, stored=path))


def test_a_frame_whose_axes_are_none(tmp_path):
    from undiffuse.analysis.embedding import pca

    path, sketch = tmp_path / "f.safetensors", Sketch((1, 8, 8), 64)
    store.write_frame(path, pca(torch.randn(30, 64), 5), "states", sketch, "someone")
    assert store.read_frame(path, sketch)[1] == "someone"
    broken(path, lambda t, m: t["axes"].mul_(1.1))
    with pytest.raises(ValueError, match="not orthonormal"):
        store.read_frame(path, sketch)
    with pytest.raises(ValueError, match="has 5 axes; expected 6"):
        store.check_frame(path, "states", 6)


def test_a_student_of_few_steps_is_met_at_its_own_levels(tmp_path, priors):
    """Of four steps of DDIM: the teacher's grid holds them, and they are compared there and nowhere else."""
    own = (60.0, 5.0, 1.0, 0.1)
    distilled = changed(CLASSES, made_for=MadeFor(sampler="ddim", sigmas=own))
    path = stored(tmp_path / "few.safetensors", distilled)
    teacher, few = ended(record(config(tmp_path, priors[0], path))).trajectories
    assert few.levels.tolist() == pytest.approx([*own, 0.0], rel=1e-6)
    mine, theirs = common(teacher, few)
    assert theirs == list(range(5)) and teacher.sigmas[mine].tolist() == few.sigmas.tolist()
    assert len(teacher.levels) == 8 + 1  # as many as without: the nearest made room


def test_levels_make_room_for_those_of_students():
    grid = karras(6)
    assert torch.equal(merged(grid, []), grid)
    assert torch.equal(merged(grid, [grid]), grid)
    assert torch.allclose(merged(grid, [grid * (1 + 1e-9)]), grid)
    own = torch.tensor([100.0, 80.0, 0.5, 0.0], dtype=torch.float64)  # the first is too high
    found = merged(grid, [own, own])
    assert len(found) == len(grid) and 0.5 in found and (found.diff() < 0).all()
    assert (found != grid).sum() == 1
    many = torch.linspace(70, 1, 40, dtype=torch.float64)
    assert torch.isin(many, merged(grid, [many])).all() and merged(grid, [many])[0] == 80


def test_turning_and_movement_are_no_matter_of_the_grid():
    """A heading that turns by 1 radian for a factor e of sigma, and an estimate that moves by 3, at uneven levels."""
    levels = torch.tensor([8.0, 7.9, 3.0, 1.0, 0.9, 0.2, 0.0], dtype=torch.float64)
    log = levels[:-1].log()
    heading = torch.stack([log.cos(), log.sin()], 1)  # of the step that begins at each level
    points = torch.cat([torch.zeros(1, 2).double(), heading.cumsum(0)])[:, None]
    guess = geometry((3 * log)[:, None, None].expand(-1, 1, 2))
    it = Trajectories("it", levels, levels, points, points, geometry(points), guess)
    _, turns, moves = per_fold(it)
    assert torch.allclose(turns, torch.full((4, 1), 180 / torch.pi).double())
    assert torch.allclose(moves, torch.full((5, 1), 1.5).double())  # 3, with white - black = 1


@pytest.mark.parametrize(
    "other, said",
    [
        (PHOTO, "draws 3x8x8 and"),
        (changed(CLASSES, size=(16, 16)), "draws 1x16x16 and"),
        (changed(CLASSES, {"num_classes": 2}, num_classes=2, classes=("a", "b")), "has 2 classes"),
    ],
    ids=["channels", "size", "classes"],
)
def test_priors_that_cannot_be_compared(tmp_path, priors, other, said):
    path = stored(tmp_path / "odd.safetensors", other)
    with pytest.raises(ValueError, match=said):
        ended(open_subjects(config(tmp_path, priors[0]), [str(priors[0]), str(path)]))


def test_names_are_apart(tmp_path, priors):
    opened = [open_prior(str(priors[0])) for _ in range(2)]
    found = compared(config(tmp_path, priors[0]), opened)
    assert len({subject.label for subject in found.members}) == 2


def test_results_of_others_are_kept(tmp_path, priors, monkeypatch):
    monkeypatch.chdir(tmp_path)
    one, two = config(tmp_path, priors[0], out=None), config(tmp_path, priors[0], out=None, seed=1)
    places = [run.free("trajectories", one)]
    for given in (one, two):
        folder = run.free("trajectories", given)
        folder.mkdir(parents=True)
        told = json.dumps({"settings": run.settings("trajectories", given)})
        (folder / "analysis.json").write_text(told)
    places += [run.free("trajectories", given) for given in (one, two)]
    assert [place.name for place in places] == ["trajectories", "trajectories", "trajectories-2"]
    with pytest.raises(ValueError, match="another analysis"):
        run.free("trajectories", config(tmp_path, priors[0], out=places[2]))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="holds other files"):
        run.free("trajectories", config(tmp_path, priors[0], out=tmp_path / "mine"))


def test_the_command_repeats_it(tmp_path, priors):
    given = config(tmp_path, priors[0], embed=("pca", "tsne"), store=False, seed=4, out=None)
    words = command_line(given, "undiffuse", "analyse", "trajectories").split()
    assert words[:4] == ["undiffuse", "analyse", "trajectories", str(priors[0])]
    assert words[4:] == ["--embed", "pca,tsne", "--no-store", "--n", "6", "--seed", "4", "--steps", "8"]


@pytest.mark.parametrize(
    "given, said",
    [
        ({"embed": ("pca", "pca")}, "says one of them twice"),
        ({"embed": ("magic",)}, "magic"),
        ({"dims": (4,)}, "dims"),
        ({"steps": 1}, "steps"),
    ],
)
def test_what_is_refused(given, said):
    with pytest.raises(ValueError, match=said):
        TrajectoriesConfig(priors=("photo",), **given)


def test_no_prior_at_all():
    with pytest.raises(ValueError, match="no priors"):
        TrajectoriesConfig()


def test_one_prior_without_embedding(tmp_path, priors):
    found = section_of(config(tmp_path, priors[0], embed=()))
    assert [file.name for file in found.attachments] == ["trajectories.safetensors"]
    assert {it.name for it in found.figures} == {"strip", "ends", "by_level", "shapes"}


def test_a_low_share_of_the_variance_is_said(tmp_path, priors):
    given = config(tmp_path, priors[0], of="states", dims=(2,))
    found = ended(record(given)).trajectories
    points = [it.scaled() for it in found]
    told = embedding.notes(found, points, embedding.fitted(points[0]), "teacher", given)
    assert any("Less than half of the variance" in note for note in told)


def test_progress_reaches_the_end(tmp_path, priors, student):
    seen = [event for event in record(config(tmp_path, priors[0], student)) if isinstance(event, Progress)]
    assert seen[-1].done == seen[-1].total == 12
    assert [event.done for event in seen] == sorted(event.done for event in seen)


def test_a_missing_package(tmp_path, monkeypatch):
    monkeypatch.setattr(embedding.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="needs the package umap-learn; install it with pip"):
        section_of(config(tmp_path, "photo", embed=("umap",)))


def test_the_dotted_line_is_of_two_pictures_of_one_class(tmp_path, priors):
    (teacher,) = ended(record(config(tmp_path, priors[0], n=5))).trajectories  # classes 0 1 2 0 1
    states = teacher.states.double() / 2
    wanted = (states[:, [3, 4]] - states[:, [0, 1]]).square().mean(-1).sqrt()
    found = measured((teacher,), 3).another
    assert torch.allclose(found.states, wanted, rtol=1e-12) and found.estimates.shape == wanted.shape
    assert measured((teacher,), 5).another.states.shape == (len(states), 4)  # no class has two: neighbours


def test_a_prior_that_always_draws_one_picture_has_no_share_of_its_distances(tmp_path, priors, student):
    teacher, other = ended(record(config(tmp_path, priors[0], student))).trajectories
    still = replace(teacher, states=teacher.states[:, :1].expand_as(teacher.states).clone())
    said = measured((still, other), 3).summary()
    assert "other ends" in said.replace(other.label, "other") and "%" not in said


def test_a_student_of_one_step_is_followed_and_stored(tmp_path, priors):
    one = changed(CLASSES, made_for=MadeFor(guidance=1.0, sampler="ddim", sigmas=(80.0,)))
    given = config(tmp_path, priors[0], stored(tmp_path / "one.safetensors", one), n=2, steps=2)
    recorded = ended(record(given))
    assert [len(it.levels) for it in recorded.trajectories] == [3, 2]
    assert torch.equal(recorded.trajectories[1].path.straightness, torch.ones(2, dtype=torch.float64))
    assert {figure.name for figure in section_of(given).figures} >= {
        "strip",
        "distance",
        "by_level",
        "shapes",
    }
    store.write_trajectories(tmp_path / "all.safetensors", recorded.drawing, recorded.trajectories)
    _, again = store.read_trajectories(tmp_path / "all.safetensors")
    assert again[1].guess.steps.shape == (0, 2)
    assert torch.equal(again[1].path.steps, recorded.trajectories[1].path.steps)


def test_one_prior_at_two_levels_has_a_page(tmp_path, priors):
    assert section_of(config(tmp_path, priors[0], n=2, steps=2)).figures


def test_a_prior_that_sees_a_picture_is_refused(tmp_path, priors):
    seeing = stored(tmp_path / "seeing.safetensors", changed(CLASSES, {"in_channels": 3}, low_res="sr2"))
    with pytest.raises(
        ValueError, match="seeing.safetensors' is conditioned on a picture; priors without one"
    ):
        section_of(config(tmp_path, priors[0], seeing))
