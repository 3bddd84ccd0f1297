"""`undiffuse tune`: the noise levels that suit a task best, judged on pictures that were not searched on."""

import datetime
import hashlib
import json
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from undiffuse.app import machine, outputs
from undiffuse.app.bench.contenders import Contender, Given, contender
from undiffuse.app.bench.judge import finite
from undiffuse.app.bench.measurements import Cell, Measurements
from undiffuse.app.bench.pictures import Picture, open_pictures
from undiffuse.app.bench.search import Bent, bent, climb
from undiffuse.app.bench.summary import Interval, interval
from undiffuse.app.events import Done, Event, Note, Progress, Saved
from undiffuse.app.kinds import KINDS, kind_of
from undiffuse.app.methods import plan_method
from undiffuse.app.presets import ChosenBy, Preset, presets_text
from undiffuse.app.priors import LOWEST, Opened, announced, highest, open_prior
from undiffuse.app.sizes import check_shape
from undiffuse.config.bench import TuneConfig
from undiffuse.config.said import command_line
from undiffuse.core.devices import moved
from undiffuse.core.images import replace_file
from undiffuse.core.noise import image_seed
from undiffuse.metrics import psnr
from undiffuse.operators import build
from undiffuse.restore import Problem

TRIED = "tried.jsonl"
DIVERGED = -100.0  # dB: worse than any picture
NEAR = 0.8  # a preset is for noise within this factor of what it was tuned at


@dataclass(frozen=True, slots=True)
class Tuned:
    """What came out. gain: in dB of PSNR, on the pictures that were held out."""

    config: TuneConfig
    before: tuple[float, ...]
    after: tuple[float, ...]
    searched: float  # gain on the pictures of the search
    gain: Interval
    kept: bool

    def __str__(self) -> str:
        levels = ", ".join(f"{level:.4g}" for level in self.after)
        told = (
            f"{self.gain} dB on {self.gain.n} held-out pictures ({self.searched:+.2f} where it was searched)"
        )
        if self.kept:
            return f"levels {levels}: {told}; written to {self.config.out}"
        earlier = f"; '{self.config.out}' is of an earlier search" if self.config.out.exists() else ""
        return f"levels {levels}: {told}; the default grid is kept, no preset was written{earlier}"


def run(config: TuneConfig) -> Iterator[Event]:
    """Search on half of the pictures, judge on the other half, write the preset if it is better there.

    Better: the 95 % interval of the paired difference lies above 0. The same command again goes on where it
    was stopped. ValueError for bad input, before anything is written.
    """
    method = contender(config.algorithm, config.calls)
    if not method.restorer:
        raise ValueError(f"--algorithm {config.algorithm}; only algorithms have noise levels to search for")
    yield from announced(config.prior)
    opened, device = (
        open_prior(config.prior, config.prior_options, config.precision),
        machine.device(config.device),
    )
    channels = None if opened.prior is None else opened.prior.channels
    pictures, notes = open_pictures(config.data, config.count, config.size, channels)
    if len(pictures) < 4:
        raise ValueError(f"{len(pictures)} pictures; expected 4 or more, half to search on and half to judge")
    shape = tuple(pictures[0].pixels.shape[1:])
    check_shape(opened, shape)
    if kind_of(build(config.task, shape)) is None:
        raise ValueError(
            f"'{config.task}' is of no kind that presets are for; choose from {', '.join(KINDS)}"
        )
    outputs.check_writable(config.out.parent)
    folder = config.out.with_name(config.out.stem + "_tune")
    outputs.check_writable(folder)
    moved(opened.denoise, device)
    tuning = _Tuning(config, method, opened, Measurements(folder))
    search, held = split(pictures)
    for note in notes:
        yield Note(note)
    yield Note(f"{len(search)} pictures to search on, {len(held)} to judge; {opened}")
    yield from tuning.events(folder, search, held)


def split(pictures: Sequence[Picture]) -> tuple[list[Picture], list[Picture]]:
    """Two halves, by the hash of each picture: the same ones whatever the order."""
    ordered = sorted(pictures, key=lambda picture: picture.sha256)
    return ordered[::2], ordered[1::2]


