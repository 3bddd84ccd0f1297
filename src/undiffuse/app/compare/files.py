"""Files of a comparison: a table, and a record of all that decided it."""

import csv
import importlib.metadata
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import torch

from undiffuse.app.sample.plan import Plan
from undiffuse.config.compare import CompareConfig

PICTURE, TABLE, RECORD, PRESETS = "compare.png", "compare.csv", "compare.json", "samplers.yaml"


@dataclass(frozen=True, slots=True)
class Row:
    """One sampler. calls, seconds: of one picture."""

    label: str
    sampler: str
    options: str
    grid: str
    steps: int
    calls: float
    seconds: float
    deterministic: bool
    finite: bool
    distance: float | None  # RMS to the fine solution in [0, 1] units; None of what has no such limit
    frechet: float | None  # distance of features to the reference's, if there is one
    sigmas: tuple[float, ...]  # in [-1, 1] units

    def lines(self) -> list[str]:
        """What stands beside its pictures."""
        scored = [] if self.frechet is None else [f"Frechet distance {self.frechet:.4g}"]
        return [self.label, f"{self.calls:g} calls, {self.seconds:.3g} s", self.verdict(), *scored]

    def verdict(self) -> str:
        """Its distance in words."""
        if not self.finite:
            return "diverged"
        if not self.deterministic:
            return "with fresh noise"
        return "" if self.distance is None else f"distance {self.distance:.4f}"


def table(rows: Sequence[Row]) -> bytes:
    """As CSV; a distance that there is none of is empty."""
    text = io.StringIO()
    columns = [name for name in Row.__dataclass_fields__ if name != "sigmas"]
    writer = csv.DictWriter(text, columns, extrasaction="ignore")
    writer.writeheader()
    writer.writerows(asdict(row) for row in rows)
    return text.getvalue().encode()


def record(
    config: CompareConfig,
    plan: Plan,
    rows: Sequence[Row],
    fine: Mapping[str, float] | None,
    device: torch.device,
) -> bytes:
    """As JSON."""
    told = {
        "undiffuse": importlib.metadata.version("undiffuse"),
        "torch": torch.__version__,
        "device": str(device),
        "threads": torch.get_num_threads(),
        "config": config.model_dump(mode="json"),
        "prior": plan.opened.record(),
        "shape": list(plan.shape),
        "units": "distances in [0, 1] units, sigmas in [-1, 1] units, calls and seconds of one picture",
        "fine": fine,
        "samplers": [asdict(row) for row in rows],
    }
    return json.dumps(told, indent=1).encode()
