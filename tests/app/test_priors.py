"""A prior by name or file, and restoring with a network."""

import hashlib
import json

import pytest
import torch

from tests.pictures import photograph
from tests.small import CLASSES, PHOTO, changed, prior_of, stored
from undiffuse.app.priors import Opened, check_guidance, denoiser, label_of, levels, open_prior
from undiffuse.app.sizes import WHOLE, check_shape, in_windows
from undiffuse.core.images import write
from undiffuse.priors import class_guided
from undiffuse.registry import PRIORS, load_plugin

RGB_CLASSES = changed(CLASSES, {"in_channels": 3, "out_channels": 3}, channels=3)


def test_by_name():
    opened = open_prior("photo-gaussian")
    assert opened.sha256 is None and opened.num_classes is None and str(opened) == "photo-gaussian prior"
    check_shape(opened, (3, 5, 7))


def test_by_file_and_by_run(tmp_path):
    path = stored(tmp_path / "run" / "prior.safetensors", PHOTO)
    for text in (str(path), str(tmp_path / "run")):
        opened = open_prior(text)
        assert opened.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
        assert opened.config == PHOTO and opened.facts["steps"] == 7
        assert not opened.denoise.training
        assert opened.sha256[:12] in str(opened) and "licence made up" in str(opened)


def test_neither_name_nor_path(tmp_path):
    with pytest.raises(ValueError, match=r"did you mean 'photo-gaussian'\?.*or give a file of weights"):
        open_prior("photo-gausian")
    with pytest.raises(ValueError, match="such as the published 256x256_diffusion, or a run"):
        open_prior("256x256_difusion")
    with pytest.raises(ValueError, match="no prior at .*folder of a run"):
        open_prior(str(tmp_path))


PLUGIN = """
from typing import Annotated
from pydantic import Field
from undiffuse.registry import PRIORS

@PRIORS.register("opt", summary="independent pixels", example="--prior opt:var=0.3")
def opt(*, var: Annotated[float, Field(gt=0)] = 0.25):
    return lambda x, sigma: x / (1 + sigma.reshape(-1, 1, 1, 1) ** 2 / var)
"""


@pytest.fixture
def opt(tmp_path):
    """A plugin with a prior that is a plain function, with an option."""
    path = tmp_path / "opt.py"
    path.write_text(PLUGIN)
    return path


def test_options_of_a_prior_by_name(opt):
    load_plugin(opt)
    x, sigma = torch.ones(1, 1, 2, 2), torch.tensor(1.0)
    answers = {
        ("opt", None): 1 / 5,
        ("opt:var=1", None): 1 / 2,
        ("opt:1", None): 1 / 2,
        ("opt", "var=1"): 1 / 2,
    }
    for (text, options), expected in answers.items():
        opened = open_prior(text, options)
        assert opened.name == text and opened.denoise(x, sigma).eq(expected).all()
    assert len({open_prior(*asked).mark for asked in answers}) == 4
    for text, options, said in (
        ("opt:var=-1", None, "option var='-1' of 'opt'"),
        ("opt:vr=1", None, "'opt' has no option 'vr'; did you mean 'var'"),
        ("opt:var=1", "var=2", "'var' is given twice"),
        ("photo:var=1", None, "'photo' has no option 'var'"),
        ("photo", "var=1", "'photo' has no options"),
        ("ot:var=1", None, "no prior named 'ot:var=1'.* or give a file of weights"),
    ):
        with pytest.raises(ValueError, match=said):
            open_prior(text, options)


@pytest.mark.parametrize(
    ("command", "options", "place"),
    [("sample", ["--steps", 2], "samples"), ("compare", ["--samplers", "ddim:2", "--fine", 4], "compare")],
)
def test_options_in_the_name_of_a_folder(undiffuse, opt, tmp_path, monkeypatch, command, options, place):
    """None of what Windows has no folders with."""
    monkeypatch.chdir(tmp_path)
    arguments = ["opt: var=1", *options, "--n", 1, "--size", "8x8", "--plugin", opt]
    assert undiffuse(command, *arguments).code == 0
    assert [path.name for path in (tmp_path / place).iterdir()] == ["opt_var=1"]


def test_a_file_goes_before_a_name_with_options(opt, tmp_path, monkeypatch):
    load_plugin(opt)
    monkeypatch.chdir(tmp_path)
    stored(tmp_path / "opt:var=1,a.safetensors", PHOTO)
    assert open_prior("opt:var=1,a.safetensors").config == PHOTO


