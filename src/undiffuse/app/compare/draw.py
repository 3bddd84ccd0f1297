"""Pictures of one sampler, and what they cost."""

from collections.abc import Generator
from dataclasses import dataclass

import torch
from torch import Tensor

from undiffuse.app.bench.cost import measured
from undiffuse.app.events import Event, Progress
from undiffuse.app.sample.plan import Plan, batch_size
from undiffuse.core.devices import wide
from undiffuse.core.loop import sample
from undiffuse.core.noise import SeededNoise


@dataclass(frozen=True, slots=True)
class Drawn:
    """Seconds and calls are those of one picture."""

    x: Tensor  # (n, C, H, W) on the CPU
    seconds: float
    calls: float
    deterministic: bool  # drew nothing after the start

    @property
    def finite(self) -> bool:
        """Whether the sampler came to pictures at all."""
        return bool(self.x.isfinite().all())


class Watched:
    """Noise that counts how often it was asked."""

    def __init__(self, noise: SeededNoise):
        self.noise, self.asked = noise, 0

    def __call__(self, like: Tensor) -> Tensor:
        """As `SeededNoise`."""
        self.asked += 1
        return self.noise(like)


def draw(plan: Plan, members: list[int], device: torch.device, label: str) -> Generator[Event, None, Drawn]:
    """The pictures of these numbers: picture i starts at the noise that it has in `undiffuse sample`."""
    opened = plan.opened
    network = (
        opened.denoise if opened.prior is None else opened.prior.net
    )  # guidance calls it on two batches in one
    batch, steps, found, fresh = batch_size(plan, device), len(plan.sigmas) - 1, [], 0
    with measured(network, device) as cost:
        for begin in range(0, len(members), batch):
            part = members[begin : begin + batch]
            noise = Watched(plan.noise(part))
            step = plan.entry(plan.denoise(part, device), noise, **plan.options)
            x = noise(torch.empty(len(part), *plan.shape)).to(device) * plan.sigmas[0].item()
            for done, state in enumerate(sample(step, x, plan.sigmas)):
                x = state.x
                yield Progress(begin * steps + done * len(part), len(members) * steps, label)
            fresh += noise.asked - 1
            found.append(x.cpu())
    count = len(members)
    return Drawn(torch.cat(found), cost.seconds / count, cost.calls / count, fresh == 0)


def distance(a: Tensor, b: Tensor) -> float:
    """Root mean square difference in [0, 1] units of pictures in [-1, 1]."""
    return wide(a - b).square().mean().sqrt().item() / 2
