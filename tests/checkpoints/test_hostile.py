"""Files that mean harm: refused in one line, at once, with little memory, and nothing in them is run."""

import os
import pickle
import time
import zipfile

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from tests.networks.weights import seeded
from tests.small import PHOTO, prior_of
from undiffuse.checkpoints import load, parse_given, save
from undiffuse.checkpoints.weights import open_weights
from undiffuse.networks import DDPMConfig

SMALL = DDPMConfig(width=32, multipliers=(1,), blocks=1, attention=())
GIVEN = parse_given("schedule=linear")


def whole():
    return dict(seeded(SMALL.build(), 1).state_dict())


def refused(path):
    """What is said, at once."""
    began = time.perf_counter()
    with pytest.raises(ValueError) as error:
        load(path, GIVEN)
    assert time.perf_counter() - began < 5  # a zip bomb takes minutes
    said = str(error.value)
    assert "\n" not in said and str(path) in said and len(said) < 800
    return said


class Runs:
    """Leaves a file where it is unpickled with trust."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("zipped", [True, False])
def test_code_is_named_and_not_run(tmp_path, zipped):
    for number, held in enumerate(
        (Runs(tmp_path / "ran"), {"a": Runs(tmp_path / "ran")}, [whole(), {}, 1, 2, Runs(tmp_path / "ran")])
    ):
        path = tmp_path / f"{number}.pt"
        torch.save(held, path, _use_new_zipfile_serialization=zipped)
        assert "mkdir, which is code" in refused(path)
    assert not (tmp_path / "ran").exists()


def test_plain_pickles(tmp_path):
    for number, held in enumerate((Runs(tmp_path / "ran"), whole(), eval, 3, [], b"x" * 100)):
        path = tmp_path / f"{number}.pkl"
        path.write_bytes(pickle.dumps(held))
        refused(path)
    assert not (tmp_path / "ran").exists()


def test_pickles_that_grow_or_end_in_the_middle(tmp_path):
    laughs = b"\x80\x02]q\x00(" + b"h\x00" * 10_000 + b"e."  # a list of itself
    deep = b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b"."
    number = b"\x80\x02\x8b\xff\xff\xff\x7f."  # an integer of 2 GB
    for name, data in {"laughs": laughs, "deep": deep, "number": number, "empty": b"\x80\x02."}.items():
        (tmp_path / name).write_bytes(data)
        refused(tmp_path / name)


def archive(path, compress=zipfile.ZIP_STORED, **entries):
    torch.save(whole(), path)
    with zipfile.ZipFile(path) as file:
        held = {entry.filename: file.read(entry) for entry in file.infolist()}
    root = next(iter(held)).split("/")[0]
    held.update({f"{root}/{name}": data for name, data in entries.items()})
    with zipfile.ZipFile(path, "w", compress) as file:
        for name, data in held.items():
            file.writestr(name, data)
    return path


def test_archives_that_unpack_to_more_than_they_are(tmp_path):
    bomb = archive(tmp_path / "bomb.pt", zipfile.ZIP_DEFLATED, **{"data.pkl": b"\0" * 200_000_000})
    assert bomb.stat().st_size < 5_000_000 and "compressed" in refused(bomb)
    table = archive(tmp_path / "table.pt", **{"data.pkl": b"\x80\x02" + b"]0" * 5_000_000 + b"."})
    assert "a table of" in refused(table)


def test_an_archive_whose_entries_overlap(tmp_path):
    """The sizes in its directory are larger than the file."""
    path = archive(tmp_path / "a.pt")
    data = bytearray(path.read_bytes())
    at = data.rindex(b"PK\x01\x02")
    data[at + 20 : at + 28] = (2**31 - 1).to_bytes(4, "little") * 2
    path.write_bytes(data)
    refused(path)


@pytest.mark.parametrize("cut", [0.01, 0.5, 0.999])
@pytest.mark.parametrize("zipped", [True, False])
def test_files_that_were_cut_off(tmp_path, cut, zipped):
    path = tmp_path / "a.ckpt"
    torch.save(whole(), path, _use_new_zipfile_serialization=zipped)
    os.truncate(path, int(path.stat().st_size * cut))
    refused(path)


def test_tensors_that_are_not_what_a_network_has(tmp_path):
    path, name = tmp_path / "a.ckpt", "conv_in.weight"
    sparse = torch.zeros(32, 3, 3, 3).to_sparse()
    for value, said in (
        (torch.zeros(32, 3, 3, 3, dtype=torch.int64), "int64"),
        (torch.zeros(32, 3, 3, 3, dtype=torch.complex64), "complex64"),
        (sparse, "sparse"),
        (torch.empty(32, 3, 3, 3, device="meta"), "on meta"),
        (torch.zeros(1).expand(10**6, 10**6), "repeats a smaller memory"),
        (torch.zeros(32).as_strided((32, 3, 3, 3), (1, 0, 0, 0)), "repeats a smaller memory"),
        (torch.zeros(32, 3, 5, 5), "is (32, 3, 5, 5), expected (32, 3, 3, 3)"),
        (torch.zeros(0, 3, 3, 3), "expected 4 axes"),
        (torch.zeros(3), "expected 4 axes"),
    ):
        torch.save({**whole(), name: value}, path)
        assert said in refused(path)
    torch.save({key: value for key, value in whole().items() if key != "mid.block_1.conv2.weight"}, path)
    assert "mid.block_1.conv2.weight is missing" in refused(path)
    torch.save({**whole(), "extra": torch.zeros(2)}, path)
    assert "extra is (2,), expected no such tensor" in refused(path)


def test_shapes_that_would_take_all_memory(tmp_path):
    """A few numbers that stand for a network of terabytes: refused before a layer is made."""
    one = torch.zeros(1)
    wide = {key: value for key, value in whole().items()}
    for shape in ((10**5, 3, 3, 3), (10**9, 3, 3, 3), (2**30, 2**20, 3, 3)):
        torch.save({**wide, "conv_in.weight": one.expand(shape)}, tmp_path / "a.ckpt")
        refused(tmp_path / "a.ckpt")
    torch.save({**wide, "temb.dense.0.weight": torch.zeros(512, 10**5)}, tmp_path / "a.ckpt")
    refused(tmp_path / "a.ckpt")
    many = {
        f"down.{level}.block.{block}.conv1.weight": one.reshape(1, 1, 1, 1)
        for level in range(30)
        for block in range(30)
    }
    torch.save({**wide, **many}, tmp_path / "a.ckpt")
    refused(tmp_path / "a.ckpt")
    torch.save({f"input_blocks.{'9' * 5000}.0.weight": one, **wide}, tmp_path / "a.ckpt")
    refused(tmp_path / "a.ckpt")
    torch.save({f"t{number}": one for number in range(10_001)}, tmp_path / "a.ckpt")
    assert "10001 tensors" in refused(tmp_path / "a.ckpt")


def test_adm_numbers_that_make_no_network(tmp_path):
    """Gaps, many levels, and names that are numbers too large."""
    head = {"time_embed.0.weight": torch.zeros(128, 32), "input_blocks.0.0.weight": torch.zeros(32, 3, 3, 3)}
    head |= {
        "middle_block.1.qkv.weight": torch.zeros(96, 32, 1),
        "output_blocks.0.0.in_layers.0.weight": torch.zeros(64),
    }
    for extra in (
        {},
        {"output_blocks.7.0.in_layers.0.weight": torch.zeros(3)},
        {"out.2.weight": torch.zeros(3)},
    ):
        torch.save({**head, **extra}, tmp_path / "a.pt")
        refused(tmp_path / "a.pt")


def test_nothing_and_odd_files(tmp_path):
    for name, data in {
        "empty": b"",
        "text": b"GIF89a and so on",
        "zip": b"PK\x03\x04" + b"\0" * 50,
        "brace": b"12345678{",
    }.items():
        (tmp_path / name).write_bytes(data)
        refused(tmp_path / name)
    with pytest.raises(ValueError, match="empty' is empty; expected weights"):
        open_weights(tmp_path / "empty")
    for held in ({}, [], {"model": 3}, {"a": {"b": torch.zeros(3)}}, [1, 2, 3], torch.zeros(3)):
        torch.save(held, tmp_path / "a.pt")
        refused(tmp_path / "a.pt")


def test_names_of_tensors_are_told_in_one_line(tmp_path):
    """A terminal would act on the characters in them."""
    name = "in\n\x1b[31m"
    for number, held in enumerate(
        ({name: torch.zeros(2)}, {name: torch.zeros(2).int()}, {**whole(), name: torch.zeros(2)})
    ):
        save_file(held, tmp_path / f"{number}.safetensors")
        said = refused(tmp_path / f"{number}.safetensors")
        assert r"in\n\x1b[31m" in said and "\x1b" not in said
    path = tmp_path / "ours.safetensors"
    save(path, prior_of(PHOTO), PHOTO, {})
    with safe_open(path, "pt") as file:
        meta = file.metadata()
    save_file({name: torch.zeros(2)}, path, meta)
    with pytest.raises(ValueError) as error:
        load(path)
    assert "\n" not in str(error.value) and "\x1b" not in str(error.value)
