"""`undiffuse analyse determinism`: whether a seed draws the same picture again, and what it depends on if not."""

import copy
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from undiffuse.app.analyse import draw
from undiffuse.app.analyse.section import Cell, Figure, Section, Table
from undiffuse.app.analyse.subjects import Subjects, open_subjects
from undiffuse.app.events import Done, Event, Progress
from undiffuse.config.analyse.trajectories import DeterminismConfig
from undiffuse.core.devices import wide
from undiffuse.core.images import to_bytes
from undiffuse.core.loop import sample

UNIT = "white - black = 1"


@dataclass(frozen=True, slots=True)
class Again:
    """The same seeds drawn in another way, beside the first time."""

    name: str  # what was different, in words
    steps: Tensor  # (T,), largest difference of any number of any picture at each level
    end: float  # root mean square difference of the pictures
    equal: int  # pictures that are the same to the bit
    pixels: float  # share of the values that are others after rounding to 8 bits

    @property
    def same(self) -> bool:
        """Whether all states of all pictures were the same to the bit."""
        return self.steps.max().item() == 0


Way = Callable[[list[int]], Tensor]  # numbers of pictures -> (T, B, C, H, W)


def analyse(config: DeterminismConfig) -> Iterator[Event]:
    """Notes and progress, and Done(Section). ValueError for bad input, in one line."""
    subjects = yield from open_subjects(config, (config.run,))
    everything = list(range(config.n))
    ways = _ways(subjects)
    total = (1 + len(ways)) * config.n
    first = yield from _paths(subjects.batches(), _plain(subjects), 0, total)
    found: list[Again] = []
    for number, (name, (groups, path)) in enumerate(ways.items()):
        again = yield from _paths(groups, path, (1 + number) * config.n, total)
        found.append(compared(name, first, again))
        assert sorted(i for group in groups for i in group) == everything
    yield Done(section(subjects, found))


def _ways(subjects: Subjects) -> dict[str, tuple[list[list[int]], Way]]:
    """Ways to draw the same seeds: in words, which pictures at once, and how."""
    batches, plain = subjects.batches(), _plain(subjects)
    largest = len(batches[0])
    ways = {"once more": (batches, plain)}
    if largest > 1:
        ways["each picture alone"] = ([[i] for group in batches for i in group], plain)
        ways["in the opposite order"] = ([group[::-1] for group in batches], plain)
    if subjects.device.type != "cpu":
        ways[f"on the CPU in place of {subjects.device}"] = (batches, _elsewhere(subjects, torch.float32))
    elif (threads := torch.get_num_threads()) > 1:  # not the other way: more threads than cores take minutes
        ways[f"with one thread in place of {threads}"] = (batches, _with_threads(plain, 1))
    if subjects.teacher.opened.prior is not None and subjects.config.precision == "fp32":
        ways["in float64, on the CPU"] = (batches, _elsewhere(subjects, torch.float64))
    return ways


def _plain(subjects: Subjects) -> Way:
    def path(members: list[int]) -> Tensor:
        return torch.stack([state.x.cpu() for state in subjects.states(subjects.teacher, members)])

    return path


def _with_threads(path: Way, count: int) -> Way:
    def other(members: list[int]) -> Tensor:
        with _threads(count):
            return path(members)

    return other


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _elsewhere(subjects: Subjects, dtype: torch.dtype) -> Way:
    """A copy of the prior on the CPU, computing in `dtype` from the same float32 noise."""
    plan, held = subjects.teacher.plan, dict[str, Subjects]()

    def path(members: list[int]) -> Tensor:
        if not held:  # made when it is needed
            denoise = copy.deepcopy(plan.opened.denoise)
            assert isinstance(denoise, nn.Module)
            opened = replace(plan.opened, denoise=denoise.to("cpu").to(dtype))
            here = replace(subjects.teacher, plan=replace(plan, opened=opened))
            held["it"] = replace(subjects, members=(here,), device=torch.device("cpu"))
        here = held["it"]
        noise = here.teacher.plan.noise(members)
        x = here.start(members).to(dtype)
        noise(torch.empty(len(members), *here.shape))  # that the start was made of
        states = sample(here.teacher.plan.step(members, noise, here.device), x, here.teacher.sigmas)
        return torch.stack([state.x for state in states])

    return path


def _paths(groups: Sequence[list[int]], path: Way, done: int, total: int) -> Generator[Event, None, Tensor]:
    """(T, n, C, H, W), pictures in order."""
    yield Progress(done, total, "drawing the same seeds again")
    parts: list[Tensor] = []
    for group in groups:
        parts.append(path(list(group)))
        done += len(group)
        yield Progress(done, total, "drawing the same seeds again")
    order = torch.tensor([i for group in groups for i in group]).argsort()
    return torch.cat(parts, 1)[:, order]


