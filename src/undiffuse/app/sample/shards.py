"""Several processes on one folder: each draws its own share, behind torchrun or accelerate launch."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch

from undiffuse.app import machine

PATIENCE = timedelta(days=7)  # one process may be done long before another
SET_BY_LAUNCHERS = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@dataclass(frozen=True, slots=True)
class Shard:
    """Which of the processes this one is."""

    rank: int = 0
    world: int = 1
    local: int = 0  # on this machine

    @property
    def main(self) -> bool:
        """Whether it speaks, and writes what is one for all."""
        return self.rank == 0

    def wait(self) -> None:
        """Until all are here."""
        if self.world > 1:
            torch.distributed.barrier()

    def share(self, members: Sequence[int]) -> list[int]:
        """Every so many-th."""
        return list(members[self.rank :: self.world])

    def device(self, name: str) -> torch.device:
        """As asked for; of several CUDA devices, auto gives each process its own."""
        if name == "auto" and self.world > 1 and torch.cuda.is_available():
            return machine.device(f"cuda:{self.local % torch.cuda.device_count()}")
        return machine.device(name)


@contextmanager
def shard() -> Iterator[Shard]:
    """This process's, as its launcher says; alone without one. They only wait for each other: gloo, on the CPU."""
    told = [os.environ.get(name, "") for name in SET_BY_LAUNCHERS]
    if not all(told) or told[1] == "1":
        yield Shard()
        return
    try:
        rank, world, local = int(told[0]), int(told[1]), int(os.environ.get("LOCAL_RANK", told[0]))
    except ValueError:
        raise ValueError(
            f"RANK={told[0]}, WORLD_SIZE={told[1]}; expected numbers, as torchrun sets them: unset them to run alone"
        ) from None
    torch.distributed.init_process_group("gloo", timeout=PATIENCE)
    try:
        yield Shard(rank, world, local)
    finally:
        torch.distributed.destroy_process_group()
