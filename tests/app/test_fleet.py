"""Who does the work of a worker that is gone for good."""

from types import SimpleNamespace

import pytest

from undiffuse.app.restore import fleet
from undiffuse.app.restore.answers import Solved


class Gone(Exception):
    pass


class OfTask(Exception):
    pass


def cluster(*dies):
    """(ray, workers): what `_answers` asks of them. A worker that dies never answers."""

    def get(answer):
        worker, group = answer
        if worker.dies:
            raise Gone
        return [f"{task}!" for task in group], 0.0

    ray = SimpleNamespace(
        wait=lambda running, num_returns: ([running[0]], running[1:]),
        get=get,
        exceptions=SimpleNamespace(RayTaskError=OfTask, RayError=Gone),
    )
    return ray, [Worker(d) for d in dies]


class Worker:
    """Hashable by itself, so that two answers differ."""

    def __init__(self, dies):
        self.dies = dies
        self.solve = SimpleNamespace(remote=lambda group: Answer((self, group)))


class Answer(tuple):
    __hash__ = object.__hash__
    __eq__ = object.__eq__


@pytest.fixture
def answers(monkeypatch):
    monkeypatch.setattr(fleet, "_light", lambda task: task)
    monkeypatch.setattr(fleet, "failures", lambda config, group, error: [(group, str(error))])

    def run(groups, *dies):
        ray, workers = cluster(*dies)
        events = fleet._answers(ray, None, groups, workers, len(groups))
        return [event for event in events if isinstance(event, Solved | tuple)]

    return run


@pytest.mark.parametrize(
    ("device", "gpus", "workers", "expected"),
    [("auto", 0, None, 8), ("auto", 2, None, 2), ("cpu", 2, 3, 3), ("mps", 0, None, 1), ("mps", 0, 4, 1)],
)
def test_a_worker_for_each_gpu_else_for_each_core(device, gpus, workers, expected):
    actor = SimpleNamespace(remote=lambda *given: given)
    ray = SimpleNamespace(
        cluster_resources=lambda: {"CPU": 8.0, "GPU": float(gpus)},
        remote=lambda kind: SimpleNamespace(options=lambda **asked: actor),
    )
    found = fleet._workers(ray, SimpleNamespace(device=device, workers=workers, plugins=()), None)
    assert len(found) == expected


def test_another_does_what_the_dead_one_had(answers):
    found = answers([["a"], ["b"], ["c"]], True, False)
    assert sorted(event.tasks[0] for event in found) == ["a", "b", "c"]


def test_what_kills_two_is_given_up(answers):
    found = answers([["a"]], True, True)
    assert found == [(["a"], "its worker died (Gone); see that the machines have the memory")]


def test_without_workers_the_rest_is_told(answers):
    found = answers([["a"], ["b"]], True)
    assert [event[0] for event in found] == [["a"], ["b"]] and "no worker is left" in found[1][1]
