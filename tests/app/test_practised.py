"""A prior that practised restoration: `auto` takes what it practised, and other uses are said to be others."""

from pathlib import Path

import pytest
import torch

from tests.pictures import photograph
from tests.small import PHOTO, changed, stored
from undiffuse.app import presets
from undiffuse.app.events import Done, Note
from undiffuse.app.presets import builtin
from undiffuse.app.priors import open_prior
from undiffuse.app.restore import run
from undiffuse.app.restore.task import candidates, prepare
from undiffuse.checkpoints.native import MadeFor
from undiffuse.config import RestoreConfig
from undiffuse.core.images import write


@pytest.fixture
def practised(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(photograph(24, 32), tmp_path / "photo.png")
    return str(
        stored(
            tmp_path / "p.safetensors",
            changed(PHOTO, made_for=MadeFor(algorithm="dpir:mirror=true", calls=3)),
        )
    )


def restored(prior, **options):
    """(its method, the notes on what the prior was made for)."""
    events = list(
        run(RestoreConfig(image=Path("photo.png"), degrade="sr2", noise=0.05, prior=prior, **options))
    )
    method = str(next(event.result for event in events if isinstance(event, Done)).task.method)
    return method, [
        event.text for event in events if isinstance(event, Note) and "was made for" in event.text
    ]


def test_auto_is_what_it_practised(practised):
    method, notes = restored(practised)
    assert method.startswith("dpir(lam=0.23, mirror=True), 3 calls") and notes == []


@pytest.mark.parametrize(
    "options, asked",
    [
        (dict(steps=5), "dpir(lam=0.23, mirror=True), 5 calls"),
        (dict(algorithm="ddrm", steps=3), "ddrm"),
        (dict(algorithm="dpir:mirror=true"), "dpir(lam=0.23, mirror=True), 20 calls"),
        (dict(goal="perceptual"), "ddrm"),
        (dict(goal="psnr", draws=2), "ddrm"),
    ],
)
def test_other_uses_are_said(practised, options, asked):
    method, notes = restored(practised, **options)
    assert method.startswith(asked)
    assert (
        len(notes) == 1 and "was made for 3 calls of dpir:mirror=true; otherwise its teacher may" in notes[0]
    )


def test_what_was_practised_is_not_said_to_be_other(practised):
    assert restored(practised, algorithm="dpir:mirror=true", steps=3)[1] == []
    assert restored(practised, algorithm="dpir", steps=3)[1] == []  # other options of the same


def test_folders_say_it_once(practised):
    Path("two").mkdir()
    for name in ("a", "b"):
        write(photograph(24, 32), Path(f"two/{name}.png"))
    config = RestoreConfig(
        image=Path("two"), degrade="sr2", prior=practised, algorithm="ddrm", steps=2, out=Path("o")
    )
    notes = [event.text for event in run(config) if isinstance(event, Note)]
    assert sum("was made for" in note for note in notes) == 1


@pytest.mark.parametrize("name", ["photo-fast", "photo-small"])
def test_embedded_priors_that_practised(name):
    """They say it, and denoise a photograph at every level at least as well as leaving it as it is."""
    opened = open_prior(name)
    assert opened.config.made_for.calls == 4
    assert opened.config.made_for.algorithm.startswith("dpir_wiener")
    clean = photograph(48, 56)[None]
    for sigma in (0.05, 0.2, 1.0):
        noisy = clean + sigma * torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            found = opened.denoise(noisy, torch.tensor(sigma))
        assert (found - clean).square().mean() < 0.5 * sigma**2


def test_their_answers_are_not_photos_own():
    """Weights of their own: the same question has another answer."""
    x, sigma = photograph(16, 16)[None], torch.tensor(0.2)
    with torch.no_grad():
        assert not torch.equal(
            open_prior("photo-fast").denoise(x, sigma), open_prior("photo").denoise(x, sigma)
        )


@pytest.fixture
def one_as_good(monkeypatch):
    """Of the presets of photo-fast that for reductions with noise is as good as that of photo, and no other."""
    as_good = "psnr", "reduction", (0.035, 0.15)
    told = {"photo-fast": "photo"}
    found = tuple(
        one.model_copy(
            update={
                "instead_of": told.get(one.prior) if (one.goal, one.task, one.noise) == as_good else None,
                "instead_from": 0.0625,
            }
        )
        for one in builtin()
    )
    monkeypatch.setattr(presets, "builtin", lambda: found)


@pytest.mark.parametrize(
    "options, prior",
    [
        (dict(), "photo-fast"),
        (dict(noise=0.0), "photo"),
        (dict(degrade="sr4"), "photo-fast"),
        (dict(degrade="sr8"), "photo"),  # less is measured than it is as good from
        (dict(degrade="deblur_gauss"), "photo"),
        (dict(degrade="gray"), "photo"),  # of no kind that presets know
        (dict(goal="perceptual"), "photo"),
        (dict(draws=2), "photo"),
        (dict(steps=2), "photo"),
        (dict(algorithm="dpir"), "photo"),
        (dict(prior="photo"), "photo"),
        (dict(image=Path("gray.png")), "photo-gaussian"),
    ],
)
def test_the_prior_auto(one_as_good, tmp_path, options, prior):
    """photo; photo-fast where its preset is as good and no more is asked for; a closed form for other channels."""
    picture = photograph(24, 32)
    write(picture, tmp_path / "photo.png")
    write(picture.mean(0, keepdim=True), tmp_path / "gray.png")
    given = {"image": Path("photo.png"), "degrade": "sr2", "noise": 0.05, **options}
    config = RestoreConfig(**{**given, "image": tmp_path / given["image"]})
    opened = {}
    task = prepare(config, opened)
    assert (task.opened.name, task.config.prior) == (prior, prior)
    assert prior in candidates(config) and set(opened) <= set(candidates(config))


def test_a_folder_with_the_prior_auto_has_no_notes_of_practice(one_as_good, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("two").mkdir()
    write(photograph(24, 32), Path("two/a.png"))
    write(photograph(24, 32).mean(0, keepdim=True), Path("two/b.png"))
    for number, options in enumerate([{}, {"algorithm": "dpir", "steps": 2}]):
        config = RestoreConfig(
            image=Path("two"), degrade="sr2", noise=0.05, out=Path(f"o{number}"), **options
        )
        events = list(run(config))
        assert not any(isinstance(event, Note) and "made for" in event.text for event in events)
        priors = {row["image"]: row["prior"] for row in events[-1].result.rows}
        assert priors == {"a.png": "photo" if options else "photo-fast", "b.png": "photo-gaussian"}
