"""`undiffuse evaluate`: sets of pictures against sets, statistics, and networks of every kind."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from torch import nn

from tests.metrics.test_networks import positive
from tests.networks.weights import seeded
from tests.pictures import smooth
from undiffuse.app.evaluate import measure, run
from undiffuse.app.evaluate.networks import seen
from undiffuse.app.evaluate.sources import open_source
from undiffuse.app.events import Done, Note, Progress, Saved
from undiffuse.config.evaluate import EvaluateConfig
from undiffuse.core.images import rounded, to_bytes, write
from undiffuse.data.transforms import resized, signed
from undiffuse.metrics.dinov2 import DINOv2
from undiffuse.metrics.features import frechet, kid, moments, prdc
from undiffuse.metrics.inception import Inception


def pictures(folder, count, seed, shift=0.0):
    """Smooth random pictures of 24x24, as files and as (count, 3, 24, 24) of what the files hold."""
    folder.mkdir()
    x = rounded((smooth(count, 3, 24, 24, seed=seed, dtype=torch.float32) + shift).clamp(-1, 1))
    for i, image in enumerate(x):
        write(image, folder / f"{i:03}.png")
    return x


def pixels(x, side):
    return nn.functional.adaptive_avg_pool2d(x, side).flatten(1)


def evaluated(samples, reference, **given):
    """Result and notes."""
    events = list(run(EvaluateConfig(samples=samples, reference=reference, **given)))
    assert any(isinstance(event, Progress) for event in events)
    assert any(isinstance(event, Saved) for event in events)
    done = [event.result for event in events if isinstance(event, Done)]
    return done[0], [event.text for event in events if isinstance(event, Note)]


@pytest.fixture
def sets(tmp_path):
    ours = pictures(tmp_path / "ours", 14, 0, 0.2)
    theirs = pictures(tmp_path / "theirs", 17, 1)
    return tmp_path, ours, theirs


def test_pixels_are_compared_as_the_metrics_say(sets):
    place, ours, theirs = sets
    result, notes = evaluated(place / "ours", place / "theirs", features="pixels:4", out=place / "out")
    x, y = pixels(ours, 4), pixels(theirs, 4)
    assert result.values["fd"] == pytest.approx(frechet(*moments(x), *moments(y)), rel=1e-5)  # float32 means
    expected = kid(x, y)
    assert result.values["kd"]["low"] == pytest.approx(expected.low, rel=1e-4)
    assert set(result.values) == {"fd", "kd", "precision", "recall", "density", "coverage"}
    assert any("not the published network" in note for note in notes)
    assert any("14 against 17 pictures: below 10000" in note for note in notes)
    record = json.loads((place / "out/result.json").read_text())
    assert record["metrics"] == result.values
    assert record["protocol"]["samples"]["count"] == 14 and record["protocol"]["dimensions"] == 48
    assert record["protocol"]["copies"] == 0 and not record["protocol"]["published"]


def test_kid_comes_with_fid_of_few_pictures(sets):
    place, _, _ = sets
    result, _ = evaluated(
        place / "ours", place / "theirs", features="pixels:4", metrics=("fid",), out=place / "out"
    )
    assert set(result.values) == {"fd", "kd"}


def test_fid_of_two_pictures_asks_for_no_kid(sets):
    place, _, _ = sets
    result, _ = evaluated(
        place / "ours",
        place / "theirs",
        features="pixels:1",
        only="00[01].png",
        metrics=("fid",),
        out=place / "o",
    )
    assert set(result.values) == {"fd"} and result.values["fd"] > 0


def test_too_few_pictures_are_refused_before_features_are_computed(sets):
    place, _, _ = sets
    with pytest.raises(
        ValueError, match=r"'.*ours' holds 14 picture.*prdc with --neighbours 20 needs at least 21"
    ):
        evaluated(place / "ours", place / "theirs", features="pixels:1", neighbours=20, out=place / "out")
    with pytest.raises(ValueError, match="--pairs 10 with --neighbours 10; .* give --pairs 11 or more"):
        evaluated(
            place / "ours", place / "theirs", features="pixels", neighbours=10, pairs=10, out=place / "out"
        )
    with pytest.raises(ValueError, match="more than 20 pictures"):
        evaluated(place / "ours", place / "theirs", features="pca:20", out=place / "out")
    assert not (place / "out").exists()


def test_pictures_of_another_size_are_told(sets):
    place, ours, _ = sets
    small = place / "small"
    small.mkdir()
    for i in range(6):
        write(ours[i, :1, :12, :12], small / f"{i}.png")
    _, notes = evaluated(small, place / "theirs", features="pixels:2", metrics=("fid",), out=place / "out")
    assert any("12x12 and 24x24 pixels" in note for note in notes)


def test_pairs_are_watched(monkeypatch):
    monkeypatch.setattr("undiffuse.metrics.features.ENTRIES", 64)
    x, y = torch.randn(30, 4).double(), torch.randn(20, 4).double()
    sets = measure.Compared(x, None, y, None, 1000, 3)
    steps = measure.measured(("kid", "prdc"), sets, False)
    seen = []
    while True:
        try:
            seen.append(next(steps))
        except StopIteration as end:
            values = end.value
            break
    for name in ("kid", "prdc"):
        done = [one.done for one in seen if one.label == f"computing {name}"]
        assert done[0] == 0 and done[-1] == measure.PARTS and done == sorted(done) and len(done) > 10
    assert values["kd"]["value"] == kid(x, y).value
    assert values["precision"] == prdc(x, y, 3)["precision"]


def test_arrays_are_the_same_pictures(sets):
    place, ours, _ = sets
    values = ((ours + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    np.savez(place / "ours.npz", values)
    given = {"features": "pixels:6", "metrics": ("fid", "kid", "prdc")}
    folder, _ = evaluated(place / "ours", place / "theirs", out=place / "a", **given)
    array, _ = evaluated(place / "ours.npz", place / "theirs", out=place / "b", **given)
    for name, value in folder.values.items():
        assert array.values[name] == pytest.approx(value, rel=1e-9)  # summed in another order


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_statistics_take_the_place_of_pictures(sets, save):
    place, ours, theirs = sets
    mean, covariance = moments(pixels(theirs, 4))
    save(place / "stats.npz", mu=mean.numpy(), sigma=covariance.numpy())
    found, _ = evaluated(place / "ours", place / "stats.npz", features="pixels:4", out=place / "out")
    expected = frechet(*moments(pixels(ours, 4)), mean, covariance)
    assert found.values == {"fd": pytest.approx(expected, rel=1e-5)}
    with pytest.raises(ValueError, match="kid needs the pictures"):
        evaluated(place / "ours", place / "stats.npz", features="pixels:4", metrics=("kid",))
    with pytest.raises(ValueError, match="give it as --reference"):
        evaluated(place / "stats.npz", place / "theirs", features="pixels:5")


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_statistics_of_another_width_are_refused_before_features_are_computed(sets, weights):
    place, _, _ = sets
    np.savez(place / "stats.npz", mu=np.zeros(48), sigma=np.eye(48))
    told = r"stats.npz' holds statistics of 48 features, and {} gives {}; give those of the same network"
    given = {"metrics": ("fid",), "out": place / "out"}
    for name, width, more in (("pixels:5", 75, {}), ("inception", 2048, {"weights": weights})):
        with pytest.raises(ValueError, match=told.format(name, width)):
            evaluated(place / "ours", place / "stats.npz", features=name, **more, **given)
    means = place / "means.pt"
    torch.jit.save(torch.jit.script(Means()), means)
    with pytest.raises(ValueError, match=told.format(".*means.pt", 3)):  # tells by its first answer
        evaluated(
            place / "ours", place / "stats.npz", features=str(means), size=24, range="-1..1", batch=1, **given
        )
    assert not (place / "out").exists()


def test_the_order_of_files_is_of_no_account(sets):
    place, ours, _ = sets
    (place / "turned").mkdir()
    for i in range(len(ours)):
        shutil.copy(place / f"ours/{i:03}.png", place / f"turned/{len(ours) - i:03}.png")
    given = {"features": "pixels:6", "out": place / "out"}
    first, _ = evaluated(place / "ours", place / "theirs", **given)
    second, _ = evaluated(place / "turned", place / "theirs", **given)
    assert second.protocol["samples"]["sha256"] == first.protocol["samples"]["sha256"]
    assert second.values == first.values
    few, _ = evaluated(place / "ours", place / "theirs", pairs=10, metrics=("fid", "kid"), **given)
    again, _ = evaluated(place / "turned", place / "theirs", pairs=10, metrics=("fid", "kid"), **given)
    assert again.values == few.values
    assert few.values["fd"] == first.values["fd"] and few.values["kd"] != first.values["kd"]


def test_a_stopped_run_goes_on(sets, monkeypatch):
    """Parts that are on disk are not computed again, unless a picture of theirs or the part itself changed."""
    place, ours, _ = sets
    monkeypatch.setattr("undiffuse.app.evaluate.cache.PART", 4)
    whole, notes = evaluated(place / "ours", place / "theirs", features="pixels:4", out=place / "whole")
    assert not any("already" in note for note in notes)
    config = EvaluateConfig(
        samples=place / "ours", reference=place / "theirs", features="pixels:4", out=place / "out"
    )
    events = run(config)
    for event in events:
        if isinstance(event, Progress) and event.done == 12:
            events.close()  # as an interrupt does; two parts of the reference are on disk
            break
    assert not (place / "out/result.json").exists()
    again, notes = evaluated(place / "ours", place / "theirs", features="pixels:4", out=place / "out")
    assert "features of 8 pictures were there already" in notes
    assert again.values == whole.values
    broken = next((place / "out/features").iterdir())
    with safe_open(broken, framework="pt") as file:
        lost = len(file.get_tensor("features"))
    broken.write_bytes(b"half a file")
    again, notes = evaluated(place / "ours", place / "theirs", features="pixels:4", out=place / "out")
    assert f"features of {31 - lost} pictures were there already" in notes
    assert again.values == whole.values
    write(-ours[0], place / "ours/000.png")
    changed, notes = evaluated(place / "ours", place / "theirs", features="pixels:4", out=place / "out")
    assert "features of 27 pictures were there already" in notes  # all but the first part of four
    assert changed.values["fd"] != whole.values["fd"]


def test_what_is_no_sample_is_left_out(sets):
    place, _, _ = sets
    (place / "ours/sample.json").write_text("{}")
    for name in ("grid.png", "00000.png", "00001.png"):
        shutil.copy(place / "theirs/000.png", place / "ours" / name)
    assert len(open_source(place / "ours").pictures) == 2
    assert len(open_source(place / "theirs", "01*.png").pictures) == 7
    with pytest.raises(ValueError, match="a name like x"):
        open_source(place / "theirs", "x")


def test_copies_are_told(sets):
    place, _, _ = sets
    shutil.copy(place / "theirs/003.png", place / "ours/000.png")
    result, notes = evaluated(place / "ours", place / "theirs", features="pixels:4", out=place / "out")
    assert result.protocol["copies"] == 1
    assert any(note.startswith("1 of the pictures are in the reference") for note in notes)


def test_principal_components(sets):
    """All of them keep every distance; a few keep less of it."""
    place, ours, theirs = sets
    few, _ = evaluated(place / "ours", place / "theirs", features="pca:3", out=place / "out")
    x, y = pixels(ours, 16).double(), pixels(theirs, 16).double()
    _, _, directions = torch.linalg.svd(y - y.mean(0), full_matrices=False)
    x, y = x @ directions[:3].T, y @ directions[:3].T
    assert few.values["fd"] == pytest.approx(frechet(*moments(x), *moments(y)), rel=1e-4)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """As published, but drawn; with the counters of batch normalisation."""
    path = tmp_path_factory.mktemp("weights") / "inception.pth"
    torch.save(positive(seeded(Inception(), 401)).state_dict(), path)
    return path


def test_inception(sets, weights, undiffuse):
    place, ours, _ = sets
    for i in range(6, 17):
        (place / f"theirs/{i:03}.png").unlink()
        (place / f"ours/{i:03}.png").unlink(missing_ok=True)
    told = undiffuse(
        *("evaluate", place / "ours", "--reference", place / "theirs", "--weights", weights),
        *("--metrics", "fid,kid,is", "--out", place / "out"),
    )
    assert told.code == 0, told.err
    assert [line.split()[0] for line in told.out.splitlines()] == ["FID", "KID", "Inception"]
    record = json.loads((place / "out/result.json").read_text())
    assert record["protocol"]["dimensions"] == 2048 and len(record["protocol"]["sha256"]) == 64
    assert not record["protocol"]["published"]
    assert "not the published network" in told.err
    assert 1 <= record["metrics"]["is"]["value"] < 6  # at most the number of pictures
    clean, _ = evaluated(
        place / "ours", place / "theirs", weights=weights, resize="clean", metrics=("fid",), out=place / "out"
    )
    assert clean.values["fid"] != record["metrics"]["fid"]


def test_statistics_and_pictures_in_one_file(sets, weights, monkeypatch):
    """As in the published reference batches: FID takes the one, what compares picture by picture the other."""
    place, ours, theirs = sets
    values = ((theirs[:6] + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    told = {"mu": np.full(2048, 0.1), "sigma": np.eye(2048)}
    np.savez(place / "stats.npz", **told)
    np.savez(place / "both.npz", arr_0=values, **told)
    given = {"weights": weights, "only": "00[0-3].png", "out": place / "out"}
    alone, _ = evaluated(place / "ours", place / "stats.npz", metrics=("fid",), **given)
    both, _ = evaluated(place / "ours", place / "both.npz", metrics=("fid",), **given)
    assert both.values["fid"] == alone.values["fid"] and "kid" in both.values
    monkeypatch.setattr(sys.modules["undiffuse.app.evaluate.run"], "ENOUGH", 1)
    score, notes = evaluated(place / "ours", place / "both.npz", metrics=("fid", "is"), **given)
    assert score.values["fid"] == alone.values["fid"] and set(score.values) == {"fid", "is"}
    assert (
        "features of 4 pictures were there already" in notes
    )  # and the 6 of the reference are not looked at
    pixel, _ = evaluated(
        place / "ours", place / "both.npz", features="pixels:4", metrics=("fid",), out=place / "out"
    )
    expected = frechet(*moments(pixels(ours, 4)), *moments(pixels(theirs[:6], 4)))
    assert pixel.values["fd"] == pytest.approx(expected, rel=1e-5)


def test_clean_resizing_is_pillows_of_floats():
    """Parmar et al. 2022: bicubic with a filter, each channel as floats, cut off at the ends, not rounded."""
    image = (255 * smooth(3, 400, 310, seed=3).abs()).to(torch.uint8)
    found = (resized(signed(image), 299, 299) + 1) * 127.5
    for plane, channel in zip(image.numpy(), found, strict=True):
        shown = Image.fromarray(plane.astype(np.float32)).resize((299, 299), Image.Resampling.BICUBIC)
        expected = torch.from_numpy(np.array(shown)).clamp(0, 255)
        # of 255: torch has the coordinates in float32, good to 1e-5 of a pixel; a rounded byte would be 0.5 off
        assert (channel - expected).abs().max() < 0.01


def test_dinov2(sets):
    """Pictures through Pillow's resizing and a transformer of 2 blocks, whose mask token is not used."""
    place, ours, theirs = sets
    net = seeded(DINOv2(64, 2, 256, 16), 5)
    torch.save(net.state_dict() | {"mask_token": torch.zeros(1, 64)}, place / "dinov2.pth")
    found, notes = evaluated(
        *(place / "ours", place / "theirs"),
        **{"features": "dinov2", "weights": place / "dinov2.pth", "metrics": ("fid",), "out": place / "out"},
    )
    with torch.no_grad():
        x, y = (net(torch.stack([by_pillow(image) for image in images])) for images in (ours, theirs))
    assert found.values["fd"] == pytest.approx(
        frechet(*moments(x), *moments(y)), rel=1e-4
    )  # 64 > 14 pictures
    assert found.protocol["dimensions"] == 64 and any("dinov2, not the published" in note for note in notes)


