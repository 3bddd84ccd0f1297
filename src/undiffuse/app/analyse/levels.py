"""Noise levels that an analysis shows: a few of many, and those that all of several priors can be asked about."""

import torch
from torch import Tensor

from undiffuse.app.analyse.subjects import Subjects, own_plan


def shown(sigmas: Tensor, count: int) -> list[int]:
    """Numbers of `count` or fewer of the levels, nearest to even in log sigma, with both ends; the last, 0, is not one.

    sigmas: (n + 1,), falling to 0.
    """
    logs = sigmas[:-1].log()
    wanted = torch.linspace(logs[0].item(), logs[-1].item(), count, dtype=logs.dtype)
    return sorted({int((logs - goal).abs().argmin()) for goal in wanted})


def asked(subjects: Subjects, count: int) -> dict[str, list[float]]:
    """The levels of each prior, falling: `count`, evenly in log sigma.

    Priors that were distilled to a few levels are asked about those alone, at most `count` of them, and the others
    about them too.
    """
    own = {
        one.label: one.sigmas[shown(one.sigmas, count)].tolist()
        for one in subjects.members
        if own_plan(one.plan) is not None
    }
    top, low = subjects.sigmas[0].item(), subjects.sigmas[-2].item()
    even = torch.logspace(0, 1, count, base=low / top, dtype=torch.float64).mul(top).tolist()
    shared = sorted({*even, *(sigma for levels in own.values() for sigma in levels)}, reverse=True)
    return {one.label: own.get(one.label, shared) for one in subjects.members}
