import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.app.tiny_run import prepare
from tests.pictures import photograph
from undiffuse import cli
from undiffuse.core.images import write


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str


@pytest.fixture
def undiffuse(monkeypatch, capsys):
    """Run a command line in this process."""

    def run(*arguments: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["undiffuse", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            cli.main()
        said = capsys.readouterr()
        return Outcome(stop.value.code, said.out, said.err)

    return run


@pytest.fixture
def photo(tmp_path) -> Path:
    """A colour photograph of 48x64 pixels."""
    path = tmp_path / "photo.png"
    write(photograph(48, 64), path)
    return path


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with data to train on and a configuration, the current one."""
    monkeypatch.chdir(tmp_path)
    prepare()
    return tmp_path
