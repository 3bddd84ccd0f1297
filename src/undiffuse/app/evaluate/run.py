"""Compare a set of pictures with a reference."""

import importlib.metadata
import json
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from undiffuse.app import machine, outputs
from undiffuse.app.evaluate import measure
from undiffuse.app.evaluate.cache import Features, features_of
from undiffuse.app.evaluate.networks import Extractor, components, extractor, network_file, width
from undiffuse.app.evaluate.sources import Source, digest_of, open_source
from undiffuse.app.events import Done, Event, Note, Progress, Saved
from undiffuse.app.pull.shelf import digests
from undiffuse.config.evaluate import EvaluateConfig
from undiffuse.core.devices import has_float64
from undiffuse.core.images import replace_file

RESULT = "result.json"
LEAST = {"fid": 2, "kid": 3, "is": 1}  # pictures of either set
ENOUGH = 10_000  # pictures; below, FID says more about their number than about them


@dataclass(frozen=True, slots=True)
class Evaluated:
    """What came out."""

    values: Mapping[str, Any]
    protocol: Mapping[str, Any]

    def lines(self) -> list[str]:
        """One for each metric."""
        return measure.lines(self.values)


def run(config: EvaluateConfig) -> Iterator[Event]:
    """Progress, notes, and an `Evaluated`; result.json in the output folder. ValueError for bad input.

    Features are kept beside it: a stopped run goes on, and another against the same reference reads them.
    """
    began = time.perf_counter()
    out = config.out or default_folder(config.samples)
    outputs.check_writable(out)
    samples = open_source(config.samples, config.only, config.samples_source)
    reference = open_source(config.reference, source=config.reference_source)
    if samples.pictures is None:
        raise ValueError(f"'{config.samples}' holds statistics; expected pictures; give it as --reference")
    metrics = check(config, reference, samples)
    device = machine.device(config.device)
    made = _fitting(config, metrics, reference, (yield from _opened(config, device)))
    yield from _said(samples, reference, made, metrics)
    theirs = None
    if reference.pictures is not None and _looked_at(metrics, reference, made):
        label = f"features of {reference.path.name}"
        theirs = yield from features_of(reference.pictures, made, out, device, config.batch, label)
    label = f"features of {samples.path.name}"
    ours = yield from features_of(samples.pictures, made, out, device, config.batch, label)
    if kept := ours.kept + (theirs.kept if theirs else 0):
        yield Note(f"features of {kept} pictures were there already")
    sets = _compared(config, made, ours, theirs, reference, device)
    values = yield from measure.measured(metrics, sets, made.name == "inception")
    protocol = _protocol(config, made, samples, reference, ours, theirs)
    if copies := protocol["copies"]:
        yield Note(
            f"{copies} of the pictures are in the reference too: KID, precision and recall expect none"
        )
    yield Saved(_write(out, config, protocol, values, time.perf_counter() - began))
    yield Done(Evaluated(values, protocol))


def default_folder(samples: Path) -> Path:
    """evaluate/NAME; with the name of the run where its `samples` are evaluated.

    ValueError if it holds the result of other samples.
    """
    path = samples.resolve()
    name = path.name if path.is_dir() else path.stem
    folder = Path("evaluate") / (f"{path.parent.name}_{name}" if name == "samples" else name or "samples")
    kept = folder / RESULT
    try:
        before = json.loads(kept.read_text(encoding="utf-8"))["config"]["samples"]
        other = Path(before).resolve() != path
    except FileNotFoundError:
        return folder
    except (OSError, ValueError, KeyError, TypeError):
        before, other = "an unknown run", True
    if other:
        raise ValueError(f"'{kept}' is the result of '{before}'; choose another folder with --out")
    return folder


def check(config: EvaluateConfig, reference: Source, samples: Source | None = None) -> tuple[str, ...]:
    """The metrics. ValueError for what cannot be, before features are computed, which can take hours.

    samples: None if they are yet to be drawn.
    """
    sources = (reference,) if samples is None else (samples, reference)
    metrics = _metrics(config, reference, sources)
    for source in sources:
        _check_counts(config, metrics, source, source is reference)
    if "prdc" in metrics and config.pairs <= config.neighbours:
        raise ValueError(
            f"--pairs {config.pairs} with --neighbours {config.neighbours}; expected more pictures than neighbours: "
            f"give --pairs {config.neighbours + 1} or more"
        )
    network_file(config)
    _check_components(config, reference)
    if (known := width(config.features)) is not None:
        _check_width(config, metrics, reference, known)
    return metrics


def _metrics(config: EvaluateConfig, reference: Source, sources: Sequence[Source]) -> tuple[str, ...]:
    """Those asked for, each once; with few pictures KID too, which has no bias. ValueError for what cannot be."""
    whole = reference.pictures is not None
    asked: tuple[str, ...] = config.metrics or (("fid", "kid", "prdc") if whole else ("fid",))
    for metric in asked:
        if metric in ("kid", "prdc") and not whole:
            raise ValueError(
                f"{metric} needs the pictures of the reference; '{reference.path}' holds statistics"
            )
    least = min((len(source.pictures) for source in sources if source.pictures is not None), default=0)
    if LEAST["kid"] <= least < ENOUGH and whole and "fid" in asked:
        asked = (*asked, "kid")
    return tuple(dict.fromkeys(asked))


def _check_counts(config: EvaluateConfig, metrics: Sequence[str], source: Source, reference: bool) -> None:
    """ValueError for fewer pictures than a metric needs of this set."""
    for metric in metrics:
        least = config.neighbours + 1 if metric == "prdc" else LEAST[metric]
        told = f" with --neighbours {config.neighbours}" if metric == "prdc" else ""
        unused = reference and (metric == "is" or (metric == "fid" and source.statistics is not None))
        if not unused and source.pictures is not None and len(source.pictures) < least:
            raise ValueError(
                f"'{source.path}' holds {len(source.pictures)} picture(s), and {metric}{told} needs at least "
                f"{least} pictures; give more of them, or leave {metric} out"
            )


