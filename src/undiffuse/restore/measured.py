"""What a measurement says about a picture, with no prior's help."""

from torch import Tensor

from undiffuse.operators.base import LinearOperator, Operator, Weight


def determined(A: Operator, x: Tensor, lam: Weight) -> Tensor:
    """(A^T A + lam)^-1 A^T A x: the part of x that y = A x determines, against a pull to zero of weight lam.

    At lam = 0 this is A^+ A x, the range part, and x less it the null part. A mode of singular value s keeps
    s^2 / (s^2 + lam) of itself, so lam = sigma_y^2 / P is the Wiener estimate from noisy y where x has power P.
    `functools.partial(determined, A)` is what `metrics.invented` asks for. lam >= 0, one for all or
    (B, 1, 1, 1). Of operators without an SVD by conjugate gradient. ValueError for an operator that is not
    linear, as it has no null space.
    """
    if not isinstance(A, LinearOperator):
        raise ValueError(
            f"{type(A).__name__} is not linear, so no part of a picture is determined by it; use a linear one"
        )
    return A.ridge(x.new_zeros(x.shape), A(x), lam)
