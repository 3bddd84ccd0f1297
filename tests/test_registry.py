"""Tables of names: what is defined again takes its own place, and nobody else's."""

import pytest

from undiffuse.registry import OPERATORS, Registry, load_plugin

FADE = """
from undiffuse.registry import OPERATORS

@OPERATORS.register("fade", summary="GAIN", example="fade")
def fade(shape, /, *, gain: float = GAIN):
    return gain

OPERATORS.preset("pale", "fade", summary="half of it", example="pale", gain=GAIN / 2)
OPERATORS.preset("sixth", "pool", summary="of pool", example="sixth", factor=6)
"""


def test_a_plugin_that_is_loaded_again_takes_its_own_place(tmp_path):
    path = tmp_path / "fade.py"
    for gain in (1.0, 3.0):
        path.write_text(FADE.replace("GAIN", str(gain)))
        load_plugin(path)
        assert OPERATORS["fade"](()) == gain and OPERATORS["pale"](()) == gain / 2
        assert OPERATORS["fade"].summary == str(gain)


def test_another_file_of_the_same_name_does_not(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "fade.py").write_text(FADE.replace("GAIN", "1.0"))
    load_plugin(tmp_path / "a" / "fade.py")
    with pytest.raises(ValueError, match="already a degradation named 'fade'; choose another name"):
        load_plugin(tmp_path / "b" / "fade.py")


def test_a_cell_of_a_notebook_that_is_run_again():
    table, cell = Registry("thing"), "@TABLE.register('a', summary='', example='')\ndef a(): return {}"
    for answer in (1, 2):
        exec(cell.format(answer), {"__name__": "__main__", "TABLE": table})
        assert table["a"]() == answer
    for name, module in (("b", "__main__"), ("a", "other")):
        with pytest.raises(ValueError, match="already a thing named 'a'"):
            exec(cell.replace("def a", f"def {name}"), {"__name__": module, "TABLE": table})
    with pytest.raises(ValueError, match="already a thing named 'a'"):
        table.preset("a", "a", summary="", example="", option=1)
    assert table["a"]() == 2
