"""Our own files: what is saved comes back, and what nobody saved is refused in one line."""

import json
import struct
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tests.small import CLASSES, PHOTO, changed, prior_of, stored
from undiffuse.checkpoints import PriorConfig, described, native, save
from undiffuse.checkpoints.native import load

EPS = changed(CLASSES, {"num_classes": None, "null_class": False}, prediction="eps", schedule="cosine",
              num_classes=None, null_class=False, classes=None)  # fmt: skip
X0 = changed(EPS, {"name": "ddpm", "learned_variance": True}, prediction="x0", schedule="quad", size=None)


@pytest.mark.parametrize("config", [PHOTO, CLASSES, EPS, X0], ids=["edm", "v", "eps", "x0"])
def test_loading_is_the_inverse_of_saving(tmp_path, config):
    facts = {"steps": 3, "licence": "CC0", "loss": 0.1 + 0.2, "name": "a \u00e4"}
    prior = prior_of(config)
    save(tmp_path / "a.safetensors", prior, config, facts)
    found = load(tmp_path / "a.safetensors")
    assert found.config == config and found.facts == facts
    for name, value in prior.net.state_dict().items():
        assert torch.equal(found.prior.net.state_dict()[name], value)
    x = torch.linspace(-1, 1, 2 * config.channels * 64).reshape(2, config.channels, 8, 8)
    labels = torch.tensor([0, 2]) if config.num_classes else None
    for sigma in (0.01, 1.0, 60.0):
        assert torch.equal(found.prior(x, torch.tensor(sigma), labels), prior(x, torch.tensor(sigma), labels))
    assert not found.prior.training and not any(p.requires_grad for p in found.prior.parameters())
    assert found.prior.sigma_range == prior.sigma_range and found.prior.size == prior.size


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_weights_of_any_type_compute_in_float32(tmp_path, dtype):
    prior = prior_of(PHOTO).to(dtype)
    save(tmp_path / "a.safetensors", prior, PHOTO, {})
    again = load(tmp_path / "a.safetensors").prior
    assert {p.dtype for p in again.parameters()} == {torch.float32}
    assert all(torch.equal(a, b.float()) for a, b in zip(again.parameters(), prior.parameters(), strict=True))
    assert again(torch.zeros(1, 3, 5, 7), torch.tensor(1.0)).isfinite().all()


