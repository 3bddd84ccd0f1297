"""`undiffuse analyse attention`: maps by layer and level, the way left as it is, what is refused."""

import csv

import pytest
import torch

from tests.small import CLASSES, PHOTO, changed, prior_of, stored
from undiffuse.app.analyse import attention_figures
from undiffuse.app.analyse.attention import section, watched
from undiffuse.app.analyse.levels import shown
from undiffuse.app.analyse.subjects import open_subjects
from undiffuse.checkpoints import PriorConfig
from undiffuse.checkpoints.diffusers import export
from undiffuse.checkpoints.native import Checkpoint, MadeFor
from undiffuse.config.analyse.attention import AttentionConfig
from undiffuse.core.grids import karras

ADM = PriorConfig(
    network={
        "name": "adm", "width": 8, "multipliers": [1, 2], "blocks": 1, "attention": [0], "groups": 4, "heads": 2,
        "in_channels": 1, "out_channels": 1, "num_classes": 3, "null_class": True,
    },
    prediction="v", schedule="linear", channels=1, size=(8, 8), num_classes=3, null_class=True,
    classes=("ankle boot", "bag", "coat"),
)  # fmt: skip
DDPM = changed(CLASSES, {"attention": [0]})
LAYERS = ["input_blocks.1.1", "middle_block.1", "output_blocks.2.1", "output_blocks.3.1"]
QUICK = {"steps": 5, "levels": 3, "n": 3}


def ended(events):
    while True:
        try:
            next(events)
        except StopIteration as stop:
            return stop.value


def opened(file, **given):
    config = AttentionConfig(run=str(file), **{**QUICK, **given})
    return ended(open_subjects(config, (config.run,))), config


def seen(file, **given):
    return ended(watched(*opened(file, **given)))


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return stored(tmp_path_factory.mktemp("adm") / "p.safetensors", ADM)


def test_all_layers_at_all_levels(file):
    found = seen(file, query=("0:7", "3:3"))
    assert len(found.shots) == 3 and found.queries == ((0, 7), (3, 3))
    for shot in found.shots:
        assert [one.name for one in shot.layers] == LAYERS
        for one in shot.layers:
            assert one.entropy.shape == one.distance.shape == (3, 2)  # all pictures
            assert one.received.shape == (1, 2, *one.size) and one.queries.shape == (
                1,
                2,
                2,
                *one.size,
            )  # the first
            assert one.received.mean((2, 3)).numpy() == pytest.approx(1, abs=1e-5)
    sigmas = [shot.sigma for shot in found.shots]
    assert sigmas == sorted(sigmas, reverse=True)


def test_the_way_is_the_sampler_s_own(file):
    """To the bit, and what is shown lies on it."""
    subjects, config = opened(file, n=1)
    found = ended(watched(subjects, config))
    states = list(subjects.states(subjects.teacher, [0]))
    at = shown(subjects.sigmas, 3)
    for shot, number in zip(found.shots, at, strict=True):
        assert torch.equal(shot.x, states[number].x[0])
        assert torch.equal(shot.x0, states[number + 1].x0[0])  # what ddim's next step asked for


def test_batches_change_nothing(file):
    whole, parts = seen(file), seen(file, batch=2)
    for a, b in zip(whole.shots, parts.shots, strict=True):
        for one, other in zip(a.layers, b.layers, strict=True):
            torch.testing.assert_close(one.entropy, other.entropy, rtol=1e-4, atol=1e-5)  # float32 on the way
            torch.testing.assert_close(one.received, other.received, rtol=1e-4, atol=1e-4)


def test_other_classes_attend_otherwise(file):
    a, b = (seen(file, label=label, n=1) for label in ("bag", "coat"))
    assert "bag" in a.about and not torch.equal(a.shots[1].layers[0].received, b.shots[1].layers[0].received)


def test_a_distilled_prior_walks_its_own_levels(tmp_path):
    config = changed(ADM, made_for=MadeFor(sampler="ddim", sigmas=(8.0, 1.0)))
    found = seen(stored(tmp_path / "student.safetensors", config), n=1, levels=6)
    assert [shot.sigma for shot in found.shots] == [8.0, 1.0]