@pytest.mark.parametrize("command", ["likelihood", "bench", "compare", "doctor", "sample", "restore"])
def test_a_prior_that_is_a_plain_function(undiffuse, tmp_path, opt, command):
    (tmp_path / "pictures").mkdir()
    for i in range(4):
        write(photograph(12, 12).roll(i, 2), tmp_path / f"pictures/{i}.png")
    data, out = tmp_path / "pictures", tmp_path / "out"
    arguments = {
        "likelihood": ["--data", data, "--steps", 2, "--size", "8x8"],
        "bench": [
            "--baselines",
            "none",
            "--data",
            data,
            "--tasks",
            "deno",
            "--noise",
            0.1,
            "--size",
            8,
            "--calls",
            2,
            "--out",
            out,
        ],
        "compare": ["--samplers", "ddim:2", "--fine", 4, "--n", 2, "--size", "8x8", "--out", out],
        "doctor": ["--size", "8x8"],
        "sample": ["--size", "8x8", "--n", 1, "--steps", 2, "--out", out],
        "restore": [data / "0.png", "--degrade", "deno", "--noise", 0.1, "--steps", 2, "--out", out],
    }[command]
    prior = ["opt"] if command in ("likelihood", "compare", "sample") else ["--prior", "opt"]
    done = undiffuse(command, *prior, *arguments, "--plugin", opt)
    assert done.code == 0, done.err


@pytest.mark.parametrize(
    ("given", "shown"), [("None", "NoneType"), ("3", "int"), ("torch.nn.Conv2d", "Conv2d")]
)
def test_a_factory_that_gives_no_prior(undiffuse, tmp_path, given, shown):
    text = PLUGIN.replace("lambda x, sigma: x / (1 + sigma.reshape(-1, 1, 1, 1) ** 2 / var)", given)
    (tmp_path / "opt.py").write_text("import torch\n" + text)
    done = undiffuse("doctor", "--prior", "opt", "--plugin", tmp_path / "opt.py")
    assert done.code == 2 and f"the prior 'opt' is {shown}; expected" in done.err


def test_a_function_keeps_the_variance_that_it_predicts(opt):
    prior = prior_of(PHOTO)
    PRIORS.register("given", summary="", example="")(lambda: prior.given())
    assert hasattr(open_prior("given").denoise, "predict")
    load_plugin(opt)
    assert not hasattr(open_prior("opt").denoise, "predict")


def test_shapes_that_a_network_takes(tmp_path):
    photo = open_prior(str(stored(tmp_path / "p.safetensors", PHOTO)))
    ddpm = open_prior(str(stored(tmp_path / "d.safetensors", CLASSES)))
    check_shape(photo, (3, 13, 7))
    check_shape(ddpm, (1, 10, 6))
    with pytest.raises(ValueError, match="has 1 channel and .* takes 3"):
        check_shape(photo, (1, 8, 8))
    with pytest.raises(ValueError, match="is 9x10 and .* sides that 2 divides; pad it to 10x10"):
        check_shape(ddpm, (1, 9, 10))


def opened_of(config, name="made up"):
    return Opened(prior_of(config), name, config=config)


def told(opened, shape, window=None):
    return in_windows(opened, opened.denoise, shape, window)[1]


def test_a_convolutional_network_sees_all_of_a_picture_or_windows():
    opened = opened_of(PHOTO)
    side = int(WHOLE**0.5)
    for shape in ((3, side, side), (3, 1, WHOLE), (3, 5, 7)):
        denoise, said = in_windows(opened, opened.denoise, shape)
        assert denoise is opened.denoise and said is None
    assert told(opened, (3, side + 1, side)) == "the prior sees 9 windows of 512x512"
    assert told(opened, (3, 3000, 4000)) == "the prior sees 63 windows of 512x512"
    assert told(opened, (3, 1, WHOLE + 1)).endswith("windows of 512x512")


def test_a_network_of_one_size_sees_windows_of_it():
    opened = opened_of(CLASSES)
    assert told(opened, (1, 8, 8)) is None
    assert told(opened, (1, 5, 8)) == "the prior sees one window of 8x8"
    denoise, said = in_windows(opened, denoiser(opened, 1, 3.0), (1, 13, 21))
    x = torch.linspace(-1, 1, 2 * 13 * 21).reshape(2, 1, 13, 21)
    assert said == "the prior sees 12 windows of 8x8" and denoise(x, torch.tensor(0.5)).shape == x.shape
    other, _ = in_windows(opened, denoiser(opened, 2, 3.0), (1, 13, 21))
    assert not torch.allclose(denoise(x, torch.tensor(0.5)), other(x, torch.tensor(0.5)))


def test_a_network_without_a_size_sees_the_picture_continued():
    opened = opened_of(changed(CLASSES, size=None))
    assert opened.prior is not None and opened.prior.size is None
    assert told(opened, (1, 10, 6)) is None
    denoise, said = in_windows(opened, opened.denoise, (1, 9, 10))
    assert said == "the prior sees one window of 10x10"
    x = torch.linspace(-1, 1, 90).reshape(1, 1, 9, 10)
    below = torch.cat((x, x[:, :, -2:-1]), 2)  # reflected about the last row
    sigma = torch.tensor(0.5)
    assert torch.equal(denoise(x, sigma), opened.denoise(below, sigma)[:, :, :9])