def test_a_run_is_its_folder(tmp_path):
    stored(tmp_path / "run" / "prior.safetensors", PHOTO)
    assert load(tmp_path / "run").config == PHOTO
    assert load(str(tmp_path / "run")).facts["steps"] == 7


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = stored(tmp_path / "a.safetensors", PHOTO)
    before = path.read_bytes()

    def full(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("undiffuse.core.replacing.os.replace", full)
    with pytest.raises(ValueError, match="no space left"):
        save(path, prior_of(PHOTO, 1), PHOTO, {})
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def written(
    path: Path, config: object, facts: object = "{}", kind: str = native.KIND, **tensors: object
) -> Path:
    """The tensors of PHOTO, or others, under any header."""
    kept = {**prior_of(PHOTO).net.state_dict(), **tensors}
    text = config if isinstance(config, str) else json.dumps(config)
    meta = {"kind": kind, "config": text, "facts": facts if isinstance(facts, str) else json.dumps(facts)}
    save_file({name: value for name, value in kept.items() if value is not None}, path, meta)
    return path


def refused(path: Path) -> str:
    """The one line that is said, at once and with little memory."""
    began = time.perf_counter()
    with pytest.raises(ValueError) as error:
        load(path)
    assert time.perf_counter() - began < 2
    assert "\n" not in str(error.value) and str(path) in str(error.value)
    return str(error.value)


PLAIN = json.loads(PHOTO.model_dump_json())


@pytest.mark.parametrize(
    ("network", "said"),
    [
        ({"widths": [10**9, 8]}, "network.widths"),
        ({"widths": ["1000000000", "8"]}, "network.widths"),  # text is read as on a command line
        ({"widths": [8] * 5000}, "more blocks"),
        ({"widths": [8, [8]]}, "widths"),
        ({"widths": {"0": 8}}, "widths"),
        ({"widths": [8.5, 8]}, "widths"),
        ({"widths": [-8, 8]}, "widths"),
        ({"widths": []}, "no level"),
        ({"widths": None}, "widths"),
        ({"widths": [16, 16]}, "is (12, 8, 3, 3), expected (12, 16, 3, 3)"),
        ({"blocks": 10**6}, "network.blocks"),
        ({"blocks": 10**4}, "more blocks"),
        ({"blocks": -1}, "blocks"),
        ({"blocks": True, "embedding": True}, "expected"),
        ({"blocks": 10**400}, "blocks"),
        ({"embedding": 0}, "embedding"),
        ({"embedding": 1e300}, "embedding"),
        ({"dropout": 1.0}, "dropout"),
        ({"dropout": -0.5}, "dropout"),
        ({"groups": 3}, "groups"),
        ({"told": "__import__"}, "told"),
        ({"depth": 3}, "no option 'depth'"),
        ({"name": "os.system"}, "no network named"),
        ({"name": None}, "no network named"),
        ({"in_channels": 4}, "network.in_channels = 4; expected 3"),
        ({"out_channels": 1}, "network.out_channels"),
        ({"num_classes": 10}, "network.num_classes"),
    ],
    ids=lambda value: str(value)[:60],
)  # fmt: skip
def test_hostile_networks(tmp_path, network, said):
    hostile = {**PLAIN, "network": {**PLAIN["network"], **network}}
    assert said in refused(written(tmp_path / "a.safetensors", hostile))


def test_sizes_whose_product_has_no_name(tmp_path):
    wide = {"in_channels": 99_999, "out_channels": 99_999, "stem": 99_999, "widths": [99_999], "norm": "none"}
    hostile = {**PLAIN, "channels": 99_999, "network": {**PLAIN["network"], **wide}}
    assert "sizes that no tensor has" in refused(written(tmp_path / "a.safetensors", hostile))


def test_a_classifier_is_no_prior(tmp_path):
    network = {"name": "classifier", "size": 8, "in_channels": 3, "num_classes": 2}
    assert "is not made for this" in refused(
        written(tmp_path / "a.safetensors", {**PLAIN, "network": network})
    )


@pytest.mark.parametrize(
    "other",
    [
        {"network": []},
        {"network": None},
        {"prediction": "x1"},
        {"prediction": "eps"},  # needs a schedule
        {"prediction": "eps", "schedule": "linear", "timesteps": 2},
        {"prediction": "eps", "schedule": "quad", "timesteps": 100_000},
        {"prediction": "eps", "schedule": "lint"},
        {"timesteps": 10**12},
        {"channels": 10**12},
        {"channels": 0},
        {"size": [0, 8]},
        {"size": [8]},
        {"size": [10**9, 10**9]},
        {"sigma_data": -1},
        {"sigma_data": float("nan")},
        {"sigma_data": float("inf")},
        {"augmentation": -1},
        {"null_class": True},
        {"classes": ["a"]},
        {"classes": [1] * 10_000},
        {"low_res": "sr4"},
        {"made_for": {"sampler": "ddim", "sigmas": [float("nan")]}},
        {"made_for": {"sampler": "ddim", "sigmas": [float("inf")]}},
        {"made_for": {"sampler": "ddim", "sigmas": [1.0, -1.0]}},
        {"made_for": {"sampler": "ddim", "sigmas": [1.0, 2.0]}},
        {"made_for": {"sampler": "ddim", "sigmas": []}},
        {"made_for": {"sampler": "ddim", "sigmas": [1e30, 1.0]}},  # no such level: its network ends at 80
        {"made_for": {"sampler": "ddim"}},
        {"made_for": {"sigmas": [1.0]}},
        {"made_for": {"sampler": "heun", "sigmas": [1.0]}},
        {"made_for": {"guidance": -1.0}},
        {"made_for": {"algorithm": "dpir_wiener"}},
        {"made_for": {"calls": 4}},
        {"made_for": {"algorithm": "dpir", "calls": 0}},
        {"__class__": "object"},
    ],
    ids=str,
)  # fmt: skip
def test_hostile_configurations(tmp_path, other):
    refused(written(tmp_path / "a.safetensors", {**PLAIN, **other}))


@pytest.mark.parametrize(
    "text",
    ["", "null", "[]", "{", '"a"', "1" * 5000, "[" * 100_000, '{"network":' * 100_000, "9" * (2**20 + 1), "\0"],
    ids=lambda text: f"{text[:12]!r}x{len(text)}",
)  # fmt: skip
def test_headers_that_are_no_objects(tmp_path, text):
    refused(written(tmp_path / "a.safetensors", text))
    if text:
        refused(written(tmp_path / "b.safetensors", PLAIN, facts=text))


def test_tensors_that_do_not_fit(tmp_path):
    path = tmp_path / "a.safetensors"
    name, value = next(iter(prior_of(PHOTO).net.state_dict().items()))
    assert "missing" in refused(written(path, PLAIN, **{name: None}))
    assert "no such tensor" in refused(written(path, PLAIN, extra=torch.zeros(3)))
    assert "expected" in refused(written(path, PLAIN, **{name: value[:1].clone()}))
    assert "type" in refused(written(path, PLAIN, **{name: value.long()}))
    assert "type" in refused(written(path, PLAIN, **{name: value.double()}))
    many = {f"t{i}": torch.zeros(0) for i in range(described.MOST)}
    assert "tensors; expected at most" in refused(written(path, PLAIN, **many))


def test_files_of_other_kinds(tmp_path):
    whole = stored(tmp_path / "whole.safetensors", PHOTO).read_bytes()
    length = struct.unpack("<Q", whole[:8])[0]
    broken = {
        "empty": b"",
        "text": b"GIF89a, or any other text",
        "pickle": b"\x80\x04cos\nsystem\n(S'true'\ntR.",
        "header cut": whole[: length // 2],
        "tensors cut": whole[:-1],
        "more": whole + b"\0",
        "no header": struct.pack("<Q", 0) + whole[8:],
        "long header": struct.pack("<Q", 2**63) + whole[8:],
    }
    for name, content in broken.items():
        path = tmp_path / name
        path.write_bytes(content)
        assert "cannot be read as safetensors" in refused(path)
    assert "kind 'undiffuse resume" in refused(
        written(tmp_path / "resume", PLAIN, kind="undiffuse resume state 1")
    )
    save_file({"a": torch.zeros(1)}, tmp_path / "plain")
    assert "kind ''" in refused(tmp_path / "plain")
    for path in (tmp_path, tmp_path / "nothing", tmp_path / "nothing\nhere"):
        with pytest.raises(ValueError, match="no prior at"):
            load(path)


def test_a_description_is_checked_before_training_too():
    with pytest.raises(ValueError, match="in_channels"):
        changed(PHOTO, channels=1).build()
    assert isinstance(PHOTO, PriorConfig)
