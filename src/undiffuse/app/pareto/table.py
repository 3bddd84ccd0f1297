"""The tables and the words of a comparison."""

import math
from collections.abc import Sequence

from undiffuse.app.analyse.section import Cell, Section, Table
from undiffuse.app.pareto.data import Data
from undiffuse.app.pareto.draw import figure
from undiffuse.app.pareto.points import COSTS, Measure, Point, alike, best
from undiffuse.config.pareto import ParetoConfig

COLUMNS = (
    "task", "measure", "prior", "role", "how", "levels", "guidance asked for", "pictures", "value", "95 % from",
    "95 % to", "calls a picture", "parameters", "GFLOP a call", "GFLOP a picture", "seconds a picture",
    "CPU seconds a picture", "peak memory of a call, MB", *(f"front against {words}" for words in COSTS.values()),
)  # fmt: skip
FRONTS = (
    "task", "measure", "prior", "calls a picture", "parameters", "GFLOP a picture", "seconds a picture", "value",
    "95 % from", "95 % to", "on the front against",
)  # fmt: skip
BUSY = 1.5  # wall seconds over CPU seconds, from which the machine did something else, or waited


def sections(
    config: ParetoConfig, points: Sequence[Point], data: Data, notes: Sequence[str], name: str
) -> tuple[Section, Section]:
    """The picture and what it comes to; then the numbers. points: with their fronts."""
    table = Table("all", "All that was measured", COLUMNS, [_row(point) for point in points], _meaning())
    measures = list(dict.fromkeys(point.measure for point in points))
    picture = Section(
        name="pareto",
        title=f"Quality against cost: {name}",
        summary=" ".join(_found(measure, points) for measure in measures),
        figures=(figure(points, table),),
        notes=(*_notes(config, points, data), *notes),
        facts={"priors": list(dict.fromkeys(point.prior for point in points))},
    )
    return picture, Section("numbers", "The numbers", "", tables=(_fronts(points), table))


def _row(point: Point) -> tuple[Cell, ...]:
    measure = point.measure
    return (
        measure.task, measure.title, point.prior, point.role, point.how, point.levels, point.guidance, point.n,
        _known(point.value), _known(point.low), _known(point.high), point.calls, point.parameters,
        point.flop_of_call / 1e9, point.flop / 1e9, point.seconds, point.cpu, point.memory / 1e6,
        *(name in point.on for name in COSTS),
    )  # fmt: skip


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _fronts(points: Sequence[Point]) -> Table:
    rows: list[tuple[Cell, ...]] = [
        (
            point.measure.task, point.measure.title, point.prior, point.calls, point.parameters, point.flop / 1e9,
            point.seconds, point.value, _known(point.low), _known(point.high),
            ", ".join(words for name, words in COSTS.items() if name in point.on),
        )
        for point in points if point.on
    ]  # fmt: skip
    caption = "What nobody beats in both quality and one of the costs; the last column says which."
    return Table("fronts", "The fronts", FRONTS, rows, caption)


def _meaning() -> str:
    return (
        "A row is a prior with a number of levels, by one measure. Calls are counted as they pass through the network, "
        "guided ones twice; so is FLOP, 2 for each multiply-add of convolutions, matrix products and attention. Memory "
        "is the most that tensors took in one question for one picture, weights not included. On a front are points "
        "that nobody beats in both: better at no more cost, or cheaper at no less quality. A value that is missing "
        "diverged."
    )


def _found(measure: Measure, points: Sequence[Point]) -> str:
    """One sentence: the best, and the cheapest that cannot be told from it."""
    some = [point for point in points if point.measure == measure]
    top = best(some)
    head = f"{measure.task}, {measure.title}:"
    if top is None:
        return f"{head} all diverged."
    calls = "1 call" if top.calls == 1 else f"{top.calls:g} calls"
    line = f"{head} best is {top.prior} with {calls}, {top.value:.4g}"
    near = [point for point in some if alike(point, top)]
    cheap = min(near, key=lambda point: (point.flop, -point.value if measure.higher else point.value))
    if cheap is not top:
        share = f"{cheap.flop / top.flop:.2g} of the FLOP"
        line += f"; {cheap.prior} with {cheap.calls:g}, {cheap.value:.4g}, cannot be told from it, at {share}"
    return line + "."


def _notes(config: ParetoConfig, points: Sequence[Point], data: Data) -> list[str]:
    notes: list[str] = []
    if data.reference is not None:
        notes.append(f"{config.n} samples of each are compared with {data.reference.told}.")
        if not data.reference.comparable:
            notes.append(
                "These features are of no network of the literature: the distances compare among themselves only."
            )
    if data.clean:
        notes.append(
            f"Restored with {config.algorithm} at noise {config.noise:g} (white - black = 1): {data.told}, the same "
            "measurements for all priors."
        )
    slow = [point.seconds / point.cpu for point in points if point.cpu > 0]
    if slow and max(slow) > BUSY:
        notes.append(
            f"Seconds are up to {max(slow):.2g} times those of the CPU: the machine had other work, or another device "
            "did it. CPU seconds are in the table."
        )
    return notes
