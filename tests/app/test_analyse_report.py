"""What all analyses share: sections as a page and as files, and whether seeds draw the same again."""

import json
import math
import re
from types import SimpleNamespace

import pytest
import torch

from tests.small import CLASSES, stored
from undiffuse.app.analyse import draw, report
from undiffuse.app.analyse.determinism import analyse, compared
from undiffuse.app.analyse.section import Attachment, Section, Table
from undiffuse.app.analyse.subjects import names
from undiffuse.app.events import Done
from undiffuse.config.analyse.everything import AllConfig
from undiffuse.config.analyse.sizes import SizesConfig
from undiffuse.config.analyse.trajectories import DeterminismConfig, TrajectoriesConfig
from undiffuse.config.said import command_line


def table(name="numbers"):
    rows = [("a <b>", 1, 0.12345678, None), ("c", 2000, math.nan, True)]
    return Table(name, "Numbers", ("what", "n", "x", "y"), rows, "as they are.")


def figure(name="line"):
    with draw.style():
        canvas, panel = draw.frame(4, 3)
        panel.plot([0.001, 1, 100], [1e-3, 1, 30], label="<script>", **draw.line_style(1))
        panel.set_yscale("log")
        draw.sigma_axis(panel)
        draw.plain_log(panel.yaxis)
        panel.legend()
        return draw.finish(canvas, name, "A <line>", "it goes up.", table(name))


def section(name="first", **given):
    return Section(
        name, f"The {name}", "Found.", (figure(),), (table(),), ("Mind.",), {"x": math.inf}, **given
    )


def test_one_section_as_files(tmp_path):
    attached = Attachment("note.txt", "a note", lambda path: path.write_text("here"))
    report.write(tmp_path, [section(attachments=(attached,))], "undiffuse analyse it", {"seed": 3})
    names = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
    assert names == [
        "analysis.json", "figures/line.csv", "figures/line.png", "figures/line.svg", "figures/numbers.csv", "note.txt",
        "report.html",
    ]  # fmt: skip
    told = json.loads((tmp_path / "analysis.json").read_text())
    assert told["settings"] == {"seed": 3} and told["sections"][0]["facts"] == {"x": None}
    assert told["sections"][0]["tables"]["numbers"]["rows"][1] == ["c", 2000, None, True]
    assert (tmp_path / "figures/numbers.csv").read_text() == (
        "what,n,x,y\na <b>,1,0.12345678,\nc,2000,nan,True\n"
    )


def test_the_page_is_safe_and_offline(tmp_path):
    report.write(tmp_path, [section()], "undiffuse analyse '<x>'")
    page = (tmp_path / "report.html").read_text()
    assert "a &lt;b&gt;" in page and "&lt;x&gt;" in page and "<b>a" not in page
    assert page.count("<script>") == 1  # ours; the legend's is text
    assert "default-src 'none'" in page and not re.search(r"(src|href)=\"(https?:)?//", page)
    assert "2,000" in page and ">0.1235<" in page and ">yes<" in page


def test_colours_of_the_page_and_of_paper(tmp_path):
    drawn = figure()
    paper, page = draw.on_paper(drawn.svg), draw.in_page(drawn.svg, 7, 'a "title"')
    for token in (draw.INK, draw.PAPER):
        assert token in drawn.svg and token not in paper + page
    assert "currentColor" in page and "#000000" in paper and "#ffffff" in paper
    assert page.startswith("<svg viewBox=") and "width=" not in page.split(">")[0]
    ids = re.findall(r'\bid="([^"]+)"', page)
    used = re.findall(r"url\(#([^)]+)\)", page) + re.findall(r'href="#([^"]+)"', page)
    assert used and set(used) <= set(ids) and all(name.startswith("f7-") for name in ids)
    assert figure().svg == drawn.svg and figure().png == drawn.png  # the same numbers, the same bytes