def by_pillow(image):
    shown = Image.fromarray(to_bytes(image)).resize((224, 224), Image.Resampling.BICUBIC)
    return signed(torch.from_numpy(np.array(shown)).permute(2, 0, 1))


def test_without_weights_it_says_what_is_missing(sets, undiffuse, monkeypatch, tmp_path):
    place, _, _ = sets
    monkeypatch.setenv("UNDIFFUSE_CACHE", str(tmp_path / "none"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "none"))
    for features, digest in (("inception", "6726825d0af5f729"), ("dinov2", "d5383ea8f4877b24")):
        told = undiffuse("evaluate", place / "ours", "--reference", place / "theirs", "--features", features)
        assert told.code == 2 and digest in told.err and "--weights FILE" in told.err
        assert "pixels" in told.err and told.err.count("\n") == 1


def test_wrong_weights_are_refused(sets, weights):
    place, _, _ = sets
    torch.save({"fc.weight": torch.zeros(3, 3)}, place / "other.pth")
    (place / "text.pth").write_text("no weights")
    for features, file in (("inception", "other.pth"), ("dinov2", "other.pth"), ("inception", "text.pth")):
        with pytest.raises(ValueError, match=file):
            evaluated(place / "ours", place / "theirs", features=features, weights=place / file)
    with pytest.raises(ValueError, match="inception.pth.*not of dinov2"):
        evaluated(place / "ours", place / "theirs", features="dinov2", weights=weights)


