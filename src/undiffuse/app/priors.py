"""A prior by its name or from a file, and what can be asked of it."""

import difflib
import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from undiffuse.app.events import Note
from undiffuse.app.guides import Guide, open_guide
from undiffuse.app.machine import keep_freed
from undiffuse.app.pull import pulled
from undiffuse.checkpoints import PriorConfig, load, parse_given
from undiffuse.checkpoints.formats import native_file
from undiffuse.checkpoints.known import known
from undiffuse.config import describe, from_term, parse_term
from undiffuse.core.devices import moved
from undiffuse.core.grids import karras
from undiffuse.core.state import Denoise
from undiffuse.networks import Photo, lowered, packed
from undiffuse.priors import Prior, StationaryGaussian, class_guided
from undiffuse.registry import PRIORS, Entry

LOWEST, TOP = 0.002, 80.0  # of a grid of sigma (Karras et al. 2022)
SHOWN = 20  # classes in a message
PRECISIONS = {"bf16": torch.bfloat16, "fp16": torch.float16}  # beside fp32
LARGE = 2**29  # bytes of a file whose digest takes a second or more


@dataclass(frozen=True, slots=True)
class Opened:
    """A prior in evaluation mode, and what is known of it."""

    denoise: nn.Module  # a Prior, or another denoiser (x, sigma) -> x0
    name: str  # as it was asked for
    sha256: str | None = None  # of its file
    config: PriorConfig | None = None  # of a file
    facts: Mapping[str, Any] = field(default_factory=dict)  # of a file: data, licence, steps, ...
    told: tuple[str, ...] = ()  # of a file from outside: what it does not say itself, and who does
    asked_for: str = ""  # options and precision, where they are not the usual ones
    guide: Guide | None = None  # a classifier

    @property
    def mark(self) -> str:
        """What decides its answers: the file, and what was said of it, here or in files beside it."""
        mark, said = self.sha256 or self.name, self.asked_for
        if self.told and self.config is not None:
            said += self.config.model_dump_json()
        if self.guide is not None:
            said += self.guide.mark
        return hashlib.sha256(f"{mark} {said}".encode()).hexdigest() if said else mark

    def notes(self) -> tuple[str, ...]:
        """What a user is to know of files from outside, in one line each."""
        files = [self] if self.guide is None else [self, self.guide]
        return tuple(f"{file.name}: {'; '.join(file.told)}" for file in files if file.told)

    def notes_to_restore(self, algorithm: str = "auto", calls: int | None = None) -> tuple[str, ...]:
        """The same, and what it means for restoration by this that the prior was distilled to few steps or calls."""
        made_for = None if self.config is None else self.config.made_for
        if made_for is None or made_for.algorithm is None:
            return self._notes_to("restoration expects; its teacher, or a student of a size, restores better")
        name, practised = (text.partition(":")[0] for text in (algorithm, made_for.algorithm))
        if (name, calls) in (("auto", None), ("auto", made_for.calls), (practised, made_for.calls)):
            return self.notes()
        told = f"'{self.name}' was made for {made_for}; otherwise its teacher may restore better"
        return *self.notes(), told

    def notes_to_measure(self) -> tuple[str, ...]:
        """The same for a likelihood, which follows a flow that such a prior has not."""
        return self._notes_to("a likelihood is computed from; that of its teacher means something")

    def _notes_to(self, expects: str) -> tuple[str, ...]:
        made_for = None if self.config is None else self.config.made_for
        if made_for is None or made_for.sampler is None:
            return self.notes()
        end = f"'{self.name}' was made for {made_for}: it answers with the end of a path, not with the mean that "
        return *self.notes(), end + expects

    def __str__(self) -> str:
        told = [] if self.sha256 is None else [f"sha256 {self.sha256[:12]}"]
        told += [f"{key} {str(self.facts[key])[:60]}" for key in ("steps", "licence") if key in self.facts]
        return f"{self.name} prior" + (f" ({', '.join(told)})" if told else "")

    @property
    def prior(self) -> Prior | None:
        """The denoiser, if it is a network."""
        return self.denoise if isinstance(self.denoise, Prior) else None

    @property
    def num_classes(self) -> int | None:
        """How many classes it can be asked for."""
        return None if self.prior is None else self.prior.num_classes

    def asked(self, label: int | None, guidance: float) -> str:
        """What it was asked for, in words."""
        guide = "" if self.guide is None else f", {self.guide}"
        return str(self) + (
            "" if label is None else f" for class {self.class_name(label)}, guidance {guidance:g}{guide}"
        )

    def record(self) -> dict[str, Any]:
        """For JSON."""
        config = None if self.config is None else self.config.model_dump(mode="json")
        record = {"name": self.name, "sha256": self.sha256, "facts": dict(self.facts), "config": config}
        return record | ({} if self.guide is None else {"classifier": self.guide.record()})

    def to(self, device: torch.device) -> None:
        """Its networks move, in place."""
        if isinstance(self.denoise, nn.Module):
            moved(self.denoise, device)
        if self.guide is not None:
            self.guide.classifier.to(device)

    def ready(self, device: torch.device, compiled: bool = False) -> None:
        """`to`, and its network is made to be asked only: on a CPU it answers without gradients from now on.

        compiled: by torch, with CUDA graphs on CUDA, in place of the layers that are packed for a CPU.
        """
        self.to(device)
        if self.prior is None:
            return
        if compiled:
            self.prior.net.compile(mode="reduce-overhead" if device.type == "cuda" else "default")
        else:
            packed(self.prior.net)

    def class_name(self, label: int | None) -> str:
        """What a label is called: `3 (dress)`."""
        if label is None:
            return "none"
        names = None if self.config is None else self.config.classes
        return str(label) if names is None else f"{label} ({names[label]})"


