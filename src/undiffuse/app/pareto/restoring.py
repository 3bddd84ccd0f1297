"""The task of restoring pictures: how near they come, and what they cost."""

import hashlib
import json
import math
import statistics
import time
from collections.abc import Generator
from dataclasses import dataclass

import torch
from torch import Tensor

from undiffuse.app.bench.cost import measured
from undiffuse.app.bench.measurements import Cell, Measurements
from undiffuse.app.bench.summary import interval
from undiffuse.app.events import Event, Progress
from undiffuse.app.methods import Method, plan_method
from undiffuse.app.pareto.cost import warm
from undiffuse.app.pareto.data import Clean
from undiffuse.app.pareto.store import Answer, Question
from undiffuse.app.pareto.subjects import Subject
from undiffuse.app.priors import check_guidance, denoiser
from undiffuse.config import from_term, parse_term
from undiffuse.config.pareto import ParetoConfig
from undiffuse.core.loop import last, sample
from undiffuse.core.noise import SeededNoise, image_seed
from undiffuse.core.state import Denoise
from undiffuse.metrics import LPIPS, psnr
from undiffuse.registry import RESTORERS
from undiffuse.restore import Problem


@dataclass(frozen=True, slots=True)
class Restoring:
    """Pictures, restored from their stored measurements."""

    subject: Subject
    config: ParetoConfig
    task: str
    levels: int
    clean: tuple[Clean, ...]
    measurements: Measurements
    lpips: LPIPS | None

    def __str__(self) -> str:
        own = "" if self.subject.own_levels is None else ", levels of its own"
        return f"{self.config.algorithm}, {self.levels} levels{own}"

    @property
    def guidance(self) -> float:
        """What it is asked with: of pictures whose class is not known, none."""
        known = all(self.label(one) is not None for one in self.clean)
        return self.subject.guidance(self.config.guidance) if known else 1.0

    def label(self, one: Clean) -> int | None:
        """The class that the prior is asked with for this picture."""
        return None if self.subject.opened.num_classes is None else one.label

    def cell(self, one: Clean) -> Cell:
        """Its measurement."""
        return Cell(one.picture, self.task, self.config.noise, self.config.seed)

    def question(self) -> Question:
        """All that decides what is measured, but the machine."""
        name, first, given = parse_term(self.config.algorithm)
        options = from_term(RESTORERS[name], first, given)
        pictures = [[self.cell(one).key, self.label(one)] for one in self.clean]
        return {
            "task": self.task, "prior": self.subject.opened.mark, "algorithm": name,
            "options": {key: str(value) for key, value in options.items()}, "levels": self.levels,
            "grid": self.subject.own_levels and list(self.subject.own_levels), "guidance": self.guidance,
            "pictures": hashlib.sha256(json.dumps(pictures).encode()).hexdigest(), "n": len(self.clean),
            "lpips": None if self.lpips is None else self.lpips.mark,
        }  # fmt: skip

    def check(self) -> None:
        """ValueError, in one line, for what the prior cannot be asked."""
        made_for = self.subject.made_for
        for one in self.clean:
            label, count = self.label(one), self.subject.opened.num_classes
            if label is None and made_for is not None and made_for.guidance != 1:
                raise ValueError("it has guidance built in, and knows no pictures without a class")
            if label is not None and count is not None and label >= count:
                raise ValueError(f"a picture is of class {label}, and it has the classes 0 to {count - 1}")
            check_guidance(self.subject.opened, label, self.guidance)
        self.method(self.problem(self.clean[0], torch.device("cpu")))

    def problem(self, one: Clean, device: torch.device) -> Problem:
        """The stored measurement, which is the same for all priors."""
        stored = self.measurements.problem(self.cell(one))
        return Problem(stored.A.on(device), stored.y.to(device), stored.sigma_y)

    def method(self, problem: Problem) -> Method:
        """The algorithm on the levels that this prior is asked at."""
        name, first, given = parse_term(self.config.algorithm)
        entry = RESTORERS[name]
        options = from_term(entry, first, given)
        option: str | None = entry.facts.get("calls")
        each = options[option] if option else 1
        if self.levels < each:
            raise ValueError(f"{name} takes {each} calls a level ({option}); {self.levels} are too few")
        own = self.subject.own_levels
        return plan_method(entry, options, self.subject.opened, problem, self.levels // each, own)

    def denoisers(self, device: torch.device) -> tuple[Denoise, Denoise]:
        """As it is asked, and one call of the network."""
        opened, label = self.subject.opened, self.label(self.clean[0])
        return denoiser(opened, label, self.guidance), denoiser(opened, label)

    def measured(self, device: torch.device, label: str) -> Generator[Event, None, Answer]:
        """One picture at a time; seconds are those of the median picture."""
        shape = self.clean[0].picture.pixels.shape
        warm(self.denoisers(device)[0], shape, device)
        found: dict[str, list[float]] = {"psnr": []} | ({} if self.lpips is None else {"lpips": []})
        spent: dict[str, list[float]] = {"calls": [], "seconds": [], "cpu": []}
        for done, one in enumerate(self.clean):
            yield Progress(done, len(self.clean), label)
            problem, truth = self.problem(one, device), one.picture.pixels.to(device)
            x = self._restored(one, problem, device, spent)
            found["psnr"].append(psnr(x, truth).item())
            if self.lpips is not None:
                found["lpips"].append(self.lpips(x, truth).item())
        values = {name: _mean(some) for name, some in found.items() if all(map(math.isfinite, some))}
        told = {name: statistics.median(some) for name, some in spent.items()}
        return {"values": values, "n": len(self.clean), **told, "each": found}

    def _restored(
        self, one: Clean, problem: Problem, device: torch.device, spent: dict[str, list[float]]
    ) -> Tensor:
        prior = self.subject.opened.prior
        assert prior is not None
        method, noise = self.method(problem), SeededNoise([image_seed(self.config.seed, one.picture.sha256)])
        step = method.step(denoiser(self.subject.opened, self.label(one), self.guidance), problem, noise)
        began = time.process_time()
        with measured(prior.net, device) as taken:
            x = method.start(problem, method.sigmas[0].to(problem.y), noise)
            x = last(sample(step, x, method.sigmas)).x
        spent["cpu"].append(time.process_time() - began)
        spent["seconds"].append(taken.seconds)
        spent["calls"].append(taken.calls)
        return x


def _mean(values: list[float]) -> list[float | None]:
    found = interval(values)
    assert found is not None
    return [found.mean, *((found.low, found.high) if found.n > 1 else (None, None))]
