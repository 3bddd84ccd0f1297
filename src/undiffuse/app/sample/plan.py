"""From a SampleConfig to what decides every picture, or a refusal in one line."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from undiffuse import samplers  # noqa: F401 (fills the registry)
from undiffuse.app import machine
from undiffuse.app.methods import explicit
from undiffuse.app.priors import Opened, check_guidance, guided_by, label_of, levels, open_prior
from undiffuse.app.sample.guided import Guidance, check_levels, read_guidance
from undiffuse.app.sample.preset import SamplerPreset, read_preset
from undiffuse.app.sample.shape import shape_of
from undiffuse.app.sample.start import Start, read_start
from undiffuse.app.sample.student import own_steps, warnings
from undiffuse.app.sizes import check_shape
from undiffuse.config import SampleConfig, from_term, options, parse_term
from undiffuse.core.grids import from_timesteps, karras
from undiffuse.core.noise import SeededNoise, image_seed, image_seeds
from undiffuse.core.state import Denoise, Step
from undiffuse.priors import clipped
from undiffuse.registry import SAMPLERS, Entry

SAMPLER, STEPS = "dpmpp_2m", 20  # unless said
INVERTING = "heun"  # of those that go both ways
HIGHEST = 160.0  # DDPM's linear schedule ends at 157; some end at 20000, where a step in ten does nothing
FINE = 1000  # steps of the grid that a strength is a share of
MAPS = 16  # feature maps of the finest level that a network holds at once
MOST = {"cpu": 16}  # pictures in a batch: a larger one is no faster
MOST_ELSEWHERE = 256


@dataclass(frozen=True, slots=True)
class Plan:
    """What is drawn, and how."""

    config: SampleConfig
    opened: Opened
    labels: tuple[int | None, ...]  # of the pictures in turn
    shape: tuple[int, ...]  # (C, H, W)
    entry: Entry
    options: dict[str, Any]
    sigmas: Tensor
    grid: str | list[float]  # what they are: a name, or the levels of a preset
    cond: Tensor | None  # (1, conditions, H, W)
    low_res: str | None  # sha256 of the picture that cond was made of
    guidance: Guidance
    start: Start | None = None  # None: in noise of their own
    ends: Tensor | None = None  # noises that pictures lie between, once they are known: (1 or 2, C, H, W)

    def __str__(self) -> str:
        told = ", ".join(f"{name}={value}" for name, value in self.options.items())
        steps = f"{len(self.sigmas) - 1} steps from sigma {self.sigmas[0].item():.4g}"
        return f"{self.entry.name}({told}), {steps}"

    def notes(self) -> tuple[str, ...]:
        """What a user is to know of the prior, and of these steps."""
        return (*self.opened.notes(), *warnings(self.opened, self.entry.name, self.sigmas))

    def asked(self) -> str:
        """The prior and its classes, in words."""
        if len(self.labels) == 1:
            return self.opened.asked(self.labels[0], self.config.guidance) + self.guidance.told()
        classes = f"{self.opened} for {len(self.labels)} classes in turn"
        return f"{classes}, guidance {self.config.guidance:g}{self.guidance.told()}"

    def to(self, device: torch.device) -> None:
        """Move the networks, whose layers stay as they are, to be watched or differentiated."""
        self.opened.to(device)
        self.guidance.to(device)

    def ready(self, device: torch.device) -> None:
        """Move the networks, and make them fast to ask; there are no gradients on a CPU from now on."""
        self.opened.ready(device, self.config.compile)
        self.guidance.ready(device, self.config.compile)

    def label(self, index: int) -> int | None:
        """The class of picture number `index`."""
        return self.labels[index % len(self.labels)]

    def settings(self) -> dict[str, Any]:
        """All that a picture depends on beside its number, for JSON."""
        return {
            "prior": self.opened.mark,
            "labels": list(self.labels),
            "guidance": self.guidance.scale,
            "guidance_interval": self.guidance.interval and list(self.guidance.interval),
            "autoguidance": self.guidance.weaker and self.guidance.weaker.mark,
            "sampler": self.entry.name,
            "options": {name: str(value) for name, value in self.options.items()},
            "grid": self.grid,
            "steps": len(self.sigmas) - 1,
            "sigma": [self.sigmas[0].item(), self.sigmas[-2].item()],
            "clip": self.config.clip,
            "shape": list(self.shape),
            "low_res": self.low_res,
            "noise": self.config.noise,
            "seed": seed if isinstance(seed := self.config.seed, int) else f"{seed[0]} and on",
            "stretch": self.config.stretch,
            "start": None if self.start is None else self.start.settings(self.config.n),
        }

    def noise(self, members: list[int]) -> SeededNoise:
        """Of these pictures: each has its own, whatever the batch.

        Where each has a seed of its own, it is what that seed alone gives to its picture 0.
        """
        seed = self.config.seed
        if isinstance(seed, int):
            return SeededNoise(image_seeds(seed, [f"sample/{i}" for i in members]))
        return SeededNoise(image_seed(seed[0] + i, "sample/0") for i in members)

    def denoise(self, members: list[int], device: torch.device) -> Denoise:
        """The denoiser of these pictures."""
        prior = self.opened.prior
        if prior is None:
            denoise: Denoise = self.opened.denoise
        else:
            cond = None if self.cond is None else self.cond.to(device)
            labels = None
            if (null := prior.num_classes) is not None:
                chosen = [self.label(i) for i in members]
                labels = torch.tensor([null if c is None else c for c in chosen], device=device)
            denoise = self.guidance(prior, labels, cond)
            if self.opened.guide is not None and labels is not None:
                denoise = self.opened.guide.towards(denoise, labels)
        return clipped(denoise) if self.config.clip else denoise

    def begin(self, members: list[int], noise: SeededNoise) -> Tensor:
        """(B, C, H, W) at the highest level, on the CPU."""
        top = self.sigmas[0].item()
        if self.start is not None and self.ends is not None:
            return top * self.start.between(self.ends, members, self.config.n)
        x = top * noise(torch.empty(len(members), *self.shape))
        return x if self.start is None or self.start.pictures is None else self.start.pictures + x

    def step(self, members: list[int], noise: SeededNoise, device: torch.device) -> Step:
        """The sampler for these pictures."""
        return self.entry(self.denoise(members, device), noise, **self.options)


def plan(config: SampleConfig) -> Plan:
    """ValueError for whatever the prior cannot do."""
    opened = open_prior(config.prior, config.prior_options, config.precision)
    return plan_with(guided_by(opened, config.classifier, config.classifier_scale), config)


def plan_with(opened: Opened, config: SampleConfig) -> Plan:
    """`plan` for a prior that is open already."""
    labels, start = _labels(opened, config), read_start(config)
    shape, cond, digest = shape_of(opened, config, start)
    check_shape(opened, shape)
    if opened.guide is not None:
        opened.guide.check_size(*shape[1:])
    if config.compile and opened.prior is None:
        raise ValueError(f"--compile; the prior '{opened.name}' is no network: leave it out")
    preset = read_preset(config, opened)
    if preset is None and (own := own_steps(opened, config)) is not None:
        entry, chosen, sigmas = SAMPLERS[own[0]], {}, own[1]
        grid: str | list[float] = sigmas[:-1].tolist()
    else:
        entry, chosen = _sampler(config, preset)
        steps = config.steps or chosen.get("steps", STEPS)
        sigmas, grid = _levels(preset) if preset else _grid(opened, config, entry, steps, shape, start)
    guidance = read_guidance(opened, config, labels)
    check_levels(guidance, shape, sigmas)
    if start is not None:
        start.check(shape, len(labels), entry, chosen)
    made = Plan(config, opened, labels, shape, entry, chosen, sigmas, grid, cond, digest, guidance, start)
    made.step([0], made.noise([0]), torch.device("cpu"))  # refuses what it cannot do
    return made


def _labels(opened: Opened, config: SampleConfig) -> tuple[int | None, ...]:
    count, text = opened.num_classes, config.label
    if text is None and count is None:
        labels: tuple[int | None, ...] = (None,)
    elif count is not None and text in (None, "all"):
        labels = tuple(range(count))
    else:
        text = text or ""
        names = (opened.config.classes if opened.config else None) or ()
        parts = [text] if text in names else [part.strip() for part in text.split(",")]
        labels = tuple(label_of(opened, part) for part in parts)
    for label in labels[:1] if None not in labels else (None,):
        check_guidance(opened, label, 1.0)
    return labels


def _sampler(config: SampleConfig, preset: SamplerPreset | None) -> tuple[Entry, dict[str, Any]]:
    default = INVERTING if config.invert or config.interpolate else SAMPLER
    name, first, given = parse_term(config.sampler or default if preset is None else preset.sampler)
    entry = SAMPLERS[name]
    if config.eta is not None:
        if "eta" in given:
            raise ValueError(
                f"--eta {config.eta:g} beside eta={given['eta']} of --sampler; leave one of them out"
            )
        given["eta"] = str(config.eta)
    steps = config.steps if preset is None else len(preset.sigmas)
    if "steps" in options(entry.factory).model_fields and first is None:
        given.setdefault("steps", str(steps or STEPS))  # of the grid: the sampler is to know
    chosen = from_term(entry, first, given)
    if steps is not None and chosen.get("steps", steps) != steps:
        raise ValueError(
            f"steps={chosen['steps']} of {name} beside a grid of {steps} steps, which are the same: leave it out there"
        )
    return entry, chosen


def _grid(
    opened: Opened,
    config: SampleConfig,
    entry: Entry,
    steps: int,
    shape: tuple[int, ...],
    start: Start | None,
) -> tuple[Tensor, str | list[float]]:
    name: str = config.grid or entry.facts.get("grid", "karras")
    strength = 1.0 if start is None or start.strength is None else start.strength
    if name == "karras":
        fine = levels(opened, shape, steps if strength == 1 else FINE + 1, HIGHEST)
        if strength == 1:
            return fine, name
        return karras(steps, fine[-2].item(), fine[round((1 - strength) * FINE)].item()), name
    if opened.config is None or opened.config.schedule is None:
        raise ValueError(
            f"{entry.name} on the grid {name}, but the prior '{opened.name}' has no timesteps; use the grid karras"
        )
    spacing = {"timesteps": "trailing", "leading": "leading", "linspace": "linspace"}[name]
    known = opened.config.discrete().sigmas
    known = known[: max(1, round(strength * len(known)))]
    return from_timesteps(known, steps, spacing), name  # type: ignore[arg-type]


def _levels(preset: SamplerPreset) -> tuple[Tensor, str | list[float]]:
    return explicit(preset.sigmas), list(preset.sigmas)


def batch_size(plan: Plan, device: torch.device) -> int:
    """How many pictures at once: as many as fit in half of the free memory by the estimate below.

    A picture takes MAPS float32 feature maps of the network's finest width at full resolution, twice with
    guidance. At most 16 on a CPU and 256 elsewhere.
    """
    if plan.config.batch != "auto":
        return plan.config.batch
    most = MOST.get(device.type, MOST_ELSEWHERE)
    memory = machine.memory(device)
    free = memory.available
    if device.type != "cpu":
        free = None if memory.device_total is None else memory.device_total - (memory.device_allocated or 0)
    if free is None:
        return most
    prior = plan.opened.prior
    widths = getattr(getattr(getattr(prior, "net", None), "config", None), "widths", (64,))
    each = 4 * MAPS * widths[0] * plan.shape[1] * plan.shape[2] * (1 if plan.config.guidance == 1 else 2)
    return max(1, min(most, free // 2 // each))
