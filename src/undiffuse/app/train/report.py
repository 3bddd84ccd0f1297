"""The report of a run, from its folder alone: one HTML file that needs no network."""

import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from undiffuse.app.series import Series, read_series
from undiffuse.app.train import figures
from undiffuse.app.train import folder as places
from undiffuse.app.train.strip import strip
from undiffuse.config.train import read_yaml, write_yaml
from undiffuse.core.images import replace_file

REPORT = "report.html"
READ = 1 << 16  # bytes of train.log from its start, and from its end
TAIL = 40  # lines of it that are shown


def write_report(folder: Path) -> Path:
    """report.html in the folder of a run. What is missing or cannot be read leaves its section out."""
    import jinja2

    config = _config(folder / places.CONFIG)
    log = read_series(folder / places.LOG)
    text = _text(folder / places.TEXT)
    batch = _at(config, "train.batch")
    name = str(config.get("name") or folder.resolve().name)
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("undiffuse.app", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
    )
    page = environment.get_template("train/report.html.j2").render(
        name=name,
        written=time.strftime("%Y-%m-%d %H:%M"),
        state=_state(config, log),
        facts=_facts(config, text),
        curves=figures.curves(log) if log else {},
        memory=figures.memory(read_series(folder / places.MEMORY), batch),
        checks=figures.checks(folder / places.CHECKS, batch),
        strip=strip(folder / "pictures"),
        tail="\n".join(text.splitlines()[-TAIL:]),
        config=write_yaml(config) if config else "",
    )
    replace_file(folder / REPORT, page.encode(errors="replace"))
    return folder / REPORT


def _config(path: Path) -> dict[str, Any]:
    try:
        return read_yaml(path)
    except ValueError:  # the rest of the report stands without it
        return {}


def _at(tree: Any, name: str) -> Any:
    for key in name.split("."):
        tree = tree.get(key) if isinstance(tree, Mapping) else None
    return tree


def _text(path: Path) -> str:
    """The start and the end of a log."""
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        start = file.read(READ)
        file.seek(max(READ, path.stat().st_size - READ))
        return (start + file.read()).decode(errors="replace")


def _state(config: Mapping[str, Any], log: Series | None) -> dict[str, Any]:
    if log is None:
        return {}
    row = log.last
    state: dict[str, Any] = {"asked": _at(config, "train.steps")}
    for name in ("step", "images", "skipped"):
        if np.isfinite(row.get(name, np.nan)):
            state[name] = int(row[name])
    if seconds := log.climbed.get("seconds", 0.0):
        state["hours"] = seconds / 3600
    speed = log.mean.get("images_per_second", np.empty(0))[-20:]
    if np.isfinite(speed).any() and (speed := float(np.nanmean(speed))) > 0:
        state["speed"] = speed
        asked, batch = state["asked"], _at(config, "train.batch")
        if isinstance(asked, int) and isinstance(batch, int) and "images" in state:
            state["left"] = max(0.0, (asked * batch - state["images"]) / speed / 3600)
    return state


def _facts(config: Mapping[str, Any], text: str) -> list[tuple[str, str]]:
    """What was trained on what, in words; a fact that is not known is not listed."""
    data = str(_at(config, "data.path") or "").rstrip("/").rsplit("/", 1)[-1]
    size = _at(config, "data.size")
    counted = re.findall(r"(\d+ to train on.*)", text)
    placed = re.findall(r"([\d,]+) parameters, on (\S+)", text)
    versions = dict(
        re.findall(r"\b(undiffuse|python|torch|CUDA|accelerate|numpy)[ =]+v?(\d+\.[\w.+]+)", text, re.I)
    )
    averages = _at(config, "train.ema")
    facts = {
        "data": ", ".join(filter(None, [data, f"{size} x {size} pixels" if size else "", *counted[-1:]])),
        "licence": _at(config, "data.licence"),
        "network": _terms(config.get("network")),
        "parameters": placed[-1][0] if placed else "",
        "objective": _terms(config.get("objective")),
        "conditioning": _terms(config.get("conditioning")) if _at(config, "conditioning.classes") else "",
        "optimiser": _terms(config.get("optimizer")),
        "batch": _at(config, "train.batch"),
        "averages": ", ".join(f"half-life {_plain(n)} images" for n in averages)
        if isinstance(averages, list)
        else "",
        "precision": _at(config, "train.precision"),
        "seed": _at(config, "train.seed"),
        "device": placed[-1][1] if placed else "",
        "versions": ", ".join(f"{name} {version}" for name, version in versions.items()),
    }
    return [(name, str(value)) for name, value in facts.items() if value not in (None, "")]


def _terms(section: Any) -> str:
    if not isinstance(section, Mapping):
        return ""
    parts: list[str] = []
    for key, value in section.items():
        if value is None or value is False or value == []:
            continue
        words = " ".join(map(_plain, value if isinstance(value, list) else [value]))
        parts.append(words if key in ("name", "prediction") else f"{str(key).replace('_', ' ')} {words}")
    return ", ".join(parts)


def _plain(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
