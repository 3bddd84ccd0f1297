"""Randomness as an argument: one generator an image."""

import hashlib
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

WORDS, START = 624, 24  # of torch's state, and the byte at which they begin (CPUGeneratorImpl.cpp)


class SeededNoise:
    """N(0, I), one CPU generator for each image of the batch.

    Image 17 gets the same numbers alone, in a batch of 64, after a resume and on any device: draws are made
    on the CPU in the dtype asked for, and then moved. Calling it advances the generators; nothing else does,
    and no global state is read. ValueError if the batch has another size than there are seeds.
    """

    def __init__(self, seeds: Iterable[int]):
        self._generators = [generator(seed) for seed in seeds]

    def __len__(self) -> int:
        return len(self._generators)

    def __call__(self, like: Tensor) -> Tensor:
        if like.shape[0] != len(self):
            raise ValueError(f"a batch of {like.shape[0]} images needs as many seeds, not {len(self)}")
        draws = [torch.randn(like.shape[1:], generator=g, dtype=like.dtype) for g in self._generators]
        return torch.stack(draws).to(like.device)


def generator(seed: int) -> torch.Generator:
    """A CPU generator of which all 64 bits of the seed count.

    torch's own seeding reads the lower 32: of 50,000 pictures two are then the same with a chance of one in four. Seeds
    that need no more are as torch takes them; for others the 624 words of its Mersenne twister (Matsumoto and Nishimura
    1998) are SHAKE-256 of the seed. ValueError for a seed beyond 64 bits.
    """
    if not -(2**63) <= seed < 2**64:
        raise ValueError(f"seed {seed}; expected a number of 64 bits")
    found = torch.Generator()
    if 0 <= seed < 2**32:
        return found.manual_seed(seed)
    state = found.manual_seed(0).get_state()
    digest = hashlib.shake_256((seed % 2**64).to_bytes(8, "little")).digest(4 * WORDS)
    words = np.frombuffer(digest, "<u4").astype("<u8")  # a word of 32 bits lies in 64
    state[START : START + 8 * WORDS] = torch.frombuffer(bytearray(words.tobytes()), dtype=torch.uint8)
    return found.set_state(state)


def image_seed(seed: int, name: str, draw: int = 0) -> int:
    """A seed for one image: depends on the run's seed, the image's name and the draw, on no order or batch."""
    digest = hashlib.sha256(f"{seed}/{draw}/{name}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1  # 63 bits: torch takes signed 64


def image_seeds(seed: int, names: Sequence[str], draw: int = 0) -> list[int]:
    """`image_seed` for each name."""
    return [image_seed(seed, name, draw) for name in names]


def slerp(a: Tensor, b: Tensor, share: float) -> Tensor:
    """Between two noises at a constant rate along the arc: a at share 0, b at 1 (Shoemake 1985).

    On directions; the length goes evenly from |a| to |b|. A straight line between draws of N(0, I) would pass
    points that are too short, by sqrt(2) in the middle. a, b: any shape. Where the angle is 0 the line is the arc;
    ValueError for opposite ones, whose arc is not defined.
    """
    lengths = _length(a), _length(b)
    u, v = a / lengths[0], b / lengths[1]
    angle = 2 * torch.atan2(_length(u - v), _length(u + v))  # exact for small ones, where acos is not
    if angle > torch.pi * (1 - 1e-4):
        raise ValueError("the two noises are opposite: no arc between them is the shortest; take another one")
    length = lengths[0] + share * (lengths[1] - lengths[0])
    if angle < 1e-4:
        return length * (u + share * (v - u))
    return length * (((1 - share) * angle).sin() * u + (share * angle).sin() * v) / angle.sin()


def _length(x: Tensor) -> Tensor:
    return x.square().sum().sqrt()
