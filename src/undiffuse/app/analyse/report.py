"""The report of analyses: one HTML file that needs no network, with the figures and numbers beside it."""

import csv
import importlib.metadata
import io
import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from markupsafe import Markup

from undiffuse.app.analyse.draw import in_page, on_paper
from undiffuse.app.analyse.section import Cell, Section, Table
from undiffuse.app.outputs import make_folder, save_bytes

REPORT, RECORD, FIGURES = "report.html", "analysis.json", "figures"
ROWS = 500  # of a table on the page; its CSV has all


def write(
    folder: Path, sections: Sequence[Section], command: str, settings: dict[str, Any] | None = None
) -> list[Path]:
    """report.html, figures/NAME.svg, .png and .csv, what is attached, and last analysis.json.

    settings: what was asked for, as JSON; `places.free` knows the folder by it. Names that two sections share get the
    section's in front. Returns what was written, the report first.
    """
    sections = apart(sections)
    for section in sections:
        _write_parts(folder, section)
    page = save_bytes(folder / REPORT, _page(sections, command).encode(errors="replace"))
    told = {
        "undiffuse": importlib.metadata.version("undiffuse"),
        "command": command,
        "settings": settings or {},
        "sections": [record(section) for section in sections],
    }
    save_bytes(folder / RECORD, json.dumps(told, indent=1, allow_nan=False).encode())
    return [page, folder / RECORD]


def apart(sections: Sequence[Section]) -> list[Section]:
    """The same, with names of figures, tables and attachments that are each others' in no two sections."""
    if len(sections) == 1:
        return list(sections)
    found: list[Section] = []
    for section in sections:
        mine = section.name
        figures = tuple(
            replace(figure, name=f"{mine}_{figure.name}", csv=_named(figure.csv, mine))
            for figure in section.figures
        )
        tables = tuple(replace(table, name=f"{mine}_{table.name}") for table in section.tables)
        files = tuple(replace(file, name=f"{mine}_{file.name}") for file in section.attachments)
        found.append(replace(section, figures=figures, tables=tables, attachments=files))
    return found


def _named(table: Table | None, section: str) -> Table | None:
    return None if table is None else replace(table, name=f"{section}_{table.name}")


def _write_parts(folder: Path, section: Section) -> None:
    make_folder(folder / FIGURES)
    for figure in section.figures:
        save_bytes(folder / FIGURES / f"{figure.name}.svg", on_paper(figure.svg).encode())
        if figure.png is not None:
            save_bytes(folder / FIGURES / f"{figure.name}.png", figure.png)
        if figure.csv is not None:
            save_bytes(folder / FIGURES / f"{figure.name}.csv", as_csv(figure.csv))
    for table in section.tables:
        save_bytes(folder / FIGURES / f"{table.name}.csv", as_csv(table))
    for file in section.attachments:
        file.write(folder / file.name)


def as_csv(table: Table) -> bytes:
    """With a line of titles; a value that there is none of is empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(table.columns)
    writer.writerows(["" if cell is None else cell for cell in row] for row in table.rows)
    return text.getvalue().encode()


def record(section: Section) -> dict[str, Any]:
    """For JSON, which has no infinity: what is not finite is null."""
    return {
        "name": section.name,
        "title": section.title,
        "summary": section.summary,
        "failed": section.failed,
        "notes": list(section.notes),
        "facts": _finite(section.facts),
        "figures": [{"name": it.name, "title": it.title, "caption": it.caption} for it in section.figures],
        "tables": {
            it.name: {"columns": list(it.columns), "rows": _finite([list(row) for row in it.rows])}
            for it in section.tables
        },
        "attachments": [it.name for it in section.attachments],
    }


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _page(sections: Sequence[Section], command: str) -> str:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("undiffuse.app", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
    )
    numbers = iter(range(1_000_000))
    drawn = {
        figure.name: Markup(in_page(figure.svg, next(numbers), figure.title))
        for section in sections
        for figure in section.figures
    }
    return environment.get_template("analyse/report.html.j2").render(
        sections=sections,
        drawn=drawn,
        command=command,
        most=ROWS,
        cell=cell,
        numeric=numeric,
        figures=FIGURES,
    )


def numeric(table: Table) -> list[bool]:
    """Of each column, whether it holds numbers: they stand to the right."""
    columns = zip(*table.rows, strict=True) if table.rows else ((),) * len(table.columns)
    return [any(isinstance(value, int | float) for value in column) for column in columns]


def cell(value: Cell) -> str:
    """As a reader sees it: four digits, a dash for none."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        if math.isnan(value):
            return "-"
        return "0" if value == 0 else f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else value
