"""The stream: a pure function of (seed, k), whoever asks and whenever."""

import contextlib
import warnings

import numpy as np
import pytest
import torch
from PIL import Image

from undiffuse.data import Item, Order, Skips, Stream, Unusable, collate, folder, prepare

LENGTH = 23


class Numbers:
    """Item i is full of i."""

    classes, channels, notes = None, 1, ()

    def __init__(self, length=LENGTH, bad=(), labels=True):
        self.length, self.bad, self.labels = length, set(bad), labels

    def __len__(self):
        return self.length

    def __getitem__(self, i):
        if i in self.bad:
            raise Unusable(f"{self.name(i)}: damaged; expected a whole one; mend it")
        return Item(torch.full((1, 6, 6), i % 256, dtype=torch.uint8), i if self.labels else None)

    def name(self, i):
        return f"<{i}>"

    def digest(self, i):
        return bytes([i])


CROP = prepare(4, crop="random", flip=True, dequantise=True)


def take(n, dataset=None, transform=CROP, batch=4, start=0, rank=0, world=1, **options):
    """n batches of a process: k = start + rank, start + rank + world, ..."""
    with contextlib.closing(Stream(dataset or Numbers(), transform, **{"seed": 1, **options})) as stream:
        step = batch * world
        return [stream(range(at + rank, at + step, world)) for at in range(start, start + n * step, step)]


def joined(parts):
    return torch.cat([part.x for part in parts]), torch.cat([part.index for part in parts])


def test_each_epoch_is_a_permutation_of_its_own():
    order = Order(LENGTH, 5)
    epochs = [[order[e * LENGTH + i] for i in range(LENGTH)] for e in range(3)]
    for e, places in enumerate(epochs):
        assert sorted(p.index for p in places) == list(range(LENGTH)) and {p.epoch for p in places} == {e}
    assert len({tuple(p.index for p in places) for places in epochs}) == 3
    assert [Order(LENGTH, 6)[k].index for k in range(LENGTH)] != [p.index for p in epochs[0]]
    assert order[10**9] == Order(LENGTH, 5)[10**9]
    with pytest.raises(ValueError, match="no items"):
        Order(0, 0)


def test_order_is_pinned():
    """A changed order would break every resume: golden numbers."""
    assert [Order(8, 0)[k].index for k in range(8)] == [4, 2, 6, 1, 0, 7, 3, 5]


def test_items_and_ranges():
    for x, labels, index in take(12):
        assert x.shape == (4, 1, 4, 4) and x.dtype == torch.float32 and x.abs().max() <= 1
        assert labels is not None and torch.equal(labels, index)
        values = ((x.double() + 1) * 128).floor().flatten(1)
        assert torch.equal(values, index[:, None].expand(-1, 16).double())
    assert take(1, Numbers(labels=False))[0].labels is None


@pytest.mark.parametrize("workers", [1, 3])
def test_workers_change_nothing(workers):
    for a, b in zip(joined(take(15)), joined(take(15, workers=workers)), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("workers", [0, 2])
def test_resume(workers):
    whole, rest = take(15), take(9, start=6 * 4, workers=workers)
    for a, b in zip(joined(whole[6:]), joined(rest), strict=True):
        assert torch.equal(a, b)


def test_two_ranks_are_one_with_the_doubled_batch():
    one = take(6, batch=8, start=16)
    ranks = [take(6, rank=r, world=2, start=16) for r in range(2)]
    for whole, *parts in zip(one, *ranks, strict=True):
        assert torch.equal(torch.stack([p.x for p in parts], 1).flatten(0, 1), whole.x)
        assert torch.equal(torch.stack([p.index for p in parts], 1).flatten(), whole.index)


def test_seed_and_epoch_change_the_pixels():
    assert not torch.equal(take(1, Numbers(1))[0].x[0], take(1, Numbers(1))[0].x[1])
    assert not torch.equal(take(1, Numbers(1))[0].x[0], take(1, Numbers(1), seed=2)[0].x[0])


def test_collate_repeats_itself():
    first, again = (collate(Numbers(), CROP, [3, 5, 3], seed=0) for _ in range(2))
    assert torch.equal(first.x, again.x) and torch.equal(first.x[0], first.x[2])
    assert first.index.tolist() == [3, 5, 3]


def test_unusable_ones_are_counted_and_replaced():
    skips = Skips(200)
    with pytest.warns(UserWarning, match="1 of 200 images so far cannot be used: <7") as told:
        plain = take(100, Numbers(200, bad=(7, 199)), skips=skips)
    assert len(skips) == 2 and len(told) == 1 and "<199>: damaged" in skips.summary()
    index = torch.cat([b.index for b in plain]).tolist()
    wanted = [Order(200, 1)[k].index for k in range(400)]
    assert index == [{7: 8, 199: 0}.get(i, i) for i in wanted]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        again = take(50, Numbers(200, bad=(7, 199)), start=200, workers=3)
    for a, b in zip(joined(plain[50:]), joined(again), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("workers", [0, 2])
def test_more_than_one_percent_is_fatal(workers):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(ValueError, match="3 of 200 images .* expected at most 1%"):
            take(50, Numbers(200, bad=(3, 4, 5, 6)), workers=workers)
    with pytest.raises(ValueError, match="1 of 23"):
        take(6, Numbers(bad=(3,)))


def test_damaged_file_in_a_folder(tmp_path):
    for i in range(100):
        Image.fromarray(np.full((4, 4, 3), i, np.uint8)).save(tmp_path / f"{i:02}.png")
    (tmp_path / "42.png").write_bytes(b"\x89PNG\r\n\x1a\nnonsense")
    with pytest.warns(UserWarning, match="1 of 100 .*42.png"):
        index = torch.cat([b.index for b in take(25, folder(tmp_path), prepare(4))])
    assert sorted(index.tolist()) == sorted([43, *(i for i in range(100) if i != 42)])


def test_reading_ahead_guesses_and_forgives():
    """Parts of a batch, a jump back, a batch of another size: what was read ahead in vain is dropped."""
    plain, ahead = Stream(Numbers(), CROP, seed=1), Stream(Numbers(), CROP, seed=1, workers=2)
    with contextlib.closing(ahead):
        for which in (range(0, 3), range(3, 4), range(4, 8), range(2, 6), range(40, 42), range(1, 9, 2)):
            assert torch.equal(plain(which).x, ahead(which).x)
    with pytest.raises(ValueError, match="workers=-1"):
        Stream(Numbers(), CROP, seed=0, workers=-1)


def test_mixed_shapes_and_labels_are_refused(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    Image.new("RGB", (9, 8)).save(tmp_path / "b.png")
    with pytest.raises(ValueError, match="one shape"):
        take(1, folder(tmp_path), lambda image, generator: image.float())
    half = Numbers(4)
    half.__class__ = type(
        "Half", (Numbers,), {"__getitem__": lambda s, i: Item(Numbers()[i].image, i if i % 2 else None)}
    )
    with pytest.raises(ValueError, match="all or none"):
        take(1, half)


def test_closing_stops_the_workers():
    import threading

    stream = Stream(Numbers(), CROP, seed=0, workers=2)
    stream(range(4))
    assert any("undiffuse-data" in t.name for t in threading.enumerate())
    stream.close()
    assert not any("undiffuse-data" in t.name for t in threading.enumerate())


def test_quiet_ones_count_without_a_warning():
    skips = Skips(200, quiet=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        take(100, Numbers(200, bad=(7,)), skips=skips)
    assert "1 of 200" in skips.summary()