class Means(nn.Module):
    def forward(self, x):
        return x.mean((2, 3))


class Detector(nn.Module):
    """As NVIDIA's: bytes of any size; features only where they are asked for."""

    def forward(self, img: torch.Tensor, return_features: bool = False) -> torch.Tensor:
        out = img.mean((2, 3))
        return out if return_features else out.softmax(1)


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_torchscript(sets):
    place, ours, theirs = sets
    means, detector = place / "means.pt", place / "detector.pt"
    torch.jit.save(torch.jit.script(Means()), means)
    torch.jit.save(torch.jit.script(Detector()), detector)
    with pytest.raises(ValueError, match="--size, such as 224, and --range"):
        evaluated(place / "ours", place / "theirs", features=str(means))
    given = {"metrics": ("fid",), "out": place / "out"}
    found, notes = evaluated(
        place / "ours", place / "theirs", features=str(means), size=24, range="-1..1", **given
    )
    expected = frechet(*moments(pixels(ours, 1)), *moments(pixels(theirs, 1)))
    assert found.values["fd"] == pytest.approx(expected, rel=1e-4)  # float32 means of 576 pixels
    assert any("means.pt, not the published" in note for note in notes)
    found, _ = evaluated(place / "ours", place / "theirs", features=str(detector), **given)
    assert found.values["fd"] == pytest.approx(expected * 127.5**2, rel=1e-4)
    torch.save(Means().state_dict(), place / "state.pt")
    with pytest.raises(ValueError, match="--weights"):
        evaluated(place / "ours", place / "theirs", features=str(place / "state.pt"))


