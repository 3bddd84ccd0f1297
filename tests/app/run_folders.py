"""Synthetic folders of runs, and their reports read as a reader would."""

import io
import re
from xml.etree import ElementTree

import numpy as np
import yaml
from PIL import Image

from undiffuse.app.train.report import write_report

TITLES = {
    "loss": "Training loss",
    "gradient_norm": "Norm of the gradient",
    "rate": "Learning rate",
    "images_per_second": "Images per second",
}
BANDS = ((0.002, 0.1), (0.1, 1.0), (1.0, 80.0))
CONFIG = {
    "name": "faces <script>alert(1)</script>",
    "data": {"path": "/somewhere/faces/", "size": 64, "licence": "CC0 & friends"},
    "network": {"name": "photo", "widths": [64, 96]},
    "objective": {"prediction": "v"},
    "train": {"steps": 1000, "batch": 16, "ema": [4000.0]},
}


def rows(count):
    i = np.arange(1, count + 1)
    noise = np.random.default_rng(0).normal(size=(3, count))
    return {
        "step": 10 * i,
        "images": 160 * i,
        "loss": 2 / i**0.8 * np.exp(0.1 * noise[0]),
        "gradient_norm": 0.4 + 0.02 * noise[1],
        "rate": 3e-4 * np.minimum(1, i / 5),
        "skipped": 0 * i + 3,
        "images_per_second": 40 + noise[2],
        "seconds": 36.0 * i,
    }


def write_table(path, columns):
    lines = [",".join(columns)]
    table = zip(*columns.values(), strict=True)
    lines += [",".join("" if value != value else f"{value:.6g}" for value in row) for row in table]
    path.write_bytes(("\r\n".join(lines) + "\r\n").encode())


def write_checks(path, names, count=7):
    columns = {name: [] for name in ("images", "low", "high", *names, "count")}
    for check in range(1, count + 1):
        for low, high in BANDS:
            row = (1600 * check, low, high, *[high / check * (1 + n) for n in range(len(names))], 256)
            for values, value in zip(columns.values(), row, strict=True):
                values.append(value)
    write_table(path, columns)


def png(size=(30, 20), noisy=False):
    pixels = np.random.default_rng(0).integers(0, 256 if noisy else 2, (size[1], size[0], 3), np.uint8)
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "PNG")
    return data.getvalue()


def run_folder(tmp_path):
    """A run of 50 logged rows, 7 checks and 3 pictures."""
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    write_table(tmp_path / "log.csv", rows(50))
    write_checks(tmp_path / "validation.csv", ("eps", "x0", "v"))
    memory = {
        "images": np.arange(1, 9) * 1000,
        "resident": np.arange(1, 9) * 2.0**28,
        "total": np.full(8, 2.0**40),
    }
    write_table(tmp_path / "memory.csv", memory)
    log = "2026-01-01 00:00:00  undiffuse 0.1.0, torch 2.7.1\n2026-01-01 00:00:00  1,234 parameters, on cuda:0\n"
    (tmp_path / "train.log").write_text(log + "2026-01-01 00:00:01  the <last> line\n")
    (tmp_path / "pictures").mkdir()
    for step in (100, 200, 300):
        (tmp_path / "pictures" / f"{step:08}.png").write_bytes(png())
    return tmp_path


def report(folder):
    return write_report(folder).read_text()


def charts(page):
    """By title."""
    found = re.findall(r'<svg class="chart".*?</svg></svg>', page, re.S)
    trees = [ElementTree.fromstring(text) for text in found]
    return {tree.findtext("title"): tree for tree in trees}


def curve(line):
    """(N, 2) in units of the frame, up is positive."""
    points = np.array([point.split(",") for point in line.get("points").split()], float) / 1000
    return points * [1, -1] + [0, 1]


def read_off(tree, points):
    """Data values of points of the frame, by the labels of the axes: as a reader would."""
    units = {"k": "e3", "M": "e6", "G": "e9"}
    marks = {"x": [], "y": []}
    for text in tree.findall("text"):
        if text.get("y") == "100%" and text.get("dy") == "17":
            kind, place = "x", text.get("x")
        elif text.get("dx") == "-6":
            kind, place = "y", text.get("y")
        else:
            continue
        value = float(re.sub("[kMG]$", lambda unit: units[unit[0]], text.text))
        place = float(place.rstrip("%")) / 100
        marks[kind].append((place if kind == "x" else 1 - place, value))
    log = any("log axis" in "".join(text.itertext()) for text in tree.findall("text"))
    read = []
    for kind, at in zip("xy", points.T, strict=True):
        place, value = np.array(marks[kind]).T
        logarithmic = kind == "y" and log
        slope, start = np.polyfit(place, np.log10(value) if logarithmic else value, 1)
        read.append(10 ** (slope * at + start) if logarithmic else slope * at + start)
    return np.array(read)
