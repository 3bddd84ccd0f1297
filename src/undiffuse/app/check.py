"""`undiffuse check operator`: is a degradation what it says?"""

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from undiffuse.app.measurement import parse_size
from undiffuse.contracts.operator import EXACT, Check, checks, distance, images
from undiffuse.operators.base import LinearOperator, Operator, SVDOperator
from undiffuse.operators.build import build, parse
from undiffuse.registry import OPERATORS

NEVER_SOLVED = ("pseudo-inverse", "least norm", "ridge at 0")
SOLVED = 1e-6  # by conjugate gradient, which stops at 2e-14 of the squared system's right-hand side


def check_operator(degrade: str, size: str) -> list[Check]:
    """Facts, all checks of the contract that apply, and the plain form. ValueError if it cannot take this size."""
    A = build(degrade, parse_size(size, channels=3))
    x = images(A, seed=0)
    searched = isinstance(A, LinearOperator) and not isinstance(A, SVDOperator)
    found = list(checks(A, solved=SOLVED if searched else EXACT))
    if searched:  # how far 500 steps come depends on the least singular values, and is no fault
        found = [replace(one, limit=None) if one.name in NEVER_SOLVED else one for one in found]
    return [*_facts(A, x), *found, *_direct(degrade, A, x)]


def _facts(A: Operator, x: Tensor) -> Iterator[Check]:
    flat = A(torch.ones_like(x[:1]))
    measured = flat if A.support is None else flat[A.support.expand_as(flat) > 0]
    yield Check("gain", measured.mean().item(), None, "mean of A(1): 1 = brightness is kept")
    if isinstance(A, SVDOperator):
        yield Check(
            "norm", A.s.max().item(), None, "largest singular value: how much noise-free contrast survives"
        )
        worst = A.s[A.s > 0].min().item() if (A.s > 0).any() else 0.0
        yield Check("worst", worst, None, "smallest non-zero one: A^+ amplifies noise by its inverse")
    yield Check("measured", A.measurements / x[0].numel(), None, "numbers measured for each unknown")


def _direct(degrade: str, A: Operator, x: Tensor) -> Iterator[Check]:
    """Against a plain form that shares no code with the fast one, where the degradation registers one."""
    terms = parse(degrade)
    if len(terms) == 1 and "direct" in OPERATORS[terms[0].name].facts:
        plain = OPERATORS[terms[0].name].facts["direct"](x, **terms[0].options)
        yield Check("direct", distance(A(x), plain), EXACT, "equals the plain sum over pixels")


def table(checks: list[Check]) -> str:
    """As text, one line a check."""
    lines = [f"{'check':<16}{'value':>12}{'limit':>10}  {'':<6}meaning"]
    for check in checks:
        limit = "" if check.limit is None else f"{check.limit:.0e}"
        verdict = "" if check.limit is None else "ok" if check.passed else "FAILED"
        lines.append(f"{check.name:<16}{check.error:>12.3g}{limit:>10}  {verdict:<6}  {check.meaning}")
    return "\n".join(lines)
