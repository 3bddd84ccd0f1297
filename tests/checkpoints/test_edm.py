"""EDM's snapshots: the network computes as theirs does, and nothing that a file asks for is done."""

import pickle
import struct
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.checkpoints.edm_files import TRAP, DhariwalUNet, Saved, pickled
from undiffuse.checkpoints import load
from undiffuse.checkpoints.edm import is_snapshot
from undiffuse.checkpoints.facts import Given

GOLDEN = load_file(Path(__file__).parents[1] / "golden" / "edm_adm.safetensors")
EDM = {"sigma_data": 0.5, "sigma_min": 0, "sigma_max": float("inf"), "use_fp16": True}
IDDPM = {"C_1": 0.001, "C_2": 0.008, "M": 1000}


def snapshot(path: Path, kind="EDMPrecond", values=EDM, **network) -> Path:
    """A file as EDM's training writes it."""
    model = DhariwalUNet(**network).saved() if "model" not in network else network["model"]
    path.write_bytes(
        pickled(Saved(kind, parts=[("model", model)], source=network.get("source", ""), **values))
    )
    return path


def error_of(name, prior, labels=None):
    """Largest difference to the reference, relative to the largest value, at each of its levels."""
    wanted = GOLDEN[f"{name}.x0"] if labels is not None or name == "iddpm" else GOLDEN[f"{name}.x0_no_class"]
    errors = []
    for sigma, x0 in zip(GOLDEN[f"{name}.sigmas"], wanted, strict=True):
        found = prior(sigma * GOLDEN["x"], sigma, labels)
        errors.append(float((found - x0).abs().max() / x0.abs().max()))
    return max(errors)


def test_adm_in_edm_computes_as_theirs(tmp_path):
    trap = tmp_path / "run"
    path = snapshot(
        tmp_path / "network-snapshot-1.pkl",
        label_dim=5,
        source=TRAP.format(path=str(trap)),
    )
    found = load(path)
    assert found.config.prediction == "edm" and found.config.size == (8, 8) and found.config.null_class
    assert error_of("edm", found.prior, torch.tensor([1, 4])) < 1e-5  # of float32, in another order
    assert error_of("edm", found.prior) < 1e-5
    assert not trap.exists() and any("ema" in line for line in found.told)


def test_adm_in_iddpm_computes_as_theirs(tmp_path):
    found = load(snapshot(tmp_path / "a.pkl", "iDDPMPrecond", IDDPM, out=6))
    assert found.config.prediction == "eps" and found.config.schedule == "cosine"
    assert error_of("iddpm", found.prior) < 1e-5
    assert found.prior.predict(GOLDEN["x"], torch.tensor(1.0)).variance is not None


@pytest.mark.parametrize(
    ("made", "said"),
    [
        ({"model": Saved("SongUNet")}, "SongUNet .DDPM"),
        ({"model": Saved("Transformer")}, "a Transformer in EDMPrecond"),
        ({"kind": "VPPrecond"}, "VPPrecond"),
        ({"kind": "VEPrecond"}, "VEPrecond"),
        ({"kind": "iDDPMPrecond", "values": {**IDDPM, "C_2": 0.1}, "out": 6}, "iDDPMPrecond"),
        ({"skip_scale": 0.7071}, "skip_scale = 0.7071"),
        ({"adaptive_scale": False}, "adaptive_scale"),
        ({"taps": [1.0, 3.0, 3.0, 1.0]}, "filter"),
        ({"width": 64}, "num_groups|num_heads"),
        ({"model": Saved("DhariwalUNet", _init_kwargs={"img_resolution": 8})}, "in_channels"),
        ({"model": Saved("DhariwalUNet", _init_kwargs=None)}, "the network"),
        ({"model": Saved("DhariwalUNet", _init_kwargs={"img_resolution": 10**9, "in_channels": 3, "out_channels": 3})},
         "img_resolution"),
        ({"model": Saved("DhariwalUNet", _init_kwargs={
            "img_resolution": 8, "in_channels": 3, "out_channels": 3, "model_channels": 99_968, "num_blocks": 9_999})},
         "more blocks"),
    ],
    ids=lambda value: str(value)[:50],
)  # fmt: skip
def test_what_cannot_be_had_exactly_is_refused(tmp_path, made, said):
    if "model" in made:
        made["model"].state["_parameters"]["weight"] = torch.nn.Parameter(torch.zeros(2), False)
    with pytest.raises(ValueError, match=said) as error:
        load(snapshot(tmp_path / "a.pkl", **made))
    assert "\n" not in str(error.value)


