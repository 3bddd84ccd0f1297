"""Options from signatures: what is accepted, and how a wrong one is refused."""

from pathlib import Path
from typing import Annotated, Literal

import pydantic
import pytest

from undiffuse.config import RestoreConfig, explain, from_term, options, parse_term, validated
from undiffuse.registry import Entry


def factory(
    shape: tuple[int, ...],
    /,
    *,
    factor: Annotated[int, pydantic.Field(ge=1, le=64, description="block size")] = 4,
    kind: Literal["a", "b"] = "a",
    weights: list[float] | None = None,
    file: Path | None = None,
    exact: bool = False,
) -> dict[str, object]:
    return {"factor": factor, "kind": kind, "weights": weights, "file": file, "exact": exact}


ENTRY = Entry("pool", factory, "a test", "pool", {"factor": 8})


def test_the_model_has_the_options_and_no_runtime_object():
    fields = options(factory).model_fields
    assert list(fields) == ["factor", "kind", "weights", "file", "exact"]
    assert fields["factor"].description == "block size"


def test_strings_are_read_as_on_a_command_line():
    given = {"weights": "0.5+1e+1", "file": "k.npy", "exact": "true"}
    expected = {"factor": 8, "kind": "a", "weights": [0.5, 10.0], "file": Path("k.npy"), "exact": True}
    assert validated(ENTRY, given) == expected
    assert validated(ENTRY, {"weights": "none", "factor": "2"})["weights"] is None


def test_numbers_of_a_literal_are_read_from_text():
    def reader(
        *,
        channels: Annotated[Literal[1, 3] | None, pydantic.Field(description="d")] = 3,
        kind: Literal["1"] = "1",
    ):
        return channels, kind

    entry = Entry("reader", reader, "a test", "reader", {})
    assert validated(entry, {"channels": "1", "kind": "1"}) == {"channels": 1, "kind": "1"}
    assert validated(entry, {"channels": "none"})["channels"] is None
    with pytest.raises(ValueError, match="channels='2'.*1 or 3"):
        validated(entry, {"channels": "2"})


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"fctor": 2}, ["fctor", "did you mean 'factor'", "kind, weights"]),
        ({"factor": 65}, ["factor=65", "64"]),
        ({"factor": "two"}, ["factor='two'", "whole number"]),
        ({"kind": "c"}, ["kind='c'", "'a' or 'b'"]),
        ({"weights": "1+nan"}, ["weights.1", "finite"]),
    ],
)
def test_a_wrong_option_is_refused_in_one_line(given, words):
    with pytest.raises(ValueError) as caught:
        validated(ENTRY, given)
    assert all(word in str(caught.value) for word in ["'pool'", *words])
    assert "\n" not in str(caught.value)


def test_terms():
    assert parse_term("sr4") == ("sr4", None, {})
    assert parse_term("blur:gaussian, std=2") == ("blur", "gaussian", {"std": "2"})
    assert parse_term("inp:mask=m.png") == ("inp", None, {"mask": "m.png"})
    assert from_term(ENTRY, "3", {})["factor"] == 3
    for text in ("", ":3", "a:b,c", "a:k=", "a:k=1,k=2"):
        with pytest.raises(ValueError):
            parse_term(text)
    with pytest.raises(ValueError, match="twice"):
        from_term(ENTRY, "3", {"factor": "4"})


def test_a_choice_of_types_is_explained_once():
    with pytest.raises(pydantic.ValidationError) as fault:
        RestoreConfig(image=Path("a.png"), degrade="sr4", noise=-1)
    said = explain(fault.value, "restore", RestoreConfig)
    assert said == "option noise=-1 of restore: input should be greater than or equal to 0, or 'auto'"
