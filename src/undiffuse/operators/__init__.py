"""Degradations y = A(x). Importing this package fills the registry `OPERATORS`."""

from undiffuse.operators import blur, compat
from undiffuse.operators.base import LinearOperator, Operator, Separable, Shape, SVDOperator, Weight
from undiffuse.operators.build import Term, build, parse
from undiffuse.operators.compose import compose
from undiffuse.operators.convolution import Convolution
from undiffuse.operators.dense import Matrix
from undiffuse.operators.fourier import CircularBlur
from undiffuse.operators.hadamard import Hadamard, PaddedHadamard, fwht
from undiffuse.operators.jpeg import Jpeg
from undiffuse.operators.kronecker import Kronecker
from undiffuse.operators.mirrored import CosineBlur
from undiffuse.operators.nonlinear import Clip, Gamma
from undiffuse.operators.pixel import Identity, Inpaint
from undiffuse.operators.proximal import Fit, Proximal, proximal
from undiffuse.operators.solve import conjugate_gradient

__all__ = [
    "CircularBlur",
    "Clip",
    "Convolution",
    "CosineBlur",
    "Fit",
    "Gamma",
    "Hadamard",
    "Identity",
    "Inpaint",
    "Jpeg",
    "Kronecker",
    "LinearOperator",
    "Matrix",
    "Operator",
    "PaddedHadamard",
    "Proximal",
    "SVDOperator",
    "Separable",
    "Shape",
    "Term",
    "Weight",
    "blur",
    "build",
    "compat",
    "compose",
    "conjugate_gradient",
    "fwht",
    "parse",
    "proximal",
]