def announced(text: str) -> Iterator[Note]:
    """That a prior will take a while to open, if its file is large."""
    path = Path(text)
    if text not in PRIORS and not path.exists():
        path = pulled(text) or path
    if path.is_file() and (size := path.stat().st_size) > LARGE:
        yield Note(f"opening {path.name}, {size / 1e9:.1f} GB")


def open_prior(text: str, options: str | None = None, precision: str = "fp32") -> Opened:
    """A name of `undiffuse priors` (published ones once they are pulled), else a file of weights or a run's folder.

    A name may have options of its prior after it, name:key=value,...; files and published names go first.

    options: what `--prior-options` says of a file from outside, key=value,... precision: fp32, or bf16 or fp16 for the
    convolutions and attention of a network. ValueError, in one line, for what cannot be opened so. Whoever opens a
    prior is about to call it: the process keeps the memory that it frees (`keep_freed`).
    """
    keep_freed()
    opened = _opened(text, options)
    if precision == "fp32":
        return opened
    if precision not in PRECISIONS:
        raise ValueError(f"--precision {precision}; expected fp32, bf16 or fp16")
    if opened.prior is None:
        raise ValueError(f"--precision {precision}; the prior '{text}' is no network: leave it out")
    lowered(opened.prior.net, PRECISIONS[precision])
    return replace(opened, asked_for=f"{opened.asked_for} {precision}".strip())


def _opened(text: str, options: str | None) -> Opened:
    path = Path(text)
    if text not in PRIORS and path.exists():
        return _from_file(text, native_file(path), options)
    if text not in PRIORS and (held_here := pulled(text)) is not None:
        return _from_file(text, held_here, options)
    name = re.split("[:,]", text, maxsplit=1)[0].strip()
    try:
        entry = PRIORS[name if name in PRIORS else text]
    except ValueError as error:
        near = difflib.get_close_matches(text, known(), 1, 0.8)
        meant = f", such as the published {near[0]}" if near else ""
        raise ValueError(f"{error}, or give a file of weights{meant}, or a run's folder") from None
    return _registered(text, entry, options)


def _registered(text: str, entry: Entry, options: str | None) -> Opened:
    """text: its name, or name:key=value,... options: more of these."""
    if options and not describe(entry):
        raise ValueError(f"--prior-options are for files from outside, and '{entry.name}' has no options")
    _, first, given = parse_term(f"{text},{options}" if options else text)
    settings = from_term(entry, first, given)
    held: Callable[[], AbstractContextManager[Path]] | None = entry.facts.get("file")
    if held is not None:
        with held() as path:
            return _from_file(text, path)
    denoise = entry(**settings)
    if isinstance(denoise, type) or not callable(denoise):
        shown = denoise.__name__ if isinstance(denoise, type) else type(denoise).__name__
        raise ValueError(
            f"the prior '{entry.name}' is {shown}; expected a function of (x, sigma), or a module: its factory has to "
            "return one"
        )
    module = denoise if isinstance(denoise, nn.Module) else _Function(denoise)
    return Opened(module.eval(), text, asked_for=options or "")


class _Function(nn.Module):
    """A denoiser that is no module, as one: it can be moved and counted like the others."""

    def __init__(self, denoise: Any):
        super().__init__()
        self.denoise = denoise
        if hasattr(denoise, "predict"):  # a variance, too
            self.predict = denoise.predict

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        """E[x0 | x]."""
        return self.denoise(x, sigma)