def test_tensors_that_do_not_fit(tmp_path):
    for change, said in (
        (lambda model: model.parts.__setitem__(7, ("out_norm", None)), "out.0"),
        (lambda model: model.parts.append(("more", model.norm("more", 128))), "more.weight"),
        (
            lambda model: model.parts.__setitem__(8, ("out_conv", model.conv("out_conv", 128, 4, 3))),
            "out_conv",
        ),
    ):
        model = DhariwalUNet()
        change(model)
        with pytest.raises(ValueError, match=said):
            load(snapshot(tmp_path / "a.pkl", model=model.saved()))
    with pytest.raises(ValueError, match="tells it itself"):
        load(snapshot(tmp_path / "a.pkl", label_dim=5), Given(schedule="linear"))


class Calls:
    """Pickles as a call."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def touched(tmp_path):
    """A command that leaves a file behind, and that file."""
    return f"touch {tmp_path / 'run'}", tmp_path / "run"


def refused(tmp_path, data: bytes) -> str:
    """The one line that is said, soon, with nothing run."""
    _, left = touched(tmp_path)
    path = tmp_path / "hostile.pkl"
    path.write_bytes(data)
    assert is_snapshot(path)
    began = time.process_time()
    with pytest.raises(ValueError) as error:
        load(path)
    assert time.process_time() - began < 20 and not left.exists()
    assert "\n" not in str(error.value) and len(str(error.value)) < 1000
    return str(error.value)


def held(data: object) -> bytes:
    return pickle.dumps({"ema": data}, 4)


def test_code_is_not_run(tmp_path):
    import importlib
    import os
    import subprocess

    command, _ = touched(tmp_path)
    for call in (
        Calls(os.system, command),
        Calls(eval, f"__import__('os').system({command!r})"),
        Calls(exec, f"import os; os.system({command!r})"),
        Calls(importlib.import_module, "os"),
        Calls(subprocess.Popen, command.split()),
        Calls(torch.load, "other.pt"),
        Calls(torch.hub.load, "a/b", "c"),
        Calls(getattr, torch.nn.Module, "__subclasses__"),
        Calls(torch.nn.Module.register_forward_hook, torch.nn.Module, os.system),
    ):
        assert "names" in refused(tmp_path, held(call))


def opcodes(*parts: bytes) -> bytes:
    return b"\x80\x04" + b"".join(parts)


def text(value: str) -> bytes:
    return pickle.SHORT_BINUNICODE + bytes([len(value)]) + value.encode()


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("torch.nn.modules.module", "torch.os.system"),  # dots are attributes, from protocol 4 on
        ("torch.nn.modules", "sys.modules"),
        ("torch", "os.system"),
        ("torch", "hub"),
        ("torch._utils", "_import_dotted_name"),
        ("collections", "namedtuple"),
        ("builtins", "__import__"),
        ("numpy.core.multiarray", "_reconstruct"),
        ("numpy", "load"),
        ("dnnlib.util", "open_url"),
        ("dnnlib.util", "call_func_by_name"),
        ("torch_utils.persistence", "_src_to_module"),
        ("torch_utils.misc", "system"),
        ("undiffuse.checkpoints.edm.reading", "Record"),
    ],
)
def test_names_outside_the_table(tmp_path, module, name):
    data = opcodes(
        text(module), text(name), pickle.STACK_GLOBAL, pickle.EMPTY_TUPLE, pickle.REDUCE, pickle.STOP
    )
    assert "names" in refused(tmp_path, data)
    older = b"\x80\x02c" + f"{module}\n{name}\n".encode() + b")R."
    assert "names" in refused(tmp_path, older + b" " * 8)


LIST, TUPLE = pickle.EMPTY_LIST, pickle.EMPTY_TUPLE
ORDERED = text("collections") + text("OrderedDict") + pickle.STACK_GLOBAL
REBUILD = text("torch._utils") + text("_rebuild_tensor_v2") + pickle.STACK_GLOBAL
BYTES = text("torch.storage") + text("_load_from_bytes") + pickle.STACK_GLOBAL


@pytest.mark.parametrize(
    "data",
    [
        opcodes(pickle.BINBYTES8, struct.pack("<Q", 2**40), b"."),  # lengths that are not there
        opcodes(pickle.BINUNICODE8, struct.pack("<Q", 2**62), b"."),
        opcodes(pickle.FRAME, struct.pack("<Q", 2**40), b"."),
        opcodes(pickle.BYTEARRAY8, struct.pack("<Q", 2**40), b"."),
        opcodes(pickle.LONG4, struct.pack("<i", 2**31 - 1), b"."),
        opcodes(pickle.INT, b"9" * 9_000, b"\n."),
        opcodes(
            pickle.EMPTY_DICT, TUPLE, pickle.TUPLE1 * 300_000, pickle.NONE, pickle.SETITEM, b"."
        ),  # a deep key
        opcodes(pickle.EMPTY_SET, pickle.MARK, TUPLE, pickle.TUPLE1 * 300_000, pickle.ADDITEMS, b"."),
        opcodes(pickle.MARK, TUPLE, pickle.TUPLE1 * 300_000, pickle.FROZENSET, b"."),
        opcodes(LIST, (pickle.MEMOIZE + pickle.POP + LIST) * 2_000_000, b"."),  # operations without end
        opcodes(pickle.BINPERSID, b"."),
        opcodes(pickle.PERSID, b"a\n."),
        opcodes(pickle.EXT1, b"\x01."),
        opcodes(pickle.INST, b"os\nsystem\n."),
        opcodes(pickle.MARK, pickle.OBJ, b"."),
        opcodes(pickle.REDUCE, b"."),
        opcodes(text("a"), TUPLE, pickle.REDUCE, b"."),
        opcodes(ORDERED, TUPLE, pickle.BUILD, b"."),
        opcodes(ORDERED, text("a"), pickle.TUPLE1, pickle.REDUCE, b"."),
        opcodes(ORDERED, text("a"), text("b"), pickle.SETITEM, b"."),
        opcodes(ORDERED, text("a"), pickle.APPEND, b"."),
        opcodes(REBUILD, TUPLE, pickle.REDUCE, b"."),
        opcodes(BYTES, pickle.SHORT_BINBYTES, b"\x03abc", pickle.TUPLE1, pickle.REDUCE, b"."),
        opcodes(BYTES, text("a"), pickle.TUPLE1, pickle.REDUCE, b"."),
        opcodes(pickle.NONE, b"."),
        opcodes(pickle.EMPTY_DICT, b"."),
        opcodes(b"." * 20),
        opcodes(b"\xff" * 20),
    ],
    ids=lambda data: repr(data[2:14]),
)
def test_broken_and_hostile_pickles(tmp_path, data):
    refused(tmp_path, data + b"." * 14)


def test_storages_are_data_too(tmp_path):
    """Inside a storage's bytes torch's own reader runs, which takes tensors alone."""
    import os

    command, _ = touched(tmp_path)
    inner = pickle.dumps(Calls(os.system, command), 2)
    old = (
        b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03."
        + pickle.dumps({"little_endian": True}, 2)
        + inner
    )
    for data in (inner, old):
        call = BYTES + pickle.BINBYTES + struct.pack("<I", len(data)) + data + pickle.TUPLE1 + pickle.REDUCE
        refused(tmp_path, opcodes(pickle.EMPTY_DICT, text("ema"), call, pickle.SETITEM, b"."))


def modules(parts) -> Saved:
    return Saved("EDMPrecond", parts=parts)


def test_networks_without_end(tmp_path):
    """A hundred modules that hold the next ten times are 10^100 modules; a module may hold itself."""
    deep = Saved("Linear")
    for _ in range(100):
        deep = modules([(str(i), deep) for i in range(10)])
    assert "without end" in refused(tmp_path, pickled(deep))
    ring = modules([])
    ring.state["_modules"]["model"] = Ring()
    ring.state["_modules"]["model"].state["_modules"]["model"] = ring.state["_modules"]["model"]
    assert "without end" in refused(tmp_path, pickled(ring))


class Ring(torch.nn.Module):
    """Pickles as torch's modules do, with the name of one of torch's."""

    @property
    def state(self):
        return self.__dict__


Ring.__module__ = "torch.nn.modules.container"
torch.nn.modules.container.Ring = Ring


def test_arguments_that_take_forever_to_print(tmp_path):
    """Ten lists of ten lists of ...: 10^60 numbers, were they written into a message."""
    bomb = [1]
    for _ in range(60):
        bomb = [bomb] * 10
    model = Saved(
        "DhariwalUNet", [("weight", torch.zeros(2))], _init_kwargs={"img_resolution": bomb, "in_channels": 3}
    )
    assert "img_resolution" in refused(tmp_path, pickled(Saved("EDMPrecond", parts=[("model", model)])))
    whole = DhariwalUNet(skip_scale=bomb)
    assert "skip_scale" in refused(
        tmp_path, pickled(Saved("EDMPrecond", parts=[("model", whole.saved())], **EDM))
    )
    wrong = Saved("EDMPrecond", parts=[("model", DhariwalUNet().saved())], sigma_data=torch.ones(3))
    assert "sigma_data" in refused(tmp_path, pickled(wrong))


def test_tensors_that_repeat_their_memory(tmp_path):
    """A shape of a terabyte over one number is refused before anything is made of it."""
    model = Saved("DhariwalUNet", [("weight", torch.zeros(1).expand(10**6, 10**6))], _init_kwargs={})
    assert "memory" in refused(tmp_path, pickled(modules([("model", model)])))
