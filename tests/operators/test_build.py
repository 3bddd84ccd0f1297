"""Degradations from text, alone and composed."""

import numpy as np
import pytest
import torch
from PIL import Image

from undiffuse.contracts.operator import check
from undiffuse.operators import Kronecker, LinearOperator, build, compose, parse
from undiffuse.registry import OPERATORS

SHAPE = (3, 16, 24)


def test_parse_gives_names_and_all_options():
    blurred, pooled = parse("blur:gaussian,std=2 . sr4")
    assert (
        blurred.name == "blur" and blurred.options["kernel"] == "gaussian" and blurred.options["std"] == 2.0
    )
    assert pooled.options == {"factor": 4}
    assert parse("inp:channels=0+2")[0].options["channels"] == [0, 2]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("blurr", "did you mean 'blur'"),
        ("blur:stdd=2", "did you mean 'std'"),
        ("pool:factor=0", "factor"),
        ("pool:factor=four", "factor='four'"),
        ("blur:gaussian,boundary=mirror", "'reflect', 'circular' or 'zero'"),
        ("deno:3", "no options"),
        ("", "no name"),
        ("sr4 . ", "no name"),
        ("inp:channels=0+x", "channels"),
    ],
)
def test_mistakes_are_refused_in_one_line(text, words):
    with pytest.raises(ValueError, match=words) as caught:
        parse(text)
    assert "\n" not in str(caught.value)


def test_the_rightmost_acts_first():
    operator = build("gray . blur:uniform,taps=3 . sr4", SHAPE)
    x = torch.randn(2, *SHAPE, dtype=torch.float64)
    y = OPERATORS["sr4"](SHAPE)(x)
    y = OPERATORS["blur"]((3, 4, 6), kernel="uniform", taps=3)(y)
    torch.testing.assert_close(operator(x), y.mean(1, keepdim=True), rtol=0, atol=1e-12)
    assert operator.out_shape == (1, 4, 6)
    check(operator, solved=1e-5)  # 3 x 3 uniform blur has singular values near 1e-2: the square counts


def test_one_term_is_the_operator_itself():
    assert isinstance(build("sr4", SHAPE), Kronecker)


def test_a_mask_that_is_outermost_gives_the_support(tmp_path):
    Image.fromarray(np.where(np.eye(4, 6) > 0, 0, 255).astype(np.uint8)).save(tmp_path / "m.png")
    operator = build(f"inp:mask={tmp_path / 'm.png'} . sr4", SHAPE)
    assert isinstance(operator, LinearOperator)
    assert operator.measurements == 3 * (24 - 4)
    check(operator, solved=1e-9)
    assert build("sr4 . inp", SHAPE).support is None


def test_what_is_not_an_image_stands_leftmost():
    assert build("cs2 . sr4", (3, 16, 16)).out_shape == (3, 8)
    with pytest.raises(ValueError, match="'cs2' does not give an image"):
        build("sr4 . cs2", (3, 16, 16))


def test_shapes_must_fit():
    with pytest.raises(ValueError, match=r"takes \(3, 16, 24\), but gets \(3, 4, 6\)"):
        compose([OPERATORS["deno"](SHAPE), OPERATORS["sr4"](SHAPE)])
    with pytest.raises(ValueError, match="nothing to compose"):
        compose([])


def test_a_factory_that_gives_no_operator_is_refused(monkeypatch):
    monkeypatch.setattr(OPERATORS, "_entries", dict(OPERATORS._entries))
    OPERATORS.register("nothing", summary="a factory without return", example="nothing")(
        lambda shape, /: None
    )
    with pytest.raises(ValueError, match="'nothing' is NoneType; its factory has to return an Operator"):
        build("nothing", SHAPE)
