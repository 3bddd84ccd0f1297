"""One degradation after another."""

from collections.abc import Sequence
from typing import cast

from torch import Tensor, nn

from undiffuse.operators.base import LinearOperator, Operator


def compose(operators: Sequence[Operator], /) -> Operator:
    """[A3, A2, A1] -> A3 A2 A1, as mathematics writes it: the last acts first. One operator is returned as it
    is.

    Linear if all are, with pinv and ridge by conjugate gradient. `support` is that of the outermost operator,
    the first: what it does not measure has no place in y, whatever comes before. A mask inside a chain has
    none, for what acts on its zeros counts them as data; write it leftmost. ValueError if shapes do not fit.
    """
    if not operators:
        raise ValueError("nothing to compose; give at least one operator")
    for outer, inner in zip(operators, operators[1:], strict=False):
        if outer.in_shape != inner.out_shape:
            names = f"{type(outer).__name__} after {type(inner).__name__}"
            raise ValueError(
                f"{names}: it takes {outer.in_shape}, but gets {inner.out_shape}; rebuild it for that shape"
            )
    if len(operators) == 1:
        return operators[0]
    linear = [operator for operator in operators if isinstance(operator, LinearOperator)]
    return LinearChain(linear) if len(linear) == len(operators) else Chain(operators)


class Chain(Operator):
    """A3 A2 A1 of any operators; use `compose`."""

    def __init__(self, operators: Sequence[Operator]):
        super().__init__(operators[-1].in_shape, operators[0].out_shape)
        self.chain = nn.ModuleList(operators)

    @property
    def support(self) -> Tensor | None:
        """That of the outermost operator."""
        return cast(Operator, self.chain[0]).support

    def forward(self, x: Tensor) -> Tensor:
        """A3(A2(A1(x)))."""
        for operator in reversed(self.chain):
            x = operator(x)
        return x


class LinearChain(Chain, LinearOperator):
    """A3 A2 A1 of linear operators; use `compose`."""

    def adjoint(self, y: Tensor) -> Tensor:
        """A1^T A2^T A3^T y."""
        for operator in self.chain:
            y = cast(LinearOperator, operator).adjoint(y)
        return y
