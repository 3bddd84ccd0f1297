"""Networks of files that the user names: ONNX, and TorchScript, which is a program."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

WIDEST = 8192  # features; a covariance of more would take half a gigabyte
Compute = Callable[[Tensor], tuple[Tensor, None]]


def open_onnx(path: Path) -> tuple[Compute, bool]:
    """The first output of a network of one input, on the CPU; False: it says nothing of what it sees.

    ValueError if onnxruntime is not installed, or cannot read the file.
    """
    try:
        import onnxruntime  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise ValueError(f"'{path}' needs onnxruntime; pip install onnxruntime, or use TorchScript") from None
    try:
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except Exception as error:  # its errors have no common class
        what = " ".join(str(error).split())[:200]
        raise ValueError(f"'{path}' cannot be opened ({what}); expected an ONNX network") from None
    inputs = session.get_inputs()
    if len(inputs) != 1:
        raise ValueError(f"'{path}' has {len(inputs)} inputs; expected one, pictures (B, 3, H, W)")

    def compute(x: Tensor) -> tuple[Tensor, None]:
        try:
            outputs = session.run(None, {inputs[0].name: x.cpu().numpy()})
        except Exception as error:
            raise ValueError(_failed(path, x, error)) from None
        return checked(path, torch.as_tensor(outputs[0]), len(x)), None

    return compute, False


def open_torchscript(path: Path, device: torch.device) -> tuple[Compute, bool]:
    """A network as torch.jit.save writes it; it is run with all the user's rights.

    True: it is one of NVIDIA's detectors, which take bytes of any size and are asked with return_features=True.
    ValueError for a file that is none, such as one of weights alone.
    """
    try:
        net: Any = torch.jit.load(str(path), map_location=device).eval()
    except Exception as error:
        what = " ".join(str(error).split())[:200]
        advice = "expected a TorchScript or .onnx network; weights alone go to --weights"
        raise ValueError(f"'{path}' cannot be opened ({what}); {advice}") from None
    whole = any(argument.name == "return_features" for argument in net.forward.schema.arguments)

    def compute(x: Tensor) -> tuple[Tensor, None]:
        try:
            out = net(x, return_features=True) if whole else net(x)
        except Exception as error:
            raise ValueError(_failed(path, x, error)) from None
        return checked(path, out[0] if isinstance(out, tuple | list) else out, len(x)), None

    return compute, whole


def checked(path: Path, out: Any, count: int) -> Tensor:
    """(B, D) or (B, D, 1, 1) as (B, D). ValueError for anything else."""
    if not isinstance(out, Tensor) or out.ndim < 2 or len(out) != count or not 0 < out[0].numel() <= WIDEST:
        shape = tuple(out.shape) if isinstance(out, Tensor) else type(out).__name__
        raise ValueError(f"'{path}' answers {shape} to {count} pictures; expected (B, D), D at most {WIDEST}")
    return out.flatten(1).float()


def _failed(path: Path, x: Tensor, error: Exception) -> str:
    what = " ".join(str(error).split())[-200:]
    return f"'{path}' fails on pictures {tuple(x.shape)} ({what}); look at --size and --range"
