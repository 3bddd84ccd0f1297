import re
from xml.etree import ElementTree

import numpy as np
import pytest

from tests.app.run_folders import (
    BANDS,
    TITLES,
    charts,
    curve,
    png,
    read_off,
    report,
    rows,
    run_folder,
    write_checks,
    write_table,
)
from undiffuse.app.series import POINTS, read_series
from undiffuse.app.train.strip import LONGEST, PICTURES


@pytest.fixture
def folder(tmp_path):
    return run_folder(tmp_path)


@pytest.mark.parametrize("name", TITLES)
def test_every_curve_has_all_its_points_and_its_ends_where_the_axes_say(folder, name):
    data = rows(50)
    tree = charts(report(folder))[TITLES[name]]
    points = curve(tree.findall(".//polyline")[0])
    assert points.shape == (50, 2) and points.min() >= 0 and points.max() <= 1
    x, y = read_off(tree, points[[0, -1]])
    # places have four digits, and an axis at most two decades here
    np.testing.assert_allclose(x, data["step"][[0, -1]], rtol=0, atol=0.001 * 500)
    np.testing.assert_allclose(y, data[name][[0, -1]], rtol=0.01 if name == "loss" else 0.002, atol=1e-6)


def test_a_loss_that_falls_far_has_a_logarithmic_axis_and_a_rate_begins_at_zero(folder):
    found = charts(report(folder))
    assert "loss, log axis" in "".join(found["Training loss"].itertext())
    assert "log axis" not in "".join(found["Learning rate"].itertext())
    for title in ("Learning rate", "Images per second"):
        x, y = read_off(found[title], np.array([[0.0, 0.0], [1.0, 0.0]]))
        assert (y <= 0).all()


