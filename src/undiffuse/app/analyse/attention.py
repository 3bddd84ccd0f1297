"""`undiffuse analyse attention`: which pixels of a picture a network compares, by layer, head and noise level."""

from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace

import torch

from undiffuse.analysis.attention import Layer, Shot, attention
from undiffuse.app.analyse import attention_figures
from undiffuse.app.analyse.levels import shown
from undiffuse.app.analyse.section import Cell, Section, Table
from undiffuse.app.analyse.subjects import Subjects, open_subjects
from undiffuse.app.events import Done, Event, Progress
from undiffuse.app.priors import Opened
from undiffuse.app.sample.guided import Guidance
from undiffuse.config.analyse.attention import AttentionConfig
from undiffuse.core.state import State
from undiffuse.networks import Photo


@dataclass(frozen=True, slots=True)
class Seen:
    """Levels from noise to picture, and what was asked."""

    shots: tuple[Shot, ...]
    queries: tuple[tuple[int, int], ...]
    config: AttentionConfig
    label: str  # of the prior
    about: str  # the first picture's class, in words


def analyse(config: AttentionConfig) -> Iterator[Event]:
    """Notes and progress, and Done(Section). ValueError for bad input, in one line."""
    subjects = yield from open_subjects(config, (config.run,))
    if reason := without(subjects.teacher.opened):
        raise ValueError(reason)
    yield Done(section((yield from watched(subjects, config))))


def without(opened: Opened) -> str:
    """Why there is no attention to see, in one line; empty if there may be some."""
    if opened.prior is None:
        return f"the prior '{opened.name}' is a closed form without attention; expected a network such as adm or ddpm"
    if isinstance(opened.prior.net, Photo):
        return f"the prior '{opened.name}' is a photo network, which has no attention; expected one of adm or ddpm"
    return ""


def watched(subjects: Subjects, config: AttentionConfig) -> Generator[Event, None, Seen]:
    """The sampler's way is not changed: the network is asked once more at each level that is shown."""
    size = (subjects.shape[1], subjects.shape[2])
    queries, sigmas = config.pixels(size), subjects.teacher.sigmas
    at = shown(sigmas, config.levels)
    found: dict[int, Shot] = {}
    steps = len(sigmas)
    for part in subjects.batches():
        for number, state in enumerate(subjects.states(subjects.teacher, part)):
            yield Progress(part[0] * steps + number * len(part), config.n * steps, "watching attention")
            if number in at:
                shot = _shot(subjects, part, state, queries)
                attention_figures.number_of(shot.layers, config.layer)  # refused before the way is walked
                found[number] = _joined(found[number], shot) if number in found else shot
    plan = subjects.teacher.plan
    about = "" if (label := plan.label(0)) is None else f", class {plan.opened.class_name(label)}"
    return Seen(tuple(found[i] for i in at), queries, config, subjects.teacher.label, about)


@torch.no_grad()
def _shot(subjects: Subjects, part: list[int], state: State, queries: tuple[tuple[int, int], ...]) -> Shot:
    """What the network does with these pictures for their classes, without guidance."""
    plan = replace(subjects.teacher.plan, guidance=Guidance(1.0))
    denoise, prior = plan.denoise(part, subjects.device), plan.opened.prior
    assert prior is not None
    size = (subjects.shape[1], subjects.shape[2])
    x0, layers = attention(prior.net, lambda: denoise(state.x, state.sigma), size=size, queries=queries)
    if not layers:
        raise ValueError(
            f"the prior '{plan.opened.name}' has no layer that attends; expected a network that has, such as ddpm with "
            "attention: [1]"
        )
    kept = (replace(one, received=one.received[:1], queries=one.queries[:1]) for one in layers)
    return Shot(float(state.sigma.max()), state.x[0].cpu(), x0[0].cpu(), tuple(kept))


def _joined(first: Shot, more: Shot) -> Shot:
    """The maps of the first, the numbers of both."""
    layers = [
        replace(a, entropy=torch.cat([a.entropy, b.entropy]), distance=torch.cat([a.distance, b.distance]))
        for a, b in zip(first.layers, more.layers, strict=True)
    ]
    return replace(first, layers=tuple(layers))


def section(found: Seen) -> Section:
    """Tables, figures and words."""
    layers = found.shots[0].layers
    every = [(shot.sigma, one) for shot in found.shots for one in shot.layers]
    ordered = sorted(every, key=lambda pair: pair[1].distance.mean().item() / pair[1].even_distance)
    summary = (
        f"{found.label}{found.about}: {len(layers)} layers attend, {sum(one.heads for one in layers)} heads in all. "
        f"Nearest looks {_looks(*ordered[0])}, farthest {_looks(*ordered[-1])}."
    )
    notes = ["Attention shows what a layer compares, not what decides the picture."]
    if len(layers) > found.config.layers:
        notes.append(
            f"Maps are of {found.config.layers} layers, evenly over the network; --layers shows more."
        )
    return Section(
        name="attention",
        title="Attention",
        summary=summary,
        figures=attention_figures.figures(
            found.shots, found.queries, found.config.layers, found.config.layer
        ),
        tables=(_table(found),),
        notes=tuple(notes),
        facts={
            "sigma": [shot.sigma / 2 for shot in found.shots],
            "layers": [one.name for one in layers],
            "entropy": [[one.entropy.mean().item() for one in shot.layers] for shot in found.shots],
            "distance": [[one.distance.mean().item() for one in shot.layers] for shot in found.shots],
        },
    )


def _looks(sigma: float, one: Layer) -> str:
    far = f"{one.distance.mean().item():.3g} pixels, {one.even_distance:.3g} if even"
    return f"{one.name} at sigma {sigma / 2:.2g} ({far})"


def _table(found: Seen) -> Table:
    """A row for each layer, over all levels shown, heads and pictures."""
    rows: list[tuple[Cell, ...]] = []
    for number, first in enumerate(found.shots[0].layers):
        every = [shot.layers[number] for shot in found.shots]
        entropy = torch.stack([one.entropy.mean(0) for one in every])  # (levels, heads)
        distance = torch.stack([one.distance.mean(0) for one in every])
        rows.append(
            (
                first.name, "x".join(map(str, first.size)), first.heads, entropy.mean().item(), entropy.min().item(),
                entropy.max().item(), distance.mean().item(), distance.min().item(), distance.max().item(),
                first.even_distance,
            )
        )  # fmt: skip
    caption = (
        "In the order in which the network calls them. Entropy: 1 is even attention to all pixels, 0 to one pixel. "
        "Distance: mean, in pixels of the picture, between a pixel and what it attends to. Least and most are over "
        "heads and the noise levels shown."
    )
    columns = (
        "layer", "pixels", "heads", "entropy", "least", "most", "distance, pixels", "least", "most", "of even attention"
    )  # fmt: skip
    return Table("layers", "Layers", columns, rows, caption)