def test_a_window_of_the_users():
    photo, ddpm, closed = opened_of(PHOTO), opened_of(CLASSES), open_prior("photo-gaussian")
    assert told(closed, (3, 3000, 4000)) is None
    assert told(photo, (3, 20, 40), 16) == "the prior sees 8 windows of 16x16"
    assert told(photo, (3, 16, 16), 16) is None
    assert told(ddpm, (1, 13, 12), 10) == "the prior sees 4 windows of 10x10"
    for opened, shape, window, said in (
        (photo, (3, 20, 40), 18, "--window 18; .* multiple of 4: choose 20"),
        (ddpm, (1, 8, 8), 0, "--window 0; .* multiple of 2: choose 2"),
        (ddpm, (1, 8, 8), -8, "--window -8; .* multiple of 2: choose 2"),
        (closed, (3, 8, 8), 16, "takes any picture whole: leave it out"),
        (photo, (1, 8, 8), None, "has 1 channel and .* takes 3"),
    ):
        with pytest.raises(ValueError, match=said):
            told(opened, shape, window)


def test_a_window_of_the_users_is_no_larger_than_the_picture():
    """Not the picture continued to the window, which would be worked on as well."""
    photo, ddpm = opened_of(PHOTO), opened_of(CLASSES)
    for opened, shape in ((photo, (3, 13, 40)), (ddpm, (1, 8, 8))):
        denoise, said = in_windows(opened, opened.denoise, shape, 64)
        assert denoise is opened.denoise and said == "the prior sees the whole picture: --window 64 is larger"
    assert told(photo, (3, 13, 40), 32) == "the prior sees 2 windows of 32x32"
    assert (
        told(ddpm, (1, 5, 8), 64) == told(ddpm, (1, 5, 8)) == "the prior sees one window of 8x8"
    )  # its size
    any_size = opened_of(changed(CLASSES, size=None))
    assert (
        told(any_size, (1, 9, 13), 64) == told(any_size, (1, 9, 13)) == "the prior sees one window of 10x14"
    )


def test_labels(tmp_path):
    opened = open_prior(str(stored(tmp_path / "d.safetensors", CLASSES)))
    assert [label_of(opened, text) for text in ("0", "2", "bag", "ankle boot", "none")] == [0, 2, 1, 0, None]
    for text in ("3", "-1", "shirt", "1.0", "\u0661", "9" * 30):
        with pytest.raises(ValueError, match=r"classes 0 \(ankle boot\), 1 \(bag\), 2 \(coat\)"):
            label_of(opened, text)
    with pytest.raises(ValueError, match="has no classes"):
        label_of(open_prior("photo-gaussian"), "0")
    strict = changed(CLASSES, {"null_class": False}, null_class=False)
    opened = open_prior(str(stored(tmp_path / "s.safetensors", strict)))
    for label, guidance, said in ((None, 1.0, "needs a class"), (1, 2.0, "class dropout")):
        with pytest.raises(ValueError, match=said):
            check_guidance(opened, label, guidance)
    with pytest.raises(ValueError, match="class dropout"):
        label_of(opened, "none")


def test_one_label_for_any_batch(tmp_path):
    opened = open_prior(str(stored(tmp_path / "d.safetensors", CLASSES)))
    denoise = denoiser(opened, 1, 3.0)
    for batch in (1, 4):
        x = torch.linspace(-1, 1, batch * 64).reshape(batch, 1, 8, 8)
        expected = class_guided(opened.prior, torch.full((batch,), 1), scale=3.0)(x, torch.tensor(0.5))
        assert torch.equal(denoise(x, torch.tensor(0.5)), expected)


def test_levels_are_those_that_the_prior_knows(tmp_path):
    edm = levels(open_prior(str(stored(tmp_path / "p.safetensors", PHOTO))), (3, 8, 8), 5)
    assert edm[0] == pytest.approx(80) and edm[-2] == pytest.approx(0.002) and edm[-1] == 0
    opened = open_prior(str(stored(tmp_path / "d.safetensors", CLASSES)))
    low, high = opened.prior.sigma_range
    assert high > 100
    grid = levels(opened, (1, 8, 8), 5, limit=1000)
    assert grid[0] == pytest.approx(high) and grid[-2] == pytest.approx(low)
    assert levels(opened, (1, 8, 8), 5)[0] == pytest.approx(80)
    opened = open_prior("photo-gaussian")
    assert levels(opened, (3, 99, 99), 5)[0] == pytest.approx(opened.denoise.sigma_max((3, 99, 99)))


