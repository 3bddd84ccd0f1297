"""A degradation whose blur is not known, from `--degrade blur:gaussian --blind`."""

from typing import get_args

from torch import Tensor

from undiffuse.config import parse_term
from undiffuse.restore import BlurEstimate, estimate_blur
from undiffuse.restore.blurs import Family

FAMILIES: tuple[str, ...] = get_args(Family)
FOUND = ("taps", "std", "std_y", "angle")  # options that are estimated
NAMES = {
    "gaussian": {"std": "width (std) of a Gaussian"},
    "disk": {"taps": "diameter of a disk"},
    "motion": {"taps": "length of a motion"},
}


def unblind(
    degrade: str, y: Tensor, sigma_y: float | None, left: Tensor | None = None
) -> tuple[str, BlurEstimate]:
    """The degradation with its blur filled in, from the measurement y (C, H, W); and how sure that is.

    `left`: of a JPEG, see `estimate_blur`.
    ValueError if `degrade` is not one blur of a family that can be estimated, and if the picture cannot tell.
    """
    family, kept = _family(degrade)
    estimate = estimate_blur(y, family, sigma_y=sigma_y, left=left)
    if estimate.better:
        raise ValueError(
            f"--blind: {estimate.reason}; write --degrade blur:{estimate.better}, or blur alone for the likeliest"
        )
    if not estimate.certain:
        found = estimate.options.get("std", 0) > 0 or estimate.options.get("taps", 0) > 1
        best = f"; {estimate.degrade} is the best guess" if found else ""
        raise ValueError(f"--blind: {estimate.reason}{best}; give the blur with --degrade if you know it")
    return ",".join((estimate.degrade, *kept)), estimate


def told(estimate: BlurEstimate) -> str:
    """What was found, in words; noise in units where white - black = 1."""
    names = NAMES[estimate.family]
    found = [
        f"{names.get(name, name)} {value:.3g} ({low:.3g} to {high:.3g})"
        for name, value in estimate.options.items()
        for low, high in (estimate.intervals[name],)
    ]
    low, high = (edge / 2 for edge in estimate.sigma_interval)
    found.append(f"noise {estimate.sigma_y / 2:.3g} ({low:.3g} to {high:.3g})")
    return f"blur estimated: {', '.join(found)}; in brackets the range that holds it 95 times in 100"


def _family(degrade: str) -> tuple[Family | None, list[str]]:
    """What is asked for, None for the likeliest; and the options that are given."""
    how = f"write --degrade blur, or of one kind: {', '.join(f'blur:{family}' for family in FAMILIES)}"
    if " . " in degrade:
        raise ValueError(f"--blind estimates one blur, and '{degrade}' is more; {how}")
    name, first, given = parse_term(degrade)
    asked = first or given.pop("kernel", None)
    family = next((one for one in get_args(Family) if one == asked), None)
    if name != "blur" or (asked and family is None):
        raise ValueError(f"--blind with '{degrade}', which is not a blur that it estimates; {how}")
    if both := [option for option in FOUND if option in given]:
        raise ValueError(f"--blind, but '{degrade}' gives {', '.join(both)}; leave out one or the other")
    return family, [f"{k}={v}" for k, v in given.items()]