def compared(name: str, first: Tensor, again: Tensor) -> Again:
    """(T, n, C, H, W) each, in [-1, 1] units. ValueError for what is not finite."""
    if not (first[-1].isfinite().all() and again[-1].isfinite().all()):
        raise ValueError("a picture is not finite; use more steps, or another sampler")
    steps = torch.stack([(wide(a) - wide(b)).abs().max() for a, b in zip(first, again, strict=True)])
    end = (wide(first[-1]) - wide(again[-1])) / 2
    equal = sum(torch.equal(a, b.to(a.dtype)) for a, b in zip(first[-1], again[-1], strict=True))
    rounded = [torch.from_numpy(_eight_bits(x[-1])) for x in (first, again)]
    changed = (rounded[0] != rounded[1]).double().mean().item()
    return Again(name, steps / 2, end.square().mean().sqrt().item(), equal, changed)


def _eight_bits(pictures: Tensor):
    import numpy as np

    return np.stack([to_bytes(picture.float()) for picture in pictures])


def section(subjects: Subjects, found: Sequence[Again]) -> Section:
    """A table, a figure and a verdict."""
    n, device, label = subjects.config.n, subjects.device, subjects.teacher.label
    repeated = found[0]
    words = (
        "the same to the bit at every step"
        if repeated.same
        else f"different by up to {repeated.steps.max():.2g}"
    )
    others = [it for it in found[1:] if not it.same]
    summary = f"{label} on {device}, {n} pictures drawn twice: {words}."
    if others:
        worst = max(others, key=lambda it: it.end)
        summary += (
            f" The largest difference is {worst.name}: {worst.end:.2g} root mean square at the end, with {UNIT}, and "
            f"{100 * worst.pixels:.2g} % of the values others in 8 bits."
        )
    rows: list[tuple[Cell, ...]] = [
        (it.name, it.same, it.equal, it.steps[-1].item(), it.end, 100 * it.pixels, _parted(subjects, it))
        for it in found
    ]
    columns = (
        "drawn again", "same to the bit, all steps", f"same pictures of {n}", f"largest difference at the end, {UNIT}",
        "root mean square", "8-bit values that differ, %", f"sigma where they part, {UNIT}",
    )  # fmt: skip
    caption = (
        "the pictures of the same seeds beside those of the first time. Alone, in another order or with other threads "
        "the same sums may be added up in another order, which changes the last bit of float32 numbers; the sampler "
        "then carries the difference on. In float64 such differences are a billion times smaller, so that its distance "
        "is the whole rounding error of float32: differences that stay below it weigh no more than that. The noise "
        "itself is the same in all rows."
    )
    table = Table("again", "The same seeds drawn again", columns, rows, caption)
    facts = {
        "device": str(device),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "same": {it.name: it.same for it in found},
    }
    drawn = () if all(it.same for it in found) else (_figure(subjects, found),)
    return Section("determinism", "Same seed, same picture", summary, drawn, (table,), _notes(device), facts)


def _parted(subjects: Subjects, it: Again) -> float | None:
    """The first level with any difference."""
    return None if it.same else subjects.teacher.sigmas[int((it.steps > 0).nonzero()[0])].item() / 2


def _notes(device: torch.device) -> tuple[str, ...]:
    if device.type != "cuda":
        return ()
    backends = torch.backends
    return (
        f"cudnn.deterministic {backends.cudnn.deterministic}, cudnn.benchmark {backends.cudnn.benchmark}, TF32 in "
        f"convolutions {backends.cudnn.allow_tf32}, in products of matrices {backends.cuda.matmul.allow_tf32}",
    )


def _figure(subjects: Subjects, found: Sequence[Again]) -> Figure:
    sigmas = subjects.teacher.sigmas
    with draw.style():
        figure, panel = draw.frame(6.4, 4.2)
        rows: list[tuple[Cell, ...]] = []
        for i, it in enumerate(found):
            rows += [(it.name, s / 2, d) for s, d in zip(sigmas.tolist(), it.steps.tolist(), strict=True)]
            look = {**draw.line_style(i), "markevery": 0.15}
            shown = (sigmas > 0) & (it.steps > 0)
            name = it.name if shown.any() else f"{it.name}: 0"
            panel.plot((sigmas[shown] / 2).tolist(), it.steps[shown].tolist(), label=name, **look)
        draw.sigma_axis(panel)
        panel.set_yscale("log")
        draw.plain_log(panel.yaxis)
        panel.set_ylabel(f"largest difference, {UNIT}")
        panel.legend(fontsize=9)
        caption = (
            "the largest difference of any value of any picture from the first time, at each noise level: noise "
            "at the left, the picture at the right. A line that rises to the right is of a sampler that carries "
            "small differences on and on. What is 0 has no place on a logarithmic axis and stands in the legend."
        )
        table = Table(
            "differences", "Differences by noise level", ("drawn again", f"sigma, {UNIT}", "largest"), rows
        )
        return draw.finish(figure, "differences", "Differences by noise level", caption, table)
