import sys

import pytest

from tests.app.run_folders import png
from undiffuse.app.train.board import Board


def test_the_board_says_what_would_make_it_one(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    board = Board(tmp_path, after=3)
    board.scalars(4, {"loss": 0.5})
    board.picture(4, png())
    board.close()
    assert "pip install tensorboard" in str(board.note) and not list(tmp_path.iterdir())


def test_the_board_drops_the_lost_stretch(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for after, steps in ((None, range(1, 8)), (4, range(5, 7))):
        board = Board(tmp_path, after)
        for step in steps:
            board.scalars(step, {"loss": step + 0.5 * (after is None)})
        board.picture(steps[-1], png())
        board.close()
        assert board.note is None
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("loss")] == [1, 2, 3, 4, 5, 6]
    assert [event.value for event in events.Scalars("loss")] == [1.5, 2.5, 3.5, 4.5, 5, 6]
    assert (events.Images("pictures")[-1].width, events.Images("pictures")[-1].height) == (30, 20)