def test_long_logs_become_few_points_that_are_means_with_their_range(folder):
    data = rows(200_000)
    write_table(folder / "log.csv", data)
    tree = charts(report(folder))["Norm of the gradient"]
    points = curve(tree.findall(".//polyline")[0])
    assert POINTS / 2 <= len(points) <= POINTS
    assert len(curve(tree.find(".//polygon"))) == 2 * len(points)
    width = -(-200_000 // POINTS)
    series = read_series(folder / "log.csv")
    assert series is not None and series.last["step"] == 2_000_000
    first = data["gradient_norm"][:width]
    exact = [series.mean["gradient_norm"][0], series.low["gradient_norm"][0], series.high["gradient_norm"][0]]
    np.testing.assert_allclose(
        exact, [first.mean(), first.min(), first.max()], rtol=1e-5
    )  # six digits are stored
    assert (folder / "report.html").stat().st_size < 600_000


@pytest.mark.parametrize(
    ("names", "titles"),
    [
        (("eps", "x0", "v"), ("Loss of eps", "Loss of x0", "Loss of v")),
        (("accuracy", "cross_entropy"), ("Accuracy", "Cross-entropy")),
    ],
)
def test_checks_are_small_multiples_with_a_curve_for_each_band(folder, names, titles):
    write_checks(folder / "validation.csv", names)
    page = report(folder)
    for n, title in enumerate(titles):
        tree = charts(page)[title]
        lines = tree.findall(".//polyline")
        assert len(lines) == len(BANDS) == len({line.get("style") for line in lines})
        for line, (_, high) in zip(lines, BANDS, strict=True):
            points = curve(line)
            assert len(points) == 7
            x, y = read_off(tree, points[[0, -1]])
            np.testing.assert_allclose(x, [100, 700], atol=1)  # 1600 and 11200 images, 16 to a step
            np.testing.assert_allclose(y, [high * (1 + n), high * (1 + n) / 7], rtol=0.02, atol=0.2)
    for label in ("0.002 to 0.1", "0.1 to 1", "1 to 80"):
        assert f"</i>{label}</li>" in page
    assert ("over-fitting at that noise level" in page) == ("eps" in names)


def test_state_and_facts_are_those_of_the_files(folder):
    later = rows(50)
    later["seconds"] = np.concatenate([36.0 * np.arange(1, 31), 36.0 * np.arange(1, 21)])  # resumed once
    write_table(folder / "log.csv", later)
    page = re.sub(r"<[^>]+>", " ", report(folder))
    for fact in ("of 1,000 steps", "8,000", "0.50", "half-life 4000 images", "photo, widths 64 96", "1,234"):
        assert fact in page
    assert "cuda:0" in page and "undiffuse 0.1.0, torch 2.7.1" in page and "64 x 64 pixels" in page
    for title, words in (
        ("skipped steps", "3"),
        ("images/s of late", f"{later['images_per_second'][-20:].mean():.1f}"),
    ):
        assert re.search(rf"{title}\s+{re.escape(words)}\s", page)


def test_one_file_that_asks_the_network_for_nothing(folder):
    page = report(folder)
    assert "http" not in page and "url(" not in page and "@import" not in page and "<script" not in page
    assert all(link.startswith("data:image/") for link in re.findall(r'\b(?:src|href)="([^"]*)"', page))
    assert sorted(path.name for path in folder.glob(".*")) == []


def test_names_are_text_and_nothing_else(folder):
    hostile = '"><script>alert(2)</script>'
    write_checks(folder / "validation.csv", ("eps", hostile))
    (folder / "memory.csv").write_text(f"images,{hostile}\n1,2\n3,4\n")
    (folder / "train.log").write_text(hostile + "\n")
    (folder / "pictures" / "'onload='alert(3)'.png").write_bytes(png())
    page = report(folder)
    assert "<script" not in page and "alert(1)" in page and page.count("alert(2)") >= 3
    assert "'onload" not in page


@pytest.mark.parametrize(
    ("missing", "gone"),
    [
        ("config.yaml", "The configuration"),
        ("log.csv", "<h2>Training</h2>"),
        ("validation.csv", "<h2>Validation"),
        ("memory.csv", "Memory"),
        ("train.log", "<h2>Log</h2>"),
    ],
)
def test_a_missing_file_leaves_its_section_out(folder, missing, gone):
    whole = report(folder)
    (folder / missing).unlink()
    page = report(folder)
    assert gone in whole and gone not in page
    assert set(charts(page)) <= set(charts(whole))
    (folder / missing).write_bytes(b"\xff\x00,{")  # and so does one that is no such file
    page = report(folder)
    assert gone not in page or missing == "train.log"


def test_an_empty_folder_has_a_report_too(tmp_path):
    page = report(tmp_path)
    assert tmp_path.name in page and not charts(page)


@pytest.mark.parametrize("torn", ["510,8160,0.5", "510,8160,9,9,9,0,40,1", "510,8160,9,9,9,0,40,18\r"])
@pytest.mark.parametrize("table", ["log.csv", "validation.csv"])
def test_a_torn_last_row_is_passed_over(folder, torn, table):
    before = report(folder)
    with (folder / table).open("a", newline="") as file:
        file.write(torn)
    after = report(folder)
    assert [ElementTree.tostring(t) for t in charts(after).values()] == [
        ElementTree.tostring(t) for t in charts(before).values()
    ]


def test_what_is_no_number_is_a_gap_and_a_single_point_a_dot(folder):
    data = rows(9)
    data["rate"][[3, 5]] = np.nan, np.inf
    write_table(folder / "log.csv", data)
    lines = (folder / "log.csv").read_text().splitlines()
    lines[8] = re.sub("[^,]+", "x", lines[8])
    (folder / "log.csv").write_text("\n".join(lines) + "\n")
    tree = charts(report(folder))["Learning rate"]
    assert [len(curve(line)) for line in tree.findall(".//polyline")] == [3]
    assert len(tree.findall(".//path")) == 3


def test_pictures_are_the_newest_first_evenly_chosen_and_reduced(folder):
    for step in range(400, 4000, 100):
        (folder / "pictures" / f"{step:08}.png").write_bytes(png())
    (folder / "pictures" / "00004000.png").write_bytes(png((1500, 700)))
    page = report(folder)
    steps = [int(step.replace(",", "")) for step in re.findall(r"<figcaption>step ([\d,]+)", page)]
    assert len(steps) == PICTURES and steps[0] == 4000 and steps[-1] == 100
    assert max(-np.diff(steps)) <= 400 and min(-np.diff(steps)) >= 300
    assert page.count("<figure hidden>") == PICTURES - 1
    assert re.findall(r"data:image/(\w+)", page) == ["jpeg"] + ["png"] * (PICTURES - 1)
    assert f'width="{LONGEST}"' in page
    (folder / "pictures" / "00004000.png").write_bytes(png()[:60])  # torn: passed over
    steps = re.findall(r"<figcaption>step ([\d,]+)", report(folder))
    assert len(steps) == PICTURES - 1 and "4,000" not in steps