def _check_components(config: EvaluateConfig, reference: Source) -> None:
    """ValueError for a reference that has not so many principal components."""
    asked = components(config.features)
    if asked is None:
        return
    if reference.pictures is None:
        raise ValueError(
            f"pca:{asked} needs the pictures of the reference; '{reference.path}' holds statistics"
        )
    if (count := len(reference.pictures)) <= asked:
        raise ValueError(
            f"pca:{asked} needs more than {asked} pictures of reference, not {count}; ask for fewer components"
        )


def _check_width(config: EvaluateConfig, metrics: Sequence[str], reference: Source, found: int) -> None:
    """ValueError for statistics of other features than those that they are compared with."""
    used = "fid" in metrics and (config.features == "inception" or reference.pictures is None)
    if used and reference.statistics is not None and (stored := len(reference.statistics[0])) != found:
        raise ValueError(
            f"'{reference.path}' holds statistics of {stored} features, and {config.features} gives {found}; "
            "give those of the same network, or the pictures"
        )


def _fitting(config: EvaluateConfig, metrics: Sequence[str], reference: Source, made: Extractor) -> Extractor:
    """The same; ValueError at its first answer if that is not as wide as the statistics."""

    def compute(x: Tensor) -> tuple[Tensor, Tensor | None]:
        answer = made.compute(x)
        _check_width(config, metrics, reference, answer[0].shape[1])
        return answer

    return replace(made, compute=compute)


def _looked_at(metrics: tuple[str, ...], reference: Source, made: Extractor) -> bool:
    """Whether features of the reference's pictures are needed: not where its statistics do, nor for a score alone."""
    told = reference.statistics is not None and made.name == "inception"
    return (
        made.components is not None
        or not {"kid", "prdc"}.isdisjoint(metrics)
        or ("fid" in metrics and not told)
    )


def _opened(config: EvaluateConfig, device: torch.device) -> Generator[Event, None, Extractor]:
    file = network_file(config)
    sha256: str | None = None
    if file is not None:
        for event in digests(file, ("sha256",)):
            if isinstance(event, Progress):
                yield event
            else:
                sha256 = event["sha256"]
    return extractor(config, file, sha256, device)


def _said(samples: Source, reference: Source, made: Extractor, metrics: tuple[str, ...]) -> Iterator[Note]:
    for source in (samples, reference):
        yield from (Note(f"{source.path}: {note}") for note in source.notes)
    if not made.published:
        yield Note(
            f"features: {made.name}, not the published network: compare these numbers among themselves only"
        )
    if reference.pictures is not None and samples.pictures is not None:
        mine, other = (
            "x".join(map(str, one[0].image.shape[-2:])) for one in (samples.pictures, reference.pictures)
        )
        if mine != other:
            yield Note(
                f"the first pictures are {mine} and {other} pixels: the features see that difference, too"
            )
    counts = [len(source.pictures) for source in (samples, reference) if source.pictures is not None]
    if "fid" in metrics and min(counts) < ENOUGH:
        told = " against ".join(map(str, counts))
        unbiased = "; KID is not, and its interval tells" if "kid" in metrics else ""
        yield Note(
            f"{told} pictures: below {ENOUGH} the Frechet distance is too high, by some 1 / N{unbiased}"
        )


def _compared(
    config: EvaluateConfig,
    made: Extractor,
    ours: Features,
    theirs: Features | None,
    reference: Source,
    device: torch.device,
) -> measure.Compared:
    place = device if has_float64(device) else torch.device("cpu")
    features, others = ours.values.to(place), None if theirs is None else theirs.values.to(place)
    if made.components is not None and others is not None:
        directions = measure.principal(others, made.components)
        features, others = features.double() @ directions, others.double() @ directions
    stored = reference.statistics if made.name == "inception" or others is None else None
    return measure.Compared(features, ours.logits, others, stored, config.pairs, config.neighbours)


def _protocol(
    config: EvaluateConfig,
    made: Extractor,
    samples: Source,
    reference: Source,
    ours: Features,
    theirs: Features | None,
) -> dict[str, Any]:
    width = made.components or ours.values.shape[1]
    asked: dict[str, Any] = {"path": str(reference.path), "count": None, "sha256": None}
    if theirs is not None:
        asked |= {"count": len(theirs.digests), "sha256": digest_of(theirs.digests)}
    if reference.statistics is not None:
        mean, covariance = reference.statistics
        asked["statistics_sha256"] = digest_of([mean.numpy().tobytes() + covariance.numpy().tobytes()])
    known = set() if theirs is None else set(theirs.digests)
    return {
        "features": made.name,
        **made.protocol,
        "published": made.published,
        "dimensions": width,
        "samples": {
            "path": str(samples.path),
            "count": len(ours.digests),
            "sha256": digest_of(ours.digests),
        },
        "reference": asked,
        "copies": sum(digest in known for digest in ours.digests),
        "pairs": config.pairs,
        "neighbours": config.neighbours,
    }


def _write(
    out: Path, config: EvaluateConfig, protocol: Mapping[str, Any], values: Mapping[str, Any], seconds: float
) -> Path:
    record = {
        "undiffuse": importlib.metadata.version("undiffuse"),
        "torch": torch.__version__,
        "config": config.model_dump(mode="json"),
        "protocol": protocol,
        "metrics": values,
        "seconds": round(seconds, 3),
    }
    outputs.make_folder(out)
    replace_file(out / RESULT, json.dumps(record, indent=2).encode())
    return out / RESULT
