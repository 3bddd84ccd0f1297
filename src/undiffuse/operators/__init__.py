"""Degradations y = A(x). Importing this package fills the registry `OPERATORS`."""

from undiffuse.operators.base import LinearOperator, Operator, Shape, SVDOperator, Weight
from undiffuse.operators.kronecker import Kronecker
from undiffuse.operators.pixel import Identity, Inpaint
from undiffuse.operators.solve import conjugate_gradient

__all__ = [
    "Identity",
    "Inpaint",
    "Kronecker",
    "LinearOperator",
    "Operator",
    "SVDOperator",
    "Shape",
    "Weight",
    "conjugate_gradient",
]
