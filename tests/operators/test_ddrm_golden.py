"""Against the authors' code (tests/golden/README.md), run at 64 x 64 on a photograph and on noise.

There everything is float32, here float64: 1e-5 of the norm leaves room for its rounding and for nothing else.
"""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import undiffuse.operators  # noqa: F401 (fills the registry)
from undiffuse.registry import OPERATORS

SHAPE = (3, 64, 64)


def golden(name):
    return load_file(Path(__file__).parents[1] / "golden" / f"ddrm_ops_{name}.safetensors")


def close(a, b, tolerance=1e-5):
    error = ((a - b.double()).norm() / b.double().norm()).item()
    assert error < tolerance, f"relative error {error:.1e}"


@pytest.mark.parametrize(
    ("name", "entry", "options"),
    [
        ("sr4", "sr4", {}),
        ("sr_bicubic4", "sr_bicubic4", {}),
        ("color", "ddrm_color", {}),
        ("cs4", "ddrm_cs", {"ratio": 4, "permutation": "perm"}),
        ("inp", "ddrm_inp", {"missing": "missing_indices"}),
        ("deblur_gauss", "ddrm_deblur_gauss", {"permutation": "perm"}),
    ],
)
def test_published(name, entry, options):
    given = golden(name)
    options = {
        key: given[value].tolist() if isinstance(value, str) else value for key, value in options.items()
    }
    operator = OPERATORS[entry](SHAPE, **options)
    y = operator(golden("x")["x"].double())
    # The deblurring has singular values 0.2146 twice: float32 mixes their vectors, and as published they are
    # scaled differently; its pseudo-inverse divides float32 rounding by down to 1e-3.
    loose = 5e-5 if name == "deblur_gauss" else 1e-5
    close(y[:1].flatten(1), given["y"][:1])
    close(y[1:].flatten(1), given["y"][1:], loose)
    close(operator.pinv(y[:1]), given["pinv"], loose)
    if "Ht_y0" in given:
        close(operator.adjoint(y[:1]), given["Ht_y0"])


def test_fixed_deblurring():
    given, x = golden("deblur_gauss"), golden("x")["x"].double()
    operator = OPERATORS["ddrm_deblur_gauss"](SHAPE, fixed=True)
    y = operator(x)
    close(y.flatten(1), given["y_fixed"])
    close(operator.pinv(y[:1]), given["pinv_fixed"])
    close(y, given["A_rows"].double() @ x @ given["A_rows"].double().mT)


def test_published_deblurring_is_not_even_well_defined():
    """The order of equal products changes it by 0.6 % on the photograph and by 9 % on noise."""
    given, x = golden("deblur_gauss"), golden("x")["x"].double()
    stable = OPERATORS["ddrm_deblur_gauss"](SHAPE)(x).flatten(1)
    change = (stable - given["y"]).norm(dim=1) / given["y"].norm(dim=1)
    assert change.tolist() == pytest.approx([0.0061, 0.088], rel=0.1)


def test_ours_is_the_blur_that_theirs_is_named_after():
    """The lost tap and the dark edges of theirs are worth a third of the picture, even when fixed."""
    given, x = golden("deblur_gauss"), golden("x")["x"].double()
    ours = OPERATORS["deblur_gauss"](SHAPE)(x[:1])
    nominal = torch.nn.functional.avg_pool2d(
        torch.nn.functional.pad(x[:1], (2, 2, 2, 2), mode="replicate"), 5, 1
    )
    close(ours[..., 2:-2, 2:-2], nominal[..., 2:-2, 2:-2], 0.02)  # std 10 in five taps is nearly uniform
    fixed = given["y_fixed"][:1].reshape(1, *SHAPE)
    assert ((ours - fixed).norm() / ours.norm()).item() == pytest.approx(0.37, abs=0.01)


def test_wrong_indices_are_refused():
    with pytest.raises(ValueError, match="no permutation of 0 to 63"):
        OPERATORS["ddrm_cs"]((1, 8, 8), permutation=[0] * 64)
    with pytest.raises(ValueError, match="missing entries must lie in 0 to 63"):
        OPERATORS["ddrm_inp"]((1, 8, 8), missing=[64])
    with pytest.raises(ValueError, match="no meaning for the fixed operator"):
        OPERATORS["ddrm_deblur"]((1, 8, 8), fixed=True, permutation=list(range(64)))
    with pytest.raises(ValueError, match="power of two"):
        OPERATORS["ddrm_cs"]((1, 9, 8))
