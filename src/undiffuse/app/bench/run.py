"""Every method on every measurement, a row at a time."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from undiffuse.app import machine, outputs
from undiffuse.app.bench import baselines  # noqa: F401 (fills BASELINES)
from undiffuse.app.bench.contenders import Contender, Given, contenders
from undiffuse.app.bench.cost import how, measured
from undiffuse.app.bench.judge import finite, judge
from undiffuse.app.bench.measurements import Cell, Measurements, picture_path
from undiffuse.app.bench.pictures import open_pictures
from undiffuse.app.bench.report import Benched, write_report
from undiffuse.app.bench.summary import summarise
from undiffuse.app.bench.table import DIVERGED, OK, Row, Table
from undiffuse.app.events import Done, Event, Note, Progress, Saved
from undiffuse.app.measurement import view
from undiffuse.app.priors import Opened, announced, open_prior
from undiffuse.app.sizes import check_shape
from undiffuse.config.bench import BenchConfig
from undiffuse.core.devices import moved
from undiffuse.core.images import write
from undiffuse.core.noise import image_seed
from undiffuse.metrics import LPIPS, open_lpips
from undiffuse.operators import build
from undiffuse.restore import Problem


def run(config: BenchConfig) -> Iterator[Event]:
    """Compare methods in the folder config.out. ValueError for bad input, before anything is written.

    Every method reads the stored measurement. The same command again goes on where it was stopped; other
    algorithms, tasks or pictures are added to what is there.
    """
    methods = contenders(config.algorithms, config.baselines, config.calls)
    yield from announced(config.prior)
    opened, device = (
        open_prior(config.prior, config.prior_options, config.precision),
        machine.device(config.device),
    )
    channels = None if opened.prior is None else opened.prior.channels
    pictures, notes = open_pictures(config.data, config.count, config.size, channels)
    for shape in {tuple(picture.pixels.shape[1:]) for picture in pictures}:
        check_shape(opened, shape)
        for task in config.tasks:
            build(task, shape)  # refuses unknown names and options
    reference = _reference(config, methods)
    outputs.check_writable(config.out)
    cells = [
        Cell(picture, task, noise, config.seed)
        for task in config.tasks
        for noise in config.noise
        for picture in pictures
    ]
    shown = {(cell.degrade, cell.noise): cell for cell in reversed(cells)}
    lpips = None if config.lpips is None else open_lpips(None if config.lpips == "auto" else config.lpips)
    lpips_by = "" if lpips is None else lpips.mark[:16]
    lpips = None if lpips is None else lpips.to(device)
    bench = _Bench(config, opened, device, Measurements(config.out), Table(config.out), lpips, lpips_by)
    pairs = bench.missing([(cell, method) for cell in cells for method in methods])
    kept = len(cells) * len(methods) - len(pairs)
    for note in notes:
        yield Note(note)
    yield Note(f"{len(pictures)} pictures, {len(cells)} measurements, {len(methods)} methods; {opened}")
    if kept:
        yield Note(f"{kept} rows are there already")
    yield from bench.rows(pairs, list(shown.values()))
    impossible = len(bench.missing(pairs))
    summary = summarise(bench.comparable(cells, methods), reference)
    if pairs:
        yield Saved(bench.table.path)
    asked = frozenset(method.label(config.draws) for method in methods if method.asked)
    result = Benched(
        config, opened, bench.table.path, summary, len(pairs) - impossible, impossible, kept, how(device),
        tuple(shown.values())[::-1], asked,
    )  # fmt: skip
    if config.report:
        yield Saved(write_report(result))
    yield Done(result)


def _reference(config: BenchConfig, methods: Sequence[Contender]) -> str:
    """The label of the method that others are compared with."""
    labels = [method.label(config.draws) for method in methods]
    if config.reference is None:
        return labels[0]
    for label, method in zip(labels, methods, strict=True):
        if config.reference in (label, method.term):
            return label
    raise ValueError(f"--reference {config.reference}; it is not compared: choose from {', '.join(labels)}")


@dataclass(frozen=True, slots=True)
class _Bench:
    config: BenchConfig
    opened: Opened
    device: torch.device
    measurements: Measurements
    table: Table
    lpips: LPIPS | None
    lpips_by: str  # its weights as the table knows them; empty for none

    @property
    def prior(self) -> str:
        """The prior as the table knows it."""
        return self.opened.mark[:16]

    def key(self, cell: Cell, method: Contender) -> tuple[str, ...]:
        return self._row(cell, method, OK).key

    def missing(self, pairs: Sequence[tuple[Cell, Contender]]) -> list[tuple[Cell, Contender]]:
        """Those without a row of an answer."""
        return [pair for pair in pairs if not self.table.done(self.key(*pair), self.lpips_by)]

    def _row(self, cell: Cell, method: Contender, status: str) -> Row:
        draws = self.config.draws
        prior = self.prior if method.uses_prior else ""
        return Row(
            cell.key, cell.picture.name, cell.degrade, cell.noise, method.label(draws), method.settings(draws),
            prior, status, device=str(self.device), lpips_by=self.lpips_by,
        )  # fmt: skip

    def rows(self, pairs: Sequence[tuple[Cell, Contender]], shown: Sequence[Cell]) -> Iterator[Event]:
        """Measure what is missing, one row after the other."""
        moved(self.opened.denoise, self.device)
        warm: set[torch.Size] = set()
        cell, problem = None, None
        for done, (here, method) in enumerate(pairs):
            yield Progress(
                done, len(pairs), f"{here.degrade} {here.picture.name}: {method.label(self.config.draws)}"
            )
            if here is not cell or problem is None:
                cell, problem = here, self._problem(here, warm)
                if here in shown:
                    self._keep(view(problem), "measured", here)
                    self._keep(here.picture.pixels, "clean", here)
            row, answer = self._measure(here, problem, method)
            if answer is not None and here in shown:
                self._keep(answer, row.method, here)
            self.table.append(row)

    def _problem(self, cell: Cell, warm: set[torch.Size]) -> Problem:
        stored = self.measurements.problem(cell)
        if cell.picture.pixels.shape not in warm:  # the first call of a shape sets the network up
            warm.add(cell.picture.pixels.shape)
            with torch.no_grad():
                x = cell.picture.pixels.to(self.device)
                self.opened.denoise(x, torch.tensor(1.0, device=self.device))
        return Problem(stored.A.on(self.device), stored.y.to(self.device), stored.sigma_y)

    def _measure(self, cell: Cell, problem: Problem, method: Contender) -> tuple[Row, Tensor | None]:
        name, draws = cell.picture.sha256, range(self.config.draws)
        seeds = tuple(image_seed(cell.seed, name, draw) for draw in draws)
        try:
            with measured(self.opened.denoise, self.device) as cost:
                found = method.restore(problem, Given(self.opened, method.calls, seeds))
        except ValueError as error:
            return self._row(cell, method, f"not possible: {error}"), None
        if not finite(found):
            return self._row(cell, method, DIVERGED), None
        figures = judge(found, problem, cell.picture.pixels.to(self.device), self.lpips)
        memory = None if cost.memory is None else cost.memory / 1e6
        row = replace(
            self._row(cell, method, OK), **figures, seconds=cost.seconds, calls=cost.calls, memory=memory
        )
        return row, found.mean(0, keepdim=True)

    def _keep(self, x: Tensor, method: str, cell: Cell) -> None:
        if x.ndim != 4 or x.shape[1] not in (1, 3):  # no picture that PNG holds
            return
        path = picture_path(self.config.out, cell, method)
        outputs.make_folder(path.parent)
        write(x[0].cpu(), path)

    def comparable(self, cells: Sequence[Cell], methods: Sequence[Contender]) -> list[Row]:
        """All rows on these measurements: of this run, of earlier ones, and of other priors under their own name.

        Rows of a method of this run with other settings are of an older version, and left out; so is an LPIPS of
        other weights than this run's, or, if this run has none, all of them unless they are of the same.
        """
        keys, ours = {cell.key for cell in cells}, {self.key(cell, m)[1:] for cell in cells for m in methods}
        names = {name for name, _, _ in ours}
        found: list[Row] = []
        for row in self.table.rows:
            if row.measurement not in keys:
                continue
            if row.key[1:] not in ours and row.prior in ("", self.prior) and row.method in names:
                continue
            other = row.prior not in ("", self.prior)
            found.append(replace(row, method=f"{row.method} [{row.prior}]") if other else row)
        weights = {row.lpips_by for row in found if row.lpips is not None}
        alike = {self.lpips_by} if self.lpips is not None else weights if len(weights) == 1 else set[str]()
        return [row if row.lpips_by in alike else replace(row, lpips=None) for row in found]