def test_several_sections_keep_apart(tmp_path):
    both = [section(), section("second", failed="it <broke>")]
    report.write(tmp_path, both, "undiffuse analyse all")
    assert sorted(path.name for path in (tmp_path / "figures").glob("*.csv")) == [
        "first_line.csv", "first_numbers.csv", "second_line.csv", "second_numbers.csv",
    ]  # fmt: skip
    page = (tmp_path / "report.html").read_text()
    assert 'href="#second"' in page and "it &lt;broke&gt;" in page
    ids = re.findall(r'<[^>]*\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))


def test_numbers_on_a_narrow_logarithmic_axis():
    with draw.style():
        _, panel = draw.frame()
        panel.plot([1, 2], [0.11, 0.34])
        panel.set_yscale("log")
        draw.plain_log(panel.yaxis)
        shown = [panel.yaxis.get_major_formatter()(tick) for tick in panel.get_yticks() if 0.1 < tick < 0.35]
    assert len(shown) >= 3 and "0.2" in shown


def test_figures_without_matplotlib(monkeypatch):
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="pip install matplotlib"), draw.style():
        pass


def test_seeds_draw_the_same_again(tmp_path):
    path = stored(tmp_path / "prior.safetensors", CLASSES)
    given = DeterminismConfig(run=str(path), n=5, steps=6, batch=3)
    (found,) = (event.result for event in analyse(given) if isinstance(event, Done))
    rows = {row[0]: row[1:] for row in found.tables[0].rows}
    assert rows["once more"] == (True, 5, 0.0, 0.0, 0.0, None)
    assert {"each picture alone", "in the opposite order", "in float64, on the CPU"} <= set(rows)
    same, equal, largest, rms, _, parted = rows["in float64, on the CPU"]
    assert not same and equal == 0 and 0 < rms <= largest < 1e-3 and parted is not None  # of float32 sums
    assert rows["each picture alone"][2] < 1e-3 and "the same to the bit" in found.summary


def test_differences_are_those_that_are_there():
    """0.5 in one value of one of two pictures at the last two of four levels; 8 bits show it in one value of 32."""
    first = torch.zeros(4, 2, 1, 4, 4)
    again = first.clone()
    again[2:, 1, 0, 0, 0] = 0.5
    found = compared("so", first, again)
    assert found.steps.tolist() == [0, 0, 0.25, 0.25] and not found.same
    assert found.end == pytest.approx(0.25 / 32**0.5) and found.equal == 1 and found.pixels == 1 / 32
    assert compared("so", first, first.clone()).same
    with pytest.raises(ValueError, match="not finite"):
        compared("so", first, again * math.nan)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_beside_the_cpu(tmp_path):
    path = stored(tmp_path / "prior.safetensors", CLASSES)
    given = DeterminismConfig(run=str(path), n=4, steps=6, device="cuda")
    (found,) = (event.result for event in analyse(given) if isinstance(event, Done))
    rows = {row[0]: row[1:] for row in found.tables[0].rows}
    assert 0 <= rows["on the CPU in place of cuda"][2] < 1e-2


def test_a_dollar_in_a_name_begins_no_formula():
    with draw.style():
        canvas, panel = draw.frame(4, 3)
        panel.plot([1, 2], label=r"costs $5 \or$ more")
        panel.legend()
        drawn = draw.finish(canvas, "line", "A line", "it goes up.")
    assert r"costs $5 \or$ more" in drawn.svg


def test_an_axis_without_a_point_says_nothing(recwarn):
    with draw.style():
        canvas, panel = draw.frame(4, 3)
        panel.plot([1, 2], [0, 0])
        panel.set_yscale("log")
        draw.finish(canvas, "line", "A line", "all of it is 0.")
    assert not [str(it.message) for it in recwarn]


def test_a_name_that_legends_leave_out_gets_more_of_its_path():
    opened = [SimpleNamespace(name=name) for name in ("runs/_a", "runs/b", "other/b")]
    assert names(opened) == ["./_a", "runs/b", "other/b"]


@pytest.mark.parametrize(
    ("name", "model", "given", "said"),
    [
        ("sizes", SizesConfig, {"students": ("s",), "focus": "0.1-0.5"}, "--focus 0.1-0.5"),
        ("sizes", SizesConfig, {"students": ("s",), "choose": (0.1, 0.3)}, "--choose 0.1,0.3"),
        ("trajectories", TrajectoriesConfig, {"priors": ("s",), "embed": ()}, "--embed none"),
        ("all", AllConfig, {"run": "s", "skip": ("noise", "sizes")}, "--skip noise,sizes"),
        ("all", AllConfig, {"run": "s", "plugins": ("a.py", "b.py")}, "--plugin a.py --plugin b.py"),
    ],
)
def test_the_command_of_a_report_is_one_that_can_be_given(name, model, given, said):
    assert command_line(model(**given), "undiffuse", "analyse", name) == f"undiffuse analyse {name} s {said}"