def test_restore_with_a_run_at_any_size(undiffuse, tmp_path):
    stored(tmp_path / "run" / "prior.safetensors", PHOTO)
    write(photograph(27, 33), tmp_path / "p.png")
    done = undiffuse(
        "restore", tmp_path / "p.png", "--degrade", "inp", "--prior", tmp_path / "run", "--steps", 3,
        "--out", tmp_path / "o",
    )  # fmt: skip
    assert done.code == 0 and "dpir" in done.err and "sha256" in done.err
    record = json.loads((tmp_path / "o/p.json").read_text())
    digest = hashlib.sha256((tmp_path / "run/prior.safetensors").read_bytes()).hexdigest()
    assert record["prior"]["sha256"] == digest and record["label"] is None and record["calls"] == 3
    assert record["sigmas"][0] == pytest.approx(2)
    assert digest[:12] in (tmp_path / "o/report.html").read_text()


def test_restore_of_a_size_that_the_network_does_not_take(undiffuse, tmp_path):
    """In windows of its own size, the data kept by the operator, which sees the whole picture."""
    file = stored(tmp_path / "d.safetensors", RGB_CLASSES)
    write(photograph(27, 33), tmp_path / "p.png")
    done = undiffuse(
        "restore",
        tmp_path / "p.png",
        "--degrade",
        "inp",
        "--prior",
        file,
        "--steps",
        3,
        "--out",
        tmp_path / "o",
    )
    assert done.code == 0 and "windows of 8x8" in done.err
    certificate = json.loads((tmp_path / "o/p.json").read_text())["certificate"]
    assert certificate["verdict"] == "consistent"


def test_restore_towards_a_class(undiffuse, tmp_path, photo):
    file = stored(tmp_path / "d.safetensors", RGB_CLASSES)
    arguments = ["restore", photo, "--degrade", "sr4", "--prior", file, "--steps", 3]
    for name, extra in {"a": [], "b": ["--label", "coat"], "c": ["--label", 2, "--guidance", 4]}.items():
        assert undiffuse(*arguments, *extra, "--out", tmp_path / name).code == 0
    again = undiffuse(*arguments, "--label", 1, "--out", tmp_path / "t")
    assert again.code == 0 and undiffuse(*arguments, "--out", tmp_path / "t").code == 0
    assert len((tmp_path / "t/metrics.csv").read_text().splitlines()) == 3  # a row each
    found = {name: (tmp_path / name / "photo_restored.png").read_bytes() for name in "abc"}
    assert len(set(found.values())) == 3
    records = {name: json.loads((tmp_path / name / "photo.json").read_text()) for name in "abc"}
    assert [record["calls"] for record in records.values()] == [3, 3, 6]  # guidance asks twice
    record = records["c"]
    assert record["label"] == 2 and record["guidance"] == 4
    page = (tmp_path / "c/report.html").read_text()
    assert "class 2 (coat), guidance 4" in page and "mirror=False), 6 calls" in page
    again = undiffuse("analyse", "restore", tmp_path / "c", "--out", tmp_path / "again")
    assert again.code == 0 and "mirror=False), 6 calls" in again.err
    forecast = undiffuse(*arguments, "--label", 2, "--guidance", 4, "--out", tmp_path / "d", "--dry-run")
    assert "6 network calls" in forecast.out


@pytest.mark.parametrize(
    ("size", "channels", "extra", "said"),
    [
        ((28, 32), 1, [], "takes 3"),
        ((28, 32), 3, ["--label", "9"], "0 (ankle boot)"),
        ((28, 32), 3, ["--guidance", "2"], "no class is asked for; name one with --label"),
        ((28, 32), 3, ["--label", "1", "--guidance", "-2"], "guidance"),
        ((28, 32), 3, ["--prior", "nowhere"], "or give a file of weights"),
        ((28, 32), 3, ["--prior", "photo-gaussian", "--label", "1"], "has no classes"),
    ],
)
def test_refused_before_anything_is_written(undiffuse, tmp_path, size, channels, extra, said):
    file = stored(tmp_path / "d.safetensors", RGB_CLASSES)
    write(photograph(*size)[:channels], tmp_path / "p.png")
    out = tmp_path / "o"
    done = undiffuse(
        "restore", tmp_path / "p.png", "--degrade", "deno", "--noise", 0.1, "--prior", file, *extra, "--out", out
    )  # fmt: skip
    assert done.code == 2 and done.err.count("\n") == 1 and said in done.err
    assert not out.exists()


def test_a_prior_that_needs_a_picture(undiffuse, tmp_path, photo):
    conditioned = changed(PHOTO, {"in_channels": 7}, low_res="sr2")
    file = stored(tmp_path / "l.safetensors", conditioned)
    done = undiffuse("restore", photo, "--degrade", "sr2", "--prior", file, "--out", tmp_path / "o")
    assert done.code == 2 and "sample --low-res" in done.err