def test_levels_that_are_shown():
    sigmas = karras(50)
    at = shown(sigmas, 6)
    assert at[0] == 0 and at[-1] == 49 and len(at) == 6
    steps = sigmas[at].log().diff()
    assert steps.max() < 0.6 * steps.min()  # both negative: no step is 1.7 times another
    assert shown(karras(2), 6) == [0, 1]


def test_of_one_head_and_of_a_folder_of_diffusers(tmp_path):
    found = seen(stored(tmp_path / "p.safetensors", DDPM), n=1)
    assert [one.heads for one in found.shots[0].layers] == [1] * 4
    plain = changed(
        ADM, {"in_channels": 3, "out_channels": 3, "num_classes": None, "null_class": False, "heads": 1},
        channels=3, num_classes=None, null_class=False, classes=None,
    )  # fmt: skip
    export(Checkpoint(prior_of(plain), plain, {}), tmp_path / "theirs")
    found = seen(tmp_path / "theirs", n=1)
    assert [one.name for one in found.shots[0].layers] == LAYERS


def test_the_report(undiffuse, file, tmp_path):
    out = tmp_path / "out"
    ran = undiffuse(
        "analyse", "attention", file, "--label", "bag", "--n", 1, "--steps", 4, "--levels", 2, "--layers", 2,
        "--query", "2:5", "--out", out,
    )  # fmt: skip
    assert ran.code == 0 and "4 layers attend, 8 heads in all" in ran.out and "class 1 (bag)" in ran.out
    names = {path.stem for path in (out / "figures").glob("*.svg")}
    assert names == {"received", "from_2_5", "heads", "entropy", "distance"}
    with (out / "figures" / "from_2_5.csv").open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert len(rows) == 2 * 2 * 64  # two layers of 8 x 8 pixels at two levels
    assert sum(float(row["attention, even = 1"]) for row in rows) == pytest.approx(4 * 64, rel=1e-4)
    assert "--query 2:5" in (out / "report.html").read_text()


def test_the_layer_whose_heads_are_shown(file):
    layers = seen(file, n=1).shots[0].layers
    assert attention_figures.number_of(layers, None) == 3  # the last of those with 8 x 8 pixels
    assert attention_figures.number_of(layers, "middle_block.1") == 1


def test_what_is_said_of_a_network(file, monkeypatch):
    monkeypatch.setattr(attention_figures, "figures", lambda *_: ())  # they take a second each
    found = section(seen(file))
    assert [row[0] for row in found.tables[0].rows] == LAYERS
    assert all(0 < row[4] <= row[3] <= row[5] <= 1 for row in found.tables[0].rows)
    assert len(found.facts["entropy"]) == 3


def test_no_attention(undiffuse, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    photo = stored(tmp_path / "photo.safetensors", PHOTO)
    for run, said in ((photo, "photo network, which has no attention"), ("photo-gaussian", "closed form")):
        ran = undiffuse("analyse", "attention", run, "--size", "8x8")
        assert ran.code == 2 and said in ran.err.splitlines()[-1] and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--layer", "nowhere"), "--layer nowhere; choose from input_blocks.1.1, middle_block.1"),
        (("--query", "8:0"), "8,0 lies outside the picture of 8x8"),
        (("--query", "3,4"), "query"),
    ],
)
def test_refused(undiffuse, file, tmp_path, monkeypatch, arguments, said):
    monkeypatch.chdir(tmp_path)
    ran = undiffuse("analyse", "attention", file, "--n", 1, "--steps", 3, *arguments)
    assert ran.code == 2 and said in ran.err.splitlines()[-1] and not (tmp_path / "out").exists()


def test_a_network_that_attends_nowhere(file, monkeypatch):
    monkeypatch.setattr("undiffuse.app.analyse.attention.attention", lambda net, call, **_: (call(), []))
    with pytest.raises(ValueError, match="has no layer that attends"):
        seen(file)
