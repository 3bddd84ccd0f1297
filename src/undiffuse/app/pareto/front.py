"""The Pareto front of points that cost something and are good for something."""

import math
from collections.abc import Sequence
from itertools import groupby


def front(costs: Sequence[float], qualities: Sequence[float], *, higher: bool) -> list[bool]:
    """Of each point, whether nobody is better at no more cost, nor cheaper at no less quality.

    Point i is dominated by j if cost_j <= cost_i and quality_j is at least as good, one of them strictly. Points equal
    in both are on the front together, or not at all. higher: whether more quality is better. A point whose cost or
    quality is not finite is never on the front and dominates nobody. ValueError for lists that are not of one length.
    """
    if len(costs) != len(qualities):
        raise ValueError(f"{len(costs)} costs and {len(qualities)} qualities; expected one of each a point")
    losses = [-quality if higher else quality for quality in qualities]
    points = list(zip(costs, losses, strict=True))
    ordered = sorted(point for point in points if all(map(math.isfinite, point)))
    kept: set[tuple[float, float]] = set()
    least = math.inf  # loss of all that costs less
    for cost, group in groupby(ordered, key=lambda point: point[0]):
        _, loss = next(group)  # the best of this cost
        if loss < least:
            kept.add((cost, loss))
            least = loss
    return [point in kept for point in points]