def field(number, value):
    """One field of a protocol buffer."""
    if isinstance(value, int):
        return bytes([number << 3, value])
    value = value.encode() if isinstance(value, str) else value
    return bytes([number << 3 | 2, len(value)]) + value


def onnx_means():
    """ONNX's GlobalAveragePool of (B, 3, H, W), by hand: no package writes it here."""

    def info(name, sizes):
        dims = b"".join(field(1, field(2 if isinstance(n, str) else 1, n)) for n in sizes)
        return field(1, name) + field(2, field(1, field(1, 1) + field(2, dims)))

    node = field(1, "x") + field(2, "y") + field(4, "GlobalAveragePool")
    graph = field(1, node) + field(2, "g") + field(11, info("x", ("b", 3, "h", "w")))
    graph += field(12, info("y", ("b", 3, 1, 1)))
    return field(1, 8) + field(8, field(2, 13)) + field(7, graph)


def test_onnx(sets):
    pytest.importorskip("onnxruntime")
    place, ours, theirs = sets
    (place / "means.onnx").write_bytes(onnx_means())
    given = {"size": 24, "range": "0..1", "metrics": ("fid",), "out": place / "out"}
    found, _ = evaluated(place / "ours", place / "theirs", features=str(place / "means.onnx"), **given)
    expected = frechet(*moments(pixels(ours, 1)), *moments(pixels(theirs, 1)))
    assert found.values["fd"] == pytest.approx(expected / 4, rel=1e-4)
    (place / "means.onnx").write_bytes(b"nothing of the kind")
    with pytest.raises(ValueError, match="expected an ONNX network"):
        evaluated(place / "ours", place / "theirs", features=str(place / "means.onnx"), **given)


