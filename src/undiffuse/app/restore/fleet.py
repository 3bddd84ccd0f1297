"""Groups of pictures over the workers of a Ray cluster; this process reads, judges and writes.

A worker holds the priors, and is sent measurements: neither pictures nor results need a file system that all
machines share. A worker that dies is started again and its group is solved again, to the same pixels.
"""

import os
import time
from collections.abc import Iterable
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from undiffuse.app import machine
from undiffuse.app.events import Note, Progress
from undiffuse.app.priors import Opened
from undiffuse.app.restore.answers import Answers, Failed, Solved, failures
from undiffuse.app.restore.solve import solve
from undiffuse.app.restore.task import Priors, Task
from undiffuse.config import RestoreConfig
from undiffuse.registry import load_entry_points, load_plugin

RETRIES = 3  # of a group whose worker died
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"}  # nothing sent, nothing left at home


class Worker:
    """An actor: it holds the priors, and restores one group at a time."""

    def __init__(self, priors: Priors, plugins: tuple[Path, ...], device: str):
        load_entry_points()
        for path in plugins:
            load_plugin(path)
        machine.keep_freed()
        self._priors, self._device = priors, machine.device(device)

    def solve(self, tasks: list[Task]) -> tuple[Tensor, float]:
        """Draws (pictures, K, C, H, W), and the seconds they took. Tasks come without their prior."""
        held = [replace(task, opened=self._priors[task.config.prior]) for task in tasks]
        began = time.perf_counter()
        *_, draws = (event for event in solve(held, self._device) if isinstance(event, Tensor))
        return draws, time.perf_counter() - began


def fleet(
    config: RestoreConfig, groups: Iterable[list[Task] | Failed], priors: Priors, total: int
) -> Answers:
    """Each group on the next worker that is free; answers in the order in which they come."""
    ray = _joined(config)
    try:
        held = ray.put(priors)  # until the last answer: a worker that is started again asks for them again
        workers = _workers(ray, config, held)
        yield Note(f"{len(workers)} workers")
        if config.workers is not None and config.workers > len(workers):
            yield Note("the cluster has no room for more of them")
        yield from _answers(ray, config, groups, workers, total)
    finally:
        ray.shutdown()


def _joined(config: RestoreConfig) -> Any:
    """Ray, connected to the cluster that was asked for, or to one of this machine's own cores."""
    os.environ.update({name: os.environ.get(name, value) for name, value in QUIET.items()})
    try:
        import ray
    except ImportError as error:
        raise ValueError(f"--fleet needs Ray ({error}); pip install ray") from None
    told: dict[str, Any] = {"logging_level": "ERROR", "log_to_driver": False}
    if config.fleet == "local":
        cores = config.workers or machine.cores()
        told |= {"num_cpus": cores, "include_dashboard": False, "_node_ip_address": "127.0.0.1"}
    else:
        told["address"] = config.fleet
    try:
        ray.init(**told)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        said = " ".join(str(error).split())[:200]
        raise ValueError(
            f"--fleet {config.fleet}: {said}; give 'local', or the address of a cluster"
        ) from None
    return ray


def _workers(ray: Any, config: RestoreConfig, held: Any) -> list[Any]:
    resources = ray.cluster_resources()
    gpus = 0 if config.device == "cpu" else int(resources.get("GPU", 0))
    cores = 1 if config.device == "mps" else int(resources.get("CPU", 1))  # Ray counts no GPU of Apple's
    room = gpus or max(1, cores)  # an actor without a place would wait for ever
    count = min(config.workers or room, room)
    kind = ray.remote(Worker).options(
        num_cpus=1, num_gpus=1 if gpus else 0, max_restarts=RETRIES, max_task_retries=RETRIES
    )
    device = "cuda" if gpus else config.device  # a worker sees its own GPU only, as the first one
    return [kind.remote(held, config.plugins, device) for _ in range(count)]


def _answers(
    ray: Any, config: RestoreConfig, groups: Iterable[list[Task] | Failed], workers: list[Any], total: int
) -> Answers:
    running: dict[Any, tuple[list[Task], Any]] = {}  # answer to come -> its group and worker
    idle, coming, done = list(workers), iter(groups), 0
    given_back: list[list[Task]] = []  # by a worker that died: another one may try, once
    while idle or running:
        while idle and (group := next(coming, None)) is not None:
            if isinstance(group, Failed):
                done += 1
                yield group
                continue
            worker = idle.pop()
            running[worker.solve.remote([_light(task) for task in group])] = group, worker
        if not running:
            break
        yield Progress(done, total, "restoring")
        (answer,), _ = ray.wait(list(running), num_returns=1)
        group, worker = running.pop(answer)
        idle.append(worker)
        done += len(group)
        try:
            draws, seconds = ray.get(answer)
        except ray.exceptions.RayTaskError as error:
            if not (isinstance(error.cause, ValueError) or machine.out_of_memory(error.cause)):
                raise
            yield from failures(config, group, error.cause)
        except ray.exceptions.RayError as error:  # the worker is gone for good
            idle.remove(worker)
            if (idle or running) and not any(group is one for one in given_back):
                given_back.append(group)
                coming, done = chain([group], coming), done - len(group)
                continue
            told = f"its worker died ({type(error).__name__}); see that the machines have the memory"
            yield from failures(config, group, ValueError(told))
        else:
            yield Solved(group, draws, seconds, [()] * len(group))
    for group in coming:
        if isinstance(group, Failed):
            yield group
        else:
            yield from failures(config, group, ValueError("no worker is left; run the same command again"))


def _light(task: Task) -> Task:
    """Without what a worker has already or does not need."""
    bare = replace(task.measurement, reference=None)
    return replace(task, opened=Opened(nn.Identity(), task.config.prior), measurement=bare)
