"""What was measured, on disk as soon as it is known: a line for each question, with all that decides its answer."""

import hashlib
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from undiffuse.app.outputs import append_lines, make_folder

FILE = "measured.jsonl"
Question = dict[str, Any]
Answer = dict[str, Any]


class Store:
    """Questions and answers of JSON. A last line that was cut off by a kill is dropped; it is measured again."""

    def __init__(self, out: Path):
        self.path = out / FILE
        self._known: dict[str, Answer] = {}
        if self.path.exists():
            self._read()

    def get(self, question: Question) -> Answer | None:
        """What was found before; None if nobody asked."""
        return self._known.get(key(question))

    def add(self, question: Question, answer: Answer) -> None:
        """When this returns it is on the disk. What is not finite is kept as null."""
        make_folder(self.path.parent)
        line = json.dumps({"asked": question, "found": finite(answer)}, sort_keys=True) + "\n"
        append_lines(self.path, line.encode())
        self._known[key(question)] = finite(answer)

    def _read(self) -> None:
        try:
            data = self.path.read_bytes()
            for line in data[: data.rfind(b"\n") + 1].splitlines():
                found = json.loads(line)
                self._known[key(found["asked"])] = dict(found["found"])
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise ValueError(
                f"'{self.path}' is no file of measurements ({error}); choose another --out"
            ) from None


def known(answer: Any, names: Sequence[str]) -> bool:
    """Whether an answer is what a run would have written: these numbers, and each value with its interval."""
    if not isinstance(answer, dict) or not all(_number(answer.get(name)) for name in names):
        return False
    values, each = answer.get("values", {}), answer.get("each", {})
    if not (isinstance(values, dict) and isinstance(each, dict)):
        return False
    lists = [*values.values(), *each.values()]
    return all(
        isinstance(some, list) and all(v is None or _number(v, -math.inf) for v in some) for some in lists
    ) and all(len(some) == 3 for some in values.values())


def _number(value: Any, low: float = 0.0) -> bool:
    return (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and low <= value
        and abs(value) < math.inf
    )


def key(question: Question) -> str:
    """Questions with the same settings have the same."""
    return hashlib.sha256(json.dumps(question, sort_keys=True).encode()).hexdigest()


def finite(value: Any) -> Any:
    """For JSON, which has no infinity and no NaN: null."""
    if isinstance(value, dict):
        return {name: finite(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