def test_onnx_without_its_package(sets, monkeypatch):
    place, _, _ = sets
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    (place / "means.onnx").write_bytes(onnx_means())
    with pytest.raises(ValueError, match="pip install onnxruntime"):
        evaluated(place / "ours", place / "theirs", features=str(place / "means.onnx"), size=8, range="0..1")


def test_what_networks_see():
    image = torch.tensor([0, 51, 255], dtype=torch.uint8)[:, None, None].expand(3, 2, 2)
    assert seen(image, "0..255")[:, 0, 0].tolist() == [0, 51, 255]
    assert seen(image, "0..1")[:, 0, 0].tolist() == pytest.approx([0, 0.2, 1])
    assert seen(image, "-1..1")[:, 0, 0].tolist() == pytest.approx([-1, -0.6, 1])
    expected = [(0 - 0.485) / 0.229, (0.2 - 0.456) / 0.224, (1 - 0.406) / 0.225]
    assert seen(image, "imagenet")[:, 0, 0].tolist() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"mu": np.zeros(3), "sigma": -np.eye(3)}, "negative eigenvalue"),
        ({"mu": np.zeros(3), "sigma": np.zeros(3)}, "2 axes"),
        ({"mu": np.array([object()] * 3), "sigma": np.eye(3)}, "mu cannot be read"),
        ({"mu": np.zeros(9000), "sigma": np.eye(3)}, "at most 8192"),
        ({"mu": np.zeros(3), "sigma": np.eye(4)}, "stats.npz' holds a covariance of 4x4.*expected 3x3"),
        ({"mu": np.zeros(3), "sigma": np.full((3, 3), np.nan)}, "not finite"),
        ({"mu": np.full(3, np.nan), "sigma": np.eye(3)}, "a mean that is not finite"),
        ({"x": np.zeros(3)}, "expected pictures as arr_0"),
    ],
)
def test_hostile_statistics_are_refused(sets, arrays, words):
    place, _, _ = sets
    np.savez(place / "stats.npz", **arrays)
    with pytest.raises(ValueError, match=words):
        evaluated(place / "ours", place / "stats.npz", features="pixels:1", out=place / "out")
    assert (place / "out").exists() == (words == "negative eigenvalue")  # others before features are computed


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--features", "vgg"], "choose from inception, dinov2, pixels, pca"),
        (["--features", "inception:v3"], "expected inception alone"),
        (["--features", "pixels:0"], "expected pixels:1 to pixels:64"),
        (["--features", "pixels", "--weights", "x"], "leave --weights out"),
        (["--features", "pixels", "--size", "8"], "leave them out"),
        (["--features", "pixels", "--metrics", "is"], "needs the classes of inception"),
        (["--features", "pixels", "--metrics", "lpips"], "--metrics lpips"),
        (["--features", "pixels", "--resize", "clean"], "leave it out"),
        (["--features", "pixels", "--neighbours", "14"], "at least 15 pictures"),
        (
            ["--features", "pixels", "--only", "00[01].png", "--metrics", "kid"],
            "kid needs at least 3 pictures",
        ),
        (["--features", "pixels", "--only", "000.png", "--metrics", "fid"], "fid needs at least 2 pictures"),
        (["--features", "pixels", "--reference", "nowhere"], "no such folder"),
        (["--samples-source", "npz", "--only", "*.png"], "error: evaluate: --only *.png is of a folder"),
        (["--features", "pixels", "--samples-source", "jpgs"], "jpgs"),
    ],
)
def test_wrong_options_are_one_line(sets, undiffuse, words, said):
    place, _, _ = sets
    told = undiffuse(
        "evaluate", place / "ours", "--reference", place / "theirs", "--out", place / "out", *words
    )
    assert told.code == 2 and said in told.err
    assert told.err.splitlines()[-1].startswith("error: ")