def _from_file(text: str, path: Path, options: str | None = None) -> Opened:
    """Loading maps the file; the digest then reads all of it, once, and the network finds its weights in memory."""
    found = load(path, parse_given(options))
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if isinstance(found.prior.net, Photo):  # a fifth faster on a CPU; other networks gain nothing in float32
        found.prior.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return Opened(found.prior, text, digest, found.config, found.facts, found.told, options or "")


def guided_by(opened: Opened, classifier: str | None, scale: float) -> Opened:
    """The prior with a classifier that guides it. ValueError for one that cannot."""
    if classifier is None:
        if scale != 1:
            raise ValueError(f"--classifier-scale {scale:g} is of a classifier; give it with --classifier")
        return opened
    guide = open_guide(classifier, scale)
    classes = None if opened.config is None else opened.config.classes
    guide.check_prior(opened.prior, opened.name, classes)
    return replace(opened, guide=guide)


def check_unconditioned(opened: Opened) -> None:
    """ValueError for a prior that needs to see a picture."""
    if opened.prior is not None and opened.prior.conditions:
        raise ValueError(
            f"the prior '{opened.name}' is conditioned on a picture; use undiffuse sample --low-res"
        )


def label_of(opened: Opened, text: str) -> int | None:
    """A class by its name, else by its number; None for 'none'. ValueError, with the classes, for any other."""
    count = opened.num_classes
    if count is None:
        raise ValueError(f"--label {text}; the prior '{opened.name}' has no classes: leave it out")
    names = (opened.config.classes if opened.config else None) or ()
    if text in names:
        return names.index(text)
    if text == "none":
        if opened.prior is not None and opened.prior.null_class:
            return None
        raise ValueError(
            f"--label none; the prior '{opened.name}' was trained without class dropout: choose a class"
        )
    if re.fullmatch(r"[0-9]{1,9}", text) and int(text) < count:
        return int(text)
    known = ", ".join(opened.class_name(label) for label in range(min(count, SHOWN)))
    more = f", ... {count - 1}" if count > SHOWN else ""
    raise ValueError(f"--label {text}; the prior '{opened.name}' has the classes {known}{more}")


def check_guidance(opened: Opened, label: int | None, guidance: float) -> None:
    """ValueError if the prior cannot be asked for this label with this guidance."""
    prior = opened.prior
    made_for = None if opened.config is None else opened.config.made_for
    guided = made_for is not None and made_for.guidance != 1  # its answer without a class was not taught
    if (
        prior is not None
        and prior.num_classes is not None
        and label is None
        and not (prior.null_class and not guided)
    ):
        raise ValueError(
            f"the prior '{opened.name}' needs a class; give --label, 0 to {prior.num_classes - 1}"
        )
    if opened.guide is not None and label is None:
        raise ValueError(f"--classifier {opened.guide.name} guides towards a class; give it with --label")
    if guidance == 1:
        return
    if made_for is not None and guided:
        raise ValueError(
            f"--guidance {guidance:g}; the prior '{opened.name}' has guidance {made_for.guidance:g} built in: "
            "leave it out"
        )
    if prior is None or prior.num_classes is None:
        raise ValueError(
            f"--guidance {guidance:g} is towards a class, and the prior '{opened.name}' has none; leave it out"
        )
    if label is None:
        raise ValueError(
            f"--guidance {guidance:g} is towards a class, and no class is asked for; name one with --label, or leave "
            "out --guidance"
        )
    class_guided(prior, torch.tensor([label]), scale=guidance)


def denoiser(opened: Opened, label: int | None = None, guidance: float = 1.0) -> Denoise:
    """The prior for one class, whatever the batch. On the device of the prior."""
    prior = opened.prior
    if prior is None or label is None:
        return opened.denoise

    def denoise(x: Tensor, sigma: Tensor, /) -> Tensor:
        labels = torch.full((len(x),), label, device=x.device)
        plain = class_guided(prior, labels, scale=guidance)
        return (plain if opened.guide is None else opened.guide.towards(plain, labels))(x, sigma)

    return denoise


def highest(opened: Opened, shape: Sequence[int], limit: float = TOP) -> float:
    """The sigma to start at: of a network the highest that it knows, but no more than `limit`."""
    if isinstance(opened.denoise, StationaryGaussian):
        return opened.denoise.sigma_max(shape)
    return limit if opened.prior is None else min(limit, opened.prior.sigma_range[1])


def levels(opened: Opened, shape: Sequence[int], steps: int, limit: float = TOP) -> Tensor:
    """The grid of Karras et al. over the levels that the prior knows, (steps + 1,)."""
    low = LOWEST if opened.prior is None else max(LOWEST, opened.prior.sigma_range[0])
    return karras(steps, sigma_min=low, sigma_max=highest(opened, shape, limit))
