"""Files that are written whole or not at all: pictures, tensors and all else go through one place."""

import pytest
import torch

from undiffuse.core.images import replace_file
from undiffuse.core.replacing import replacing
from undiffuse.core.tensors import write_tensors


def test_the_new_takes_the_place_of_the_old_only_when_it_is_whole(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"old")
    with replacing(path) as temporary:
        temporary.write_bytes(b"new")
        assert path.read_bytes() == b"old" and temporary.parent == tmp_path
    assert path.read_bytes() == b"new" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("mode", [0o600, 0o640])
def test_the_rights_of_the_old_stay(tmp_path, mode):
    path = tmp_path / "a"
    path.write_bytes(b"old")
    path.chmod(mode)
    replace_file(path, b"new")
    write_tensors(path, {"x": torch.ones(1)}, {})
    assert path.stat().st_mode & 0o777 == mode


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt(), GeneratorExit()])
def test_what_fails_leaves_the_old(tmp_path, error):
    path = tmp_path / "a"
    path.write_bytes(b"old")
    with (
        pytest.raises(ValueError if isinstance(error, OSError) else type(error)),
        replacing(path) as temporary,
    ):
        temporary.write_bytes(b"half")
        raise error
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "put", [lambda path: replace_file(path, b"1"), lambda path: write_tensors(path, {"x": torch.ones(1)}, {})]
)
def test_who_cannot_write_is_told_the_same(tmp_path, put):
    """In one line, with what can be done, whatever is written; a name that is none, too."""
    for path in (tmp_path / "missing" / "a", tmp_path / "a\0b", tmp_path / "a\nb" / "c"):
        with pytest.raises(ValueError, match="cannot be written .* is intact: free some space") as caught:
            put(path)
        assert "\n" not in str(caught.value)
    (tmp_path / "folder").mkdir()
    with pytest.raises(ValueError, match="'.*/folder' cannot be written"):
        put(tmp_path / "folder")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]
