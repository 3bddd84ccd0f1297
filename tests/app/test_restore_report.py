"""The page of a restoration, read as a browser and a reader would."""

import html
import json
import re
import shlex
from html.parser import HTMLParser

import numpy as np
import pytest
import torch

from tests.pictures import photograph
from undiffuse.app.restore import figures
from undiffuse.app.restore.embedded import embedded
from undiffuse.app.restore.figures import SNAPSHOT, STEPS, strip
from undiffuse.app.restore.report import HEAVIEST, LIGHT, LIGHTEST, write_folder_report
from undiffuse.app.restore.trace import Snapshot
from undiffuse.config import RestoreConfig
from undiffuse.config.said import command_line
from undiffuse.core.images import write

EMPTY = {"meta", "img", "input", "br"}  # without a closing tag
OPTIONS = ["--degrade", "sr4", "--noise", "0.02", "--steps", "3"]
HOSTILE = "\"><script>alert(1)</script> & 'b\u202e"


class Page(HTMLParser):
    """Tags that were left open, words that are seen, and every attribute."""

    def __init__(self, text):
        super().__init__()
        self.open, self.wrong, self.attributes, self.tags, self.words = [], [], [], [], []
        self.feed(text)
        self.close()
        self.wrong += self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, *pair) for pair in attrs]
        if tag not in EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, *pair) for pair in attrs]

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.wrong.append("/" + tag)

    def handle_data(self, data):
        if not {"style", "script"} & set(self.open):
            self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


@pytest.fixture
def restored(undiffuse, photo, tmp_path):
    """Run on the photograph; the page's text."""

    def run(*arguments, image=photo):
        out = tmp_path / "out"
        done = undiffuse("restore", image, *arguments, "--out", out)
        assert done.code == 0, done.err
        return (out / "report.html").read_text(encoding="utf-8")

    return run


def commands(page):
    return [html.unescape(c) for c in re.findall(r'<pre class="command">(.*?)</pre>', page, re.S)]


def rows(page):
    """(finest detail in pixels, percent that was measured) of each octave."""
    found = re.findall(r"<td>\d+ to (\d+)</td>\s*<td class=\"bar\">.*?</td><td>(\d+) %</td>", page)
    return [(int(fine), int(percent)) for fine, percent in found]


def check(page):
    """Well-formed, and with all that it shows inside."""
    found = Page(page)
    assert not found.wrong
    for _, name, value in found.attributes:
        if name in ("src", "href", "srcset", "action", "data", "xlink:href"):
            assert value.startswith(("data:image/", "#r")), value
    assert not re.search(r"url\(|@import|https?:|//[a-z]", re.sub(r'"data:image[^"]*"', "", page))
    assert "default-src 'none'" in page and found.tags.count("script") == 1
    targets = {value for _, name, value in found.attributes if name == "id"}
    assert {v[1:] for tag, name, v in found.attributes if (tag, name) == ("a", "href")} <= targets
    return found


def test_a_page_with_a_reference(restored):
    page = restored(*OPTIONS)
    found = check(page)
    assert page.count('class="strip"') == 1 and page.count("after call") == 2 * 3  # alt text and caption
    assert {"PSNR after each step", "SSIM after each step", "Power by spatial frequency"} == set(
        re.findall(r"<title>([^<]*)</title><desc>", page)
    )
    for words in ("Does it agree", "By size of detail", "Against the original", "PSNR", "as saved"):
        assert words in found.text
    assert found.text.count("How to read it:") >= 6
    assert 'class="table"><table class="octaves"' in page and "How sure is it" not in page


def test_a_page_without_a_reference(restored, tmp_path):
    small = photograph(48, 64).unfold(1, 2, 2).unfold(2, 2, 2).mean((-1, -2))
    write(small, tmp_path / "small.png")
    page = restored("--measured", "--degrade", "sr2", "--steps", 3, image=tmp_path / "small.png")
    found = check(page)
    assert page.count('class="strip"') == 1 and 'class="octaves"' in page
    assert "PSNR after each step" not in page and "Against the original" not in found.text
    assert "dB" not in found.text.split(": sr2")[1]
    assert "noise estimated at" in found.text


def test_draws_have_a_map_with_a_scale_and_a_word_on_coverage(restored, tmp_path):
    page = restored("--degrade", "inp:box,missing=0.2", "--draws", 3, "--steps", 3, "--algorithm", "ddrm")
    found = check(page)
    record = json.loads((tmp_path / "out/photo.json").read_text())
    assert f"{100 * record['metrics']['coverage90']:.1f} % of the true pixels" in found.text
    assert (
        'class="scale"' in page and "% of white - black" in found.text and "of the first draw" in found.text
    )
    assert all(f"the truth is darker in {share} % of cases" in found.text for share in (5, 50, 95))


def test_what_is_measured_is_found_on_a_part_of_a_large_picture(restored, monkeypatch, tmp_path):
    arguments = ["--degrade", "sr2", "--noise", 0, "--prior", "photo-gaussian", "--save", "record"]
    whole = rows(restored(*arguments))
    assert [fine for fine, _ in whole] == [16, 8, 4, 2] and min(whole[0][1], whole[1][1]) > 85
    assert whole[-1][1] < 20  # of the finest octave a mean of 2x2 pixels keeps next to nothing
    monkeypatch.setattr(figures, "SHARED", 32)
    page = restored(*arguments)
    assert "Computed for the middle 32 x 32 pixels" in check(page).text
    # Two probes of octaves of 20 coefficients and more, on another part of the picture's spectrum.
    np.testing.assert_allclose([s for _, s in rows(page)], [s for _, s in whole], atol=5)  # in percent
    np.save(tmp_path / "mask.npy", np.ones((48, 64), np.uint8))
    arguments[1] = f"inp:mask={tmp_path / 'mask.npy'}"
    page = restored(*arguments)
    assert "left out: it takes too long" in check(page).text and rows(page) == []


