"""Which kind of task a degradation is, by what it does to a picture and not by its name."""

from typing import Literal

from undiffuse.operators.base import Operator
from undiffuse.operators.convolution import Convolution
from undiffuse.operators.dense import Matrix
from undiffuse.operators.fourier import CircularBlur
from undiffuse.operators.hadamard import Hadamard, PaddedHadamard
from undiffuse.operators.kronecker import Kronecker
from undiffuse.operators.mirrored import CosineBlur
from undiffuse.operators.pixel import Identity, Inpaint

Kind = Literal["noise", "holes", "reduction", "blur", "colour", "sensing"]
KINDS: tuple[Kind, ...] = ("noise", "holes", "reduction", "blur", "colour", "sensing")


def kind_of(A: Operator) -> Kind | None:
    """The kind; None for chains of several, non-linear degradations and those of `compat`."""
    if isinstance(A, Identity):
        return "noise"
    if isinstance(A, Inpaint):
        return "holes"
    if isinstance(A, Hadamard | PaddedHadamard | Matrix):
        return "sensing"
    if not isinstance(A, Kronecker | Convolution | CircularBlur | CosineBlur) or len(A.out_shape) != 3:
        return None
    if A.out_shape == A.in_shape:
        return "blur"
    if A.out_shape[1:] == A.in_shape[1:]:
        return "colour"
    return "reduction" if A.out_shape[0] == A.in_shape[0] else None
