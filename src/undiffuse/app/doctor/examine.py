"""All findings in their order, as a running job; those that matter for one run; and both as text."""

import time
from collections.abc import Callable, Iterator

import torch

from undiffuse.app import machine
from undiffuse.app.doctor import hardware, software
from undiffuse.app.doctor.finding import Finding, gigabytes
from undiffuse.app.events import Done, Event, Progress
from undiffuse.app.measurement import parse_size
from undiffuse.app.priors import Opened, open_prior
from undiffuse.app.sizes import check_shape
from undiffuse.core.devices import moved

LONG = 3.0  # seconds of a call that is not repeated
Probe = Callable[[], Iterator[Finding]]


def examine(prior: str = "photo", size: str | None = None, *, full: bool = False) -> Iterator[Event]:
    """Progress, and at the end the list of findings. ValueError for a wrong prior or size, and for nothing else.

    full: also try torch.compile, which takes about 20 seconds.
    """
    findings = list(software.plugins())
    try:
        opened = open_prior(prior)
    except ValueError as error:  # it may be of a plugin that failed
        failed = [f"{one.value}; {one.advice}" for one in findings if one.verdict == "broken"]
        raise ValueError("; ".join([str(error), *failed])) from None
    channels = 3 if opened.prior is None else opened.prior.channels
    trained = (256, 256) if opened.prior is None else opened.prior.size or (64, 64)
    shape = (channels, *trained) if size is None else parse_size(size, channels)
    check_shape(opened, shape)
    device = machine.device("auto")
    probes: list[tuple[str, Probe]] = [
        ("versions", software.versions),
        ("processor", hardware.processor),
        ("memory", hardware.memory),
        ("accelerators", hardware.accelerators),
        ("arithmetic", software.torch_works),
        ("threads", hardware.threads),
        *((f"precision on {d}", lambda d=d: hardware.precisions(d)) for d in hardware.devices()),
        (f"prior {prior}", lambda: _call(opened, shape, device)),
        ("compiler", lambda: software.compiler(device, full=full)),
        ("packages", software.packages),
        ("disk", software.disk),
    ]
    for number, (name, probe) in enumerate(probes):
        yield Progress(number, len(probes), name)
        findings += _examined(name, probe)
    yield Progress(len(probes), len(probes), "done")
    yield Done(findings)


def warnings_for(device: torch.device, precision: str, compile: bool) -> list[str]:
    """What will be slow or fail in one run; measured in about half a second. precision: of `train.precision`."""
    probes: list[Probe] = []
    if device.type == "cpu":
        probes.append(hardware.threads)
    if precision != "fp32":
        probes.append(lambda: hardware.precisions(device, (precision,)))
    if compile:
        probes.append(lambda: software.compiler(device))
    return [str(f) for probe in probes for f in probe() if f.verdict != "ok"]


def table(findings: list[Finding]) -> str:
    """A line each, then what is not well with its cure."""
    lines = [f"{f.name:<18}{f.verdict:<9}{f.value}" for f in findings]
    todo = [f"  {f}" for f in findings if f.advice]
    return "\n".join([*lines, "", *(["what to know, and what to do:", *todo] if todo else ["all is well"])])


def _examined(name: str, probe: Probe) -> list[Finding]:
    """Whatever a probe meets becomes a line: the others are of use on a broken machine most of all."""
    try:
        return list(probe())
    except Exception as error:
        what = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        advice = "this part of the machine or of torch fails; reinstall torch, or use --device cpu if it is the GPU"
        return [Finding(name, what, "broken", advice)]


def _call(opened: Opened, shape: tuple[int, ...], device: torch.device) -> Iterator[Finding]:
    """One call, after one that warms up unless that was long. For class 0 and a black picture, if it wants them."""
    denoise, prior = moved(opened.denoise, device), opened.prior
    if prior is not None:
        labels = None if prior.num_classes is None else torch.zeros(1, dtype=torch.long, device=device)
        cond = torch.zeros(1, prior.conditions, *shape[1:], device=device) if prior.conditions else None
        denoise = prior.given(labels, cond)
    x, sigma = torch.zeros(1, *shape, device=device), torch.ones((), device=device)
    what = f"{opened.name} at {'x'.join(map(str, shape))} on {device}"
    try:
        with torch.inference_mode():
            x0, seconds = _timed(denoise, x, sigma)
            if seconds < LONG:
                x0, seconds = _timed(denoise, x, sigma)
    except (MemoryError, torch.OutOfMemoryError):
        yield Finding("prior", f"{what}: out of memory", "broken", "use a smaller --size or another device")
        return
    if x0.shape != x.shape or not torch.isfinite(x0).all():
        advice = "its answer is no finite picture; another precision, or other weights"
        yield Finding("prior", f"{what}: wrong", "broken", advice)
        return
    m = machine.memory(device)
    peak = m.resident_peak if m.device_peak is None else m.device_peak
    yield Finding("prior", f"{what}: {seconds:.3f} s a call; memory so far at most {gigabytes(peak)}")


def _timed(
    denoise: Callable[..., torch.Tensor], x: torch.Tensor, sigma: torch.Tensor
) -> tuple[torch.Tensor, float]:
    began = time.perf_counter()
    x0 = denoise(x, sigma).cpu()  # waits for the device
    return x0, time.perf_counter() - began