def test_the_command_gives_the_same_pixels(restored, undiffuse, photo, tmp_path):
    page = restored(*OPTIONS, "--seed", 5, "--algorithm", "ddrm", "--eta-b", 0.5)
    (line,) = commands(page)
    before = (tmp_path / "out/photo_restored.png").read_bytes()
    (tmp_path / "out/photo_restored.png").unlink()
    program, *arguments = shlex.split(line)
    assert program == "undiffuse" and undiffuse(*arguments).code == 0
    assert (tmp_path / "out/photo_restored.png").read_bytes() == before
    assert "--prior photo" in line and "--batch" not in line and "--guidance" not in line


def test_the_command_of_every_option(tmp_path):
    config = RestoreConfig(
        image="-x y.png", degrade="blur:kernel=a 'b'.png", out="o", measured=True, noise="auto", label="3", seed=-2,
        save=("restored", "record"), plugins=("p 1.py", "p2.py"), eta=0.1,
    )  # fmt: skip
    words = shlex.split(command_line(config, "undiffuse", "restore"))
    assert words[:3] == ["undiffuse", "restore", "./-x y.png"]
    given = " ".join(words[3:])
    for said in (
        "--degrade blur:kernel=a 'b'.png", "--out o", "--measured --noise auto", "--seed -2", "--label 3",
        "--save restored,record", "--plugin p 1.py --plugin p2.py", "--eta 0.1",
    ):  # fmt: skip
        assert said in given
    assert "--goal psnr" in given and "--draws 1" in given  # each is the default of the other
    assert len(words) == 3 + 2 * 11 + 1  # and nothing else


def test_hostile_names_are_text(restored, undiffuse, photo, tmp_path):
    (tmp_path / "scans").mkdir()
    name = HOSTILE.replace("/", "\\") + ".png"
    (tmp_path / "scans" / name).write_bytes(photo.read_bytes())
    (tmp_path / "scans" / "<b onload=alert(2)>.png").write_bytes(b"no picture")
    done = undiffuse("restore", tmp_path / "scans", *OPTIONS, "--out", tmp_path / "out")
    assert done.code == 2
    page = (tmp_path / "out/report.html").read_text(encoding="utf-8")
    found = check(page)
    assert name in found.text and "Passed over" in found.text and "<b onload=alert(2)>.png" in found.text
    assert "<b onload" not in page and not any(n.startswith("onload") for _, n, _ in found.attributes)
    whole, one = commands(page)
    assert shlex.split(whole)[2] == str(tmp_path / "scans")
    words = shlex.split(one)
    assert words[2] == str(tmp_path / "scans" / name)
    assert words[words.index("--out") + 1] == str(tmp_path / "out" / name.removesuffix(".png"))
    before = page
    assert undiffuse(*words[1:]).code == 0  # into a folder of its own
    assert (tmp_path / "out/report.html").read_text(encoding="utf-8") == before
    alone, among = (next(p.glob("*_restored.png")) for p in (tmp_path / "out" / name[:-4], tmp_path / "out"))
    assert alone.read_bytes() == among.read_bytes()


def test_a_folder_of_which_nothing_was_done_now(tmp_path):
    lines = [
        {"image": f"{n}.png", "status": "done", "degrade": "sr4", "noise": 0.0, "algorithm": "ddrm", "calls": 2,
         "draws": 1, "verdict": "consistent", "seconds": n} for n in range(3)
    ]  # fmt: skip
    found = check(write_folder_report(lines, [], tmp_path / "r.html").read_text())
    assert found.tags.count("tr") == 4 and found.tags.count("button") == 9


def test_pictures_are_light_and_reduced_alike():
    noisy = torch.rand(3, 300, 400, generator=torch.Generator().manual_seed(0)) * 2 - 1
    smooth = torch.linspace(-1, 1, 400).expand(3, 300, 400)
    shown = embedded([("a", noisy), ("b", smooth)], 400, 20_000)
    assert len({(one.width, one.height) for one in shown}) == 1 and 64 < shown[0].width < 400
    assert sum(len(one.url) for one in shown) < 2 * 20_000 * 4 / 3 + 100  # base64 has 4 bytes for 3
    (exact,) = embedded([("c", noisy[:, :64, :48])], 400, 20_000)
    assert "png" in exact.url[:16] and (exact.width, exact.height) == (48, 64)


def test_a_section_stays_light_at_any_size():
    """What all pictures of a section may take, of draws with an original; curves and words are below 60 kB."""
    pictures = 2 * HEAVIEST + 2 * LIGHT + 3 * LIGHTEST + STEPS * SNAPSHOT
    assert pictures * 4 / 3 + 60_000 < 1_500_000


def test_the_strip_has_both_ends():
    trace = [Snapshot(1.0 / n, n, torch.zeros(3, 8, 8), None, None) for n in range(1, 31)]
    calls = [taken.calls for _, taken in strip(trace)]
    assert len(calls) == 8 and (calls[0], calls[-1]) == (1, 30)
    assert strip(trace[:1]) == []
