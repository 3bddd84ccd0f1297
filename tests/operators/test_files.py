"""Kernel files of unknown origin."""

import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from undiffuse.operators import kernels
from undiffuse.registry import OPERATORS


class Explosive:
    def __reduce__(self):
        return (Path.touch, (Path("exploded"),))


def write(path: Path, content: str) -> Path:
    if content == "pickle":
        np.save(path, np.array([Explosive()], dtype=object), allow_pickle=True)
    elif content == "archive":
        np.savez(path.with_suffix(".npz"), a=np.ones(3) / 3)
        path.with_suffix(".npz").rename(path)
    elif content == "text":
        path.write_text("not an array")
    elif content == "empty":
        path.write_bytes(b"")
    elif content == "huge header":
        header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000, 1000000), }"
        header += b" " * (-(len(header) + 11) % 64) + b"\n"
        path.write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + b"\0" * 64)
    else:
        arrays = {
            "nan": np.array([0.5, np.nan, 0.5]),
            "complex": np.ones((3, 3), dtype=complex) / 9,
            "strings": np.array(["a", "b"]),
            "3-D": np.ones((1, 3, 3)) / 9,
            "no taps": np.ones((0, 3)),
            "long": np.ones((1, 2000)) / 2000,
            "sum 2": np.ones((2, 2)) / 2,
        }
        np.save(path, arrays[content])
    return path


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("pickle", "not a plain .npy"),
        ("archive", "archive"),
        ("text", "not a plain .npy"),
        ("empty", "not a plain .npy"),
        ("huge header", "k.npy"),
        ("nan", "not finite"),
        ("complex", "complex128"),
        ("strings", "real numbers"),
        ("3-D", "1, 3, 3"),
        ("no taps", "0, 3"),
        ("long", "1, 2000"),
        ("sum 2", "adds up to 2, not 1; use normalise=true"),
    ],
)
def test_hostile_kernels_are_refused(content, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = write(tmp_path / "k.npy", content)
    with pytest.raises(ValueError, match=words) as caught:
        OPERATORS["blur"]((1, 8, 8), kernel=str(path))
    assert "\n" not in str(caught.value)
    assert not Path("exploded").exists()


def test_a_kernel_file_is_used_as_it_is_or_divided_by_its_sum(tmp_path):
    np.save(tmp_path / "k.npy", np.ones((2, 2)) / 2)
    assert float(kernels.from_file(tmp_path / "k.npy", True).sum()) == pytest.approx(1, rel=1e-12)
    np.save(tmp_path / "line.npy", np.array([0.25, 0.5, 0.2504]))
    assert float(kernels.from_file(tmp_path / "line.npy", None).sum()) == pytest.approx(1.0004**2, rel=1e-12)
    np.save(tmp_path / "edge.npy", np.array([[-1.0, 0.0, 1.0]]))
    with pytest.raises(ValueError, match="cannot be normalised"):
        kernels.from_file(tmp_path / "edge.npy", True)


def test_an_image_is_always_normalised(tmp_path):
    Image.fromarray(np.array([[0, 100], [100, 200]], dtype=np.uint8)).save(tmp_path / "k.png")
    expected = torch.tensor([[0, 0.25], [0.25, 0.5]], dtype=torch.float64)
    assert torch.equal(kernels.from_file(tmp_path / "k.png", None), expected)
    with pytest.raises(ValueError, match="drop normalise=false"):
        kernels.from_file(tmp_path / "k.png", False)
    Image.new("L", (2000, 2000), 1).save(tmp_path / "large.png")
    with pytest.raises(ValueError, match="2000 x 2000 pixels"):
        kernels.from_file(tmp_path / "large.png", None)
    (tmp_path / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n garbage")
    with pytest.raises(ValueError, match="cannot be read as an image"):
        kernels.from_file(tmp_path / "bad.png", None)
