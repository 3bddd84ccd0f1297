"""Training and validation, apart for good."""

import hashlib
from typing import Literal

from undiffuse.data.dataset import Dataset, Subset, Unusable


def split(
    dataset: Dataset, /, *, share: float, by: Literal["content", "name"] = "content"
) -> tuple[Subset, Subset]:
    """Training and validation sets: each item goes by a hash of its own, to validation for about `share` of them.

    So an item keeps its side whatever else is added or removed. By "content" (every byte is read once) it also
    keeps it when renamed, and exact copies go together; copies that were encoded again are not recognised. By
    "name" nothing is read, and copies may part: for sets too large to read, and known to have none.
    """
    if not 0 < share < 1:
        raise ValueError(f"share={share} for validation; expected more than 0 and less than 1; correct it")
    sides: tuple[list[int], list[int]] = ([], [])
    seen: set[bytes] = set()
    copies = unread = 0
    for i in range(len(dataset)):
        key = dataset.name(i).encode("utf-8", "surrogateescape")
        if by == "content":
            try:
                key = dataset.digest(i)
            except Unusable:  # it has no content to leak; the stream counts it when it is asked for
                unread += 1
            copies += key in seen
            seen.add(key)
        sides[_fraction(key) < share].append(i)
    if not all(sides):
        raise ValueError(
            f"{len(dataset)} items with share={share} leave {len(sides[0])} to train on and {len(sides[1])} to "
            "validate; expected both; change the share or add images"
        )
    note = f"{len(sides[0])} to train on, {len(sides[1])} to validate, by {by}"
    note += f"; {copies} copies kept with their twins" * bool(copies)
    note += f"; {unread} unreadable split by name" * bool(unread)
    training, validation = (Subset(dataset, side, (*dataset.notes, note)) for side in sides)
    return training, validation


def _fraction(key: bytes) -> float:
    """A number in [0, 1) that only depends on `key`."""
    return int.from_bytes(hashlib.sha256(b"split " + key).digest()[:6], "big") / 2**48
