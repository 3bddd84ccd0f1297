"""Degradations y = A(x). Importing this package fills the registry `OPERATORS`."""

from undiffuse.operators.base import LinearOperator, Operator, Shape, SVDOperator, Weight
from undiffuse.operators.blur import blur, downsample
from undiffuse.operators.build import Term, build, parse
from undiffuse.operators.compose import compose
from undiffuse.operators.convolution import Convolution
from undiffuse.operators.fourier import CircularBlur
from undiffuse.operators.hadamard import Hadamard, PaddedHadamard, cs, fwht
from undiffuse.operators.kronecker import Kronecker, gray, pool
from undiffuse.operators.pixel import Identity, Inpaint, identity, inpaint
from undiffuse.operators.solve import conjugate_gradient

__all__ = [
    "CircularBlur",
    "Convolution",
    "Hadamard",
    "Identity",
    "Inpaint",
    "Kronecker",
    "LinearOperator",
    "Operator",
    "PaddedHadamard",
    "SVDOperator",
    "Shape",
    "Term",
    "Weight",
    "blur",
    "build",
    "compose",
    "conjugate_gradient",
    "cs",
    "downsample",
    "fwht",
    "gray",
    "identity",
    "inpaint",
    "parse",
    "pool",
]
