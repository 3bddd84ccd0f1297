import hashlib
import pickle
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tests.metrics.weights import filled, pictures
from undiffuse.metrics import open_lpips, weights


@pytest.fixture(autouse=True)
def empty_cache(monkeypatch, tmp_path):
    monkeypatch.delenv("UNDIFFUSE_LPIPS", raising=False)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(weights, "_packaged", lambda: [])


@pytest.fixture(scope="module")
def tensors():
    return filled("alex").state_dict()


def parts(tensors):
    trunk = {key: value for key, value in tensors.items() if key.startswith("features.")}
    heads = {key: value for key, value in tensors.items() if key.startswith("lin")}
    return trunk | {"classifier.1.weight": torch.zeros(2, 2)}, heads


def saved(folder, tensors, **how):
    folder.mkdir(parents=True, exist_ok=True)
    paths = folder / "alexnet-owt-7be5be79.pth", folder / "alex.pth"
    for path, held in zip(paths, parts(tensors), strict=True):
        torch.save(held, path, **how)
    return ",".join(map(str, paths))


def same(model):
    x, y = pictures()
    torch.testing.assert_close(model(x, y), filled("alex")(x, y), rtol=0, atol=0)


@pytest.mark.parametrize("zipped", [True, False])  # the published AlexNet is of the older kind
def test_two_files(tmp_path, tensors, zipped):
    model = open_lpips(saved(tmp_path, tensors, _use_new_zipfile_serialization=zipped))
    same(model)
    assert not model.published


def test_one_safetensors_file(tmp_path, tensors):
    path = tmp_path / "weights, both.safetensors"
    save_file(tensors, path)
    same(open_lpips(str(path)))


def test_from_the_environment_and_the_cache(tmp_path, tensors, monkeypatch):
    monkeypatch.setenv("UNDIFFUSE_LPIPS", saved(tmp_path / "named", tensors))
    same(open_lpips())
    monkeypatch.delenv("UNDIFFUSE_LPIPS")
    saved(tmp_path / "torch" / "hub" / "checkpoints", tensors)
    same(open_lpips())


def test_published_files_are_known_by_their_digest(tmp_path, tensors, monkeypatch):
    named = saved(tmp_path, tensors)
    digests = [hashlib.sha256(Path(path).read_bytes()).hexdigest() for path in named.split(",")]
    monkeypatch.setattr(weights, "PUBLISHED", {frozenset(digests)})
    assert open_lpips(named).published


def test_absent_files_are_named_with_their_source_and_digest(tmp_path):
    for named in (None, str(tmp_path / "nothing.pth")):
        with pytest.raises(ValueError) as error:
            open_lpips(named)
        for word in (
            "alexnet-owt-7be5be79.pth",
            "https://download.pytorch.org",
            "SHA-256 7be5be79",
            "--lpips",
        ):
            assert word in str(error.value)
        assert "\n" not in str(error.value)


def test_the_heads_alone_are_not_enough(tmp_path, tensors):
    _, heads = saved(tmp_path, tensors).split(",")
    with pytest.raises(ValueError, match=r"features\.\* are not in"):
        open_lpips(heads)


def changed(tensors, key, value):
    held = dict(tensors)
    if value is None:
        del held[key]
    else:
        held[key] = value
    return held


@pytest.mark.parametrize(
    "key, value, message",
    [
        ("features.3.bias", None, r"features\.3\.bias is missing, expected \(192,\)"),
        ("features.3.bias", torch.zeros(191), r"is \(191,\), expected \(192,\)"),
        ("features.99.bias", torch.zeros(1), "expected no such tensor"),
        ("features.3.bias", torch.full((192,), float("nan")), "NaN"),
        ("features.3.bias", torch.zeros(192, dtype=torch.int64), "tensors of floats"),
        ("features.3.bias", torch.zeros(192).to_sparse(), "tensors of floats"),
        ("features.3.bias", "text", "tensors of floats"),
    ],
)
def test_other_contents_are_refused(tmp_path, tensors, key, value, message):
    path = tmp_path / "both.pth"
    torch.save(changed(tensors, key, value), path)
    with pytest.raises(ValueError, match=message):
        open_lpips(str(path))


class Executed:
    def __reduce__(self):
        return (open, ("executed", "w"))


def test_nothing_is_executed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"features.0.weight": Executed()}, "zip.pth")
    with open("plain.pth", "wb") as file:
        pickle.dump({"features.0.weight": Executed()}, file, protocol=2)
    for name in ("zip.pth", "plain.pth"):
        with pytest.raises(ValueError, match="cannot be read as weights") as error:
            open_lpips(name)
        assert "\n" not in str(error.value)
    assert not (tmp_path / "executed").exists()


def test_what_unpacks_to_too_much_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(weights, "LARGEST", 100_000)
    with zipfile.ZipFile(tmp_path / "bomb.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data/0", bytes(200_000))
    (tmp_path / "large.safetensors").write_bytes(bytes(100_001))
    for name, message in (("bomb.pth", "unpacks to more"), ("large.safetensors", "more than 100000 bytes")):
        with pytest.raises(ValueError, match=message):
            open_lpips(str(tmp_path / name))


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("noise.pth", bytes(range(256)) * 40),
        ("noise.safetensors", bytes(range(256)) * 40),
        ("empty.pth", b""),
    ],
)
def test_noise_is_refused_in_a_short_line(tmp_path, monkeypatch, name, data):
    """Without torch's advice on how to trust a file, and without digests of files that are not at hand."""
    monkeypatch.chdir(tmp_path)
    Path(name).write_bytes(data)
    with pytest.raises(ValueError, match="cannot be read as weights") as error:
        open_lpips(name)
    said = str(error.value)
    assert len(said) < 220 and "\n" not in said and "--lpips FILE,FILE" in said
    assert "torch.load" not in said and ("it is empty" in said) == (not data)