def test_results_have_a_folder_each(sets, monkeypatch):
    """The samples of two runs, and of two folders of one name."""
    place, *_ = sets
    monkeypatch.chdir(place)
    for name in ("one", "two"):
        pictures_of = place / "runs" / name
        pictures_of.mkdir(parents=True)
        pictures(pictures_of / "samples", 6, 3)
        pictures(pictures_of / "out.v1", 6, 3)
    given = {"features": "pixels:4", "metrics": ("fid",)}
    for name in ("one", "two"):
        evaluated(Path(f"runs/{name}/samples"), place / "theirs", **given)
        assert Path(f"evaluate/{name}_samples/result.json").is_file()
    evaluated(Path("runs/one/out.v1"), place / "theirs", **given)
    evaluated(Path("runs/one/out.v1"), place / "theirs", **given)  # its own result is written anew
    before = Path("evaluate/out.v1/result.json").read_bytes()
    with pytest.raises(ValueError, match="is the result of 'runs/one/out.v1'; choose another"):
        evaluated(Path("runs/two/out.v1"), place / "theirs", **given)
    assert Path("evaluate/out.v1/result.json").read_bytes() == before


def test_arrays_of_four_channels_are_told_what_is_expected(sets, undiffuse):
    place, _, _ = sets
    np.savez(place / "rgba.npz", np.zeros((6, 8, 8, 4), np.uint8))
    told = undiffuse(
        *("evaluate", place / "rgba.npz", "--reference", place / "theirs", "--features", "pixels:1"),
        *("--metrics", "fid", "--out", place / "out"),
    )
    said = "rgba.npz[arr_0]#0: has 4 channels; expected grey or RGB, without alpha; convert it"
    assert told.code == 2 and told.err.splitlines()[-1] == f"error: {said}"


def test_data_sets_are_told_as_in_training(sets):
    """Floats of an .npz and idx files: the same pictures, the same distance."""
    place, ours, theirs = sets
    grey = rounded(theirs[:, :1])
    folder = place / "idx"
    folder.mkdir()
    values = np.stack([to_bytes(image)[..., 0] for image in grey])
    head = bytes((0, 0, 8, 3)) + b"".join(n.to_bytes(4, "big") for n in values.shape)
    (folder / "t10k-images-idx3-ubyte").write_bytes(head + values.tobytes())
    np.savez(place / "x.npz", x=((ours + 1) / 2).numpy())
    with pytest.raises(ValueError, match="expected pictures as arr_0"):
        evaluated(place / "x.npz", folder, features="pixels:4", out=place / "out")
    result, _ = evaluated(
        place / "x.npz", folder, samples_source="npz:images=x,range=0..1,layout=NCHW",
        reference_source="idx:split=test", features="pixels:4", out=place / "out", metrics=("fid",),
    )  # fmt: skip
    expected = frechet(*moments(pixels(ours, 4)), *moments(pixels(grey.expand(-1, 3, -1, -1), 4)))
    assert result.values["fd"] == pytest.approx(expected, rel=1e-5)  # float32 means
