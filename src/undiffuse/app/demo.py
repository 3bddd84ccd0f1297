"""`undiffuse demo`: the bundled photograph through three degradations, and one report."""

from collections.abc import Iterator
from importlib.resources import as_file, files
from pathlib import Path

from undiffuse.app.events import Done, Event, Note, Saved
from undiffuse.app.outputs import save_bytes
from undiffuse.app.restore import Restored, run
from undiffuse.app.restore.files import check_folder
from undiffuse.app.restore.report import write_report
from undiffuse.app.restore.sheet import sheet
from undiffuse.config import RestoreConfig

DEGRADATIONS = {"sr4": 0.02, "deblur_gauss": 0.02, "inp": 0.0}  # and their noise


def demo(out: Path, seed: int = 0) -> Iterator[Event]:
    """Restore the bundled photograph three times: out/sr4.png and so on, a folder of results each, out/report.html."""
    for folder in (out, *(out / degrade for degrade in DEGRADATIONS)):
        check_folder(folder, "dog", [])
    results: list[Restored] = []
    with as_file(files("undiffuse.assets") / "dog.jpg") as photograph:
        for degrade, noise in DEGRADATIONS.items():
            yield Note(f"{degrade}, noise {noise}")
            config = RestoreConfig(
                image=photograph, degrade=degrade, noise=noise, out=out / degrade, seed=seed
            )
            for event in run(config):
                if isinstance(event, Done):
                    results.append(event.result)
                    yield Saved(save_bytes(out / f"{degrade}.png", sheet(event.result)))
                else:
                    yield event
    yield Saved(write_report(results, out / "report.html"))
    yield Done(results)