@dataclass(frozen=True, slots=True)
class _Tuning:
    config: TuneConfig
    method: Contender
    opened: Opened
    measurements: Measurements

    def events(self, folder: Path, search: list[Picture], held: list[Picture]) -> Iterator[Event]:
        problems = [self._problem(picture) for picture in search]
        first = problems[0]
        base = plan_method(
            self.method.entry, self.method.options, self.opened, first, self.method.levels()
        ).sigmas
        start = bent(base)
        scores = _Scores(folder / TRIED, self._settings(search))
        low, high = self._range(first)
        low, high = min(low, start.levels()[-1]), max(high, start.levels()[0])

        def score(grid: Bent) -> float:
            return statistics.fmean(self.quality(grid.levels(), search, problems, scores))

        best, was, gained = start, None, 0.0
        coordinates = 1 if len(start.places) == 1 else 3
        expected = 1 + 2 * coordinates * (self.config.rounds + 2)
        for done, tried in enumerate(climb(start, score, low, high, self.config.rounds)):
            was = tried.score if was is None else was
            best, gained = tried.best, tried.best_score - was
            yield Progress(done, max(expected, done + 2), f"{tried.best_score:.2f} dB ({gained:+.2f})")
        yield from self._judged(start, best, gained, held)

    def _judged(self, start: Bent, best: Bent, gained: float, held: list[Picture]) -> Iterator[Event]:
        problems = [self._problem(picture) for picture in held]
        pairs = [self.quality(grid.levels(), held, problems) for grid in (start, best)]
        gain = interval([after - before for before, after in zip(*pairs, strict=True)])
        assert gain is not None
        kept = best != start and gain.low > 0
        if kept:
            preset = self._preset(
                best, gain, statistics.fmean(pairs[0]), statistics.fmean(pairs[1]), problems[0]
            )
            outputs.make_folder(self.config.out.parent)
            replace_file(self.config.out, presets_text([preset]).encode())
            yield Saved(self.config.out)
        yield Done(Tuned(self.config, start.levels(), best.levels(), gained, gain, kept))

    def quality(
        self,
        levels: tuple[float, ...],
        pictures: Sequence[Picture],
        problems: Sequence[Problem],
        scores: "_Scores | None" = None,
    ) -> list[float]:
        """PSNR of each picture on a grid; one that was tried before is looked up."""
        known = None if scores is None else scores.get(levels)
        if known is not None:
            return known
        method, found = replace(self.method, grid=levels), []
        for picture, problem in zip(pictures, problems, strict=True):
            given = Given(self.opened, self.method.calls, (image_seed(self.config.seed, picture.sha256),))
            x = method.restore(problem, given)
            decibels = psnr(x, picture.pixels.to(x)).item() if finite(x) else DIVERGED
            found.append(decibels)
        if scores is not None:
            scores.add(levels, found)
        return found

    def _problem(self, picture: Picture) -> Problem:
        cell = Cell(picture, self.config.task, self.config.noise, self.config.seed)
        stored, device = self.measurements.problem(cell), machine.device(self.config.device)
        return Problem(stored.A.on(device), stored.y.to(device), stored.sigma_y)

    def _range(self, problem: Problem) -> tuple[float, float]:
        """Levels that the prior knows, [-1, 1] units."""
        prior = self.opened.prior
        lowest = LOWEST if prior is None else max(LOWEST, prior.sigma_range[0])
        return lowest, highest(self.opened, problem.A.in_shape)

    def _settings(self, pictures: Sequence[Picture]) -> str:
        """What decides a score beside the grid, as a hash."""
        config = self.config
        told = [config.task, config.noise, config.seed, self.opened.mark]
        told += [self.method.term, self.method.settings(1), *(picture.sha256 for picture in pictures)]
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16]

    def _preset(self, best: Bent, gain: Interval, before: float, after: float, problem: Problem) -> Preset:
        config, kind = self.config, kind_of(problem.A)
        if kind is None:
            raise ValueError(
                f"'{config.task}' is of no kind that presets are for; its grid is {best.levels()}"
            )
        noise = (config.noise * NEAR, config.noise / NEAR) if config.noise else (0.0, 0.005)
        figures: dict[str, float | str] = {
            "psnr": round(after, 3), "psnr of the default grid": round(before, 3),
            "gain": f"{gain.mean:.3f} dB, 95 % from {gain.low:.3f} to {gain.high:.3f}, held-out pictures",
        }  # fmt: skip
        return Preset(
            prior=self.opened.name if self.opened.sha256 is None else self.opened.sha256[:16],
            task=kind, noise=noise, goal=config.goal, algorithm=self.method.term,
            steps=len(best.places), grid=tuple(float(f"{level:.6g}") for level in best.levels()),
            chosen_by=ChosenBy(
                command=command_line(config.model_copy(update={"device": "auto"}), "undiffuse", "tune"),
                date=datetime.date.today().isoformat(),
                data=", ".join(Path(entry).name for entry in config.data),
                pictures=gain.n, figures=figures,
            ),
        )  # fmt: skip


class _Scores:
    """What was tried, a line each, on disk: a search that was stopped finds it again."""

    def __init__(self, path: Path, settings: str):
        self.path, self._settings = path, settings
        self._known: dict[str, list[float]] = {}
        if path.exists():
            for line in path.read_bytes().split(b"\n")[:-1]:  # what has no end was cut off
                self._read(line)

    def get(self, levels: tuple[float, ...]) -> list[float] | None:
        return self._known.get(self._key(levels))

    def add(self, levels: tuple[float, ...], scores: list[float]) -> None:
        key = self._key(levels)
        self._known[key] = scores
        outputs.make_folder(self.path.parent)
        text = "".join(json.dumps({"grid": k, "psnr": v}) + "\n" for k, v in self._known.items())
        replace_file(self.path, text.encode())

    def _key(self, levels: tuple[float, ...]) -> str:
        return self._settings + " " + " ".join(f"{level:.9g}" for level in levels)

    def _read(self, line: bytes) -> None:
        try:
            found = json.loads(line)
            self._known[str(found["grid"])] = [float(value) for value in found["psnr"]]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"'{self.path}' has a broken line ({error}); remove the file") from None
