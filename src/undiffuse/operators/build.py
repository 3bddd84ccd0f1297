"""Degradations from one line of text: `inp:mask=m.png . blur:gaussian,std=2 . sr4`."""

from dataclasses import dataclass
from typing import Any

from undiffuse.config import from_term, parse_term
from undiffuse.operators.base import Operator, Shape
from undiffuse.operators.compose import compose
from undiffuse.registry import OPERATORS


@dataclass(frozen=True)
class Term:
    """One named degradation with all of its options, validated."""

    name: str
    options: dict[str, Any]


def parse(text: str, /) -> list[Term]:
    """`name[:value][,key=value...]`, several joined by ` . ` with the one that acts first on the right.

    The list has the order of the text. A value without a key goes to the first option of the degradation; a
    list is written 0+1. ValueError, in one line, for an unknown name or option, or a value out of range.
    """
    terms: list[Term] = []
    for part in text.split(" . "):
        name, first, given = parse_term(part)
        terms.append(Term(name, from_term(OPERATORS[name], first, given)))
    return terms


def build(text: str, shape: Shape, /) -> Operator:
    """The operator that `text` describes for images of shape (C, H, W), in float64."""
    size = tuple(shape)
    if len(size) != 3 or min(size) < 1:
        raise ValueError(f"images have shape (C, H, W), got {size}")
    chain: list[Operator] = []
    for term in reversed(parse(text)):
        if len(size) != 3:
            before = text.split(" . ")[len(chain) * -1].strip()
            raise ValueError(
                f"'{before}' does not give an image, so that '{term.name}' cannot follow it; put it leftmost"
            )
        made = OPERATORS[term.name].factory(size, **term.options)
        if not isinstance(made, Operator):
            raise ValueError(
                f"the degradation '{term.name}' is {type(made).__name__}; its factory has to return an Operator"
            )
        chain.insert(0, made)
        size = chain[0].out_shape
    return compose(chain)
