"""--deg: the degradations of DDRM's runner, corrected or as they were published, and the picture y0 of each."""

import re
from pathlib import Path

import torch
from torch import Tensor

from undiffuse.operators import SVDOperator
from undiffuse.operators.build import build
from undiffuse.operators.files import read_array

MASKS = {"inp_lolcat": "lolcat_extra.npy", "inp_lorem": "lorem3.npy"}
NAMES = "cs2, cs4, inp, inp_lolcat, inp_lorem, deno, deblur_uni, deblur_gauss, deblur_aniso, sr2 to sr16, "
NAMES += "sr_bicubic4 to sr_bicubic16, color"
BUGS = {
    "deblur": (
        "the last tap of odd kernels is lost, singular values below 0.03 are dropped, and the others belong to "
        "other modes than they are applied to: it is no blur"
    ),
    "cs": "the mean of the picture is measured by chance only",
    "color": "weights 0.3333, 0.3334, 0.3333",
}


def operator(deg: str, shape: tuple[int, ...], seed: int, exp: Path, compat: bool) -> SVDOperator:
    """The degradation of (C, H, W) pictures; `compat`: with the authors' bugs. ValueError for one without an SVD."""
    A = build(_term(deg, shape, seed, exp, compat), shape)
    if not isinstance(A, SVDOperator):
        raise ValueError(f"--deg {deg} has no singular value decomposition, which DDRM needs; use {NAMES}")
    return A


def _term(deg: str, shape: tuple[int, ...], seed: int, exp: Path, compat: bool) -> str:
    prefix = "ddrm_" if compat else ""
    if deg in MASKS:
        mask = _mask(deg, exp)
        return f"ddrm_inp:missing={_missing(mask, shape)}" if compat else f"inp:mask={mask}"
    if deg == "inp":
        return f"{prefix}inp:seed={seed}"
    if found := re.fullmatch(r"cs(\d{1,4})", deg):
        return f"{prefix}cs:ratio={found[1]},seed={seed}"
    if compat:
        if not re.fullmatch(r"deno|color|deblur_(uni|gauss|aniso)|sr(_bicubic)?\d{1,2}", deg):
            raise ValueError(f"--deg {deg} with --compat; the authors have {NAMES}")
        return prefix + deg if deg.startswith(("deblur", "color")) else deg
    return deg


def _mask(deg: str, exp: Path) -> Path:
    places = [folder / "inp_masks" / MASKS[deg] for folder in (Path(), exp)]
    found = next((path for path in places if path.is_file()), None)
    if found is None:
        raise ValueError(
            f"--deg {deg} reads '{places[0]}', which comes with the authors' code; copy it there"
        )
    return found


def _missing(path: Path, shape: tuple[int, ...]) -> str:
    """Entries (pixel * channels + channel) that a mask leaves out, as an option of ddrm_inp."""
    mask = torch.as_tensor(read_array(path, what="mask", entries=2**28))
    if tuple(mask.shape) != shape[1:]:
        raise ValueError(f"mask '{path}' has size {tuple(mask.shape)}, the pictures {shape[1:]}")
    pixels = (mask.flatten() == 0).nonzero()
    return "+".join(str(i) for i in (pixels * shape[0] + torch.arange(shape[0])).flatten().tolist())


def told(deg: str, compat: bool) -> str:
    """What is wrong with the authors' operator of this name, in words; empty for one that is right."""
    if not compat:
        return ""
    return next((said for kind, said in BUGS.items() if deg.startswith(kind)), "")


def shown(A: SVDOperator, deg: str, y: Tensor) -> Tensor:
    """y0: the blurred picture itself, grey as three channels, missing pixels black, else the pseudo-inverse."""
    if deg.startswith("deblur"):
        return y.reshape(-1, *A.in_shape)
    if deg == "color":
        return y.expand(-1, *A.in_shape)
    x = A.pinv(y)
    if deg.startswith("inp"):
        x = x + A.pinv(A(torch.ones_like(x))) - 1
    return x
