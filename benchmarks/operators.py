"""Degradations against those of DDRM's authors and of deepinv: construction, A, A^T, A^+, memory.

    python benchmarks/operators.py [--ddrm PATH] [--only sr4,cs4] [--quick] [--limit SECONDS]

PATH is a checkout of github.com/bahjat-kawar/ddrm; deepinv is measured if it is installed. Each cell runs in
a process of its own with float32 on the CPU and OMP_NUM_THREADS threads (default 1): seconds are medians of
several runs, memory is how far the peak of the process rises above where it stood before construction. Writes
benchmarks/results/operators.json, and beside it the table that it prints (.md); a ratio above 1 says how many times
ours is faster.
"""

import argparse
import importlib.util
import json
import math
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from torch import Tensor

NAMES = [
    *("deno", "inp", "color", "cs4", "sr4", "sr16", "sr_bicubic4", "sr_bicubic16"),
    *("deblur_uni", "deblur_gauss", "deblur_aniso"),
]
SIZES = [(256, 4), (2048, 1)]
PARTS = ("construct", "forward", "adjoint", "pinv")
Maps = tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]


def ours(name: str, size: int, _: str) -> Maps:
    from undiffuse.operators import LinearOperator, build

    operator = build(name, (3, size, size)).float()
    assert isinstance(operator, LinearOperator)
    return operator, operator.adjoint, operator.pinv


def gaussian(taps: int, std: float) -> Tensor:
    d = torch.arange(taps) - (taps - 1) / 2
    k = (-0.5 * (d / std) ** 2).exp()
    return k / k.sum()


def lines(name: str) -> tuple[Tensor, Tensor]:
    """The kernels of a deblurring along rows and columns: (vertical, horizontal)."""
    uniform = torch.full((9,), 1 / 9)
    return {
        "deblur_uni": (uniform, uniform),
        "deblur_gauss": (gaussian(5, 10), gaussian(5, 10)),
        "deblur_aniso": (gaussian(9, 1), gaussian(9, 20)),
    }[name]


def bicubic(factor: int) -> Tensor:
    d = ((torch.arange(4 * factor) + 0.5) / factor - 2).abs()
    k = torch.where(d <= 1, 1.5 * d**3 - 2.5 * d**2 + 1, -0.5 * d**3 + 2.5 * d**2 - 4 * d + 2)
    return k / k.sum()


def ddrm(name: str, size: int, path: str) -> Maps:
    """The class that DDRM's runner takes for this name, with its arguments."""
    file = Path(path) / "functions" / "svd_replacement.py"
    spec = importlib.util.spec_from_file_location("svd_replacement", file)
    if spec is None or spec.loader is None or not file.is_file():
        raise ValueError(
            f"no functions/svd_replacement.py in '{path}'; --ddrm takes a checkout of the repository"
        )
    theirs = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(theirs)
    cpu = torch.device("cpu")
    if name == "deno":
        made = theirs.Denoising(3, size, cpu)
    elif name == "inp":
        missing = torch.randperm(size**2)[: size**2 // 2] * 3
        made = theirs.Inpainting(3, size, torch.cat([missing, missing + 1, missing + 2]), cpu)
    elif name == "color":
        made = theirs.Colorization(size, cpu)
    elif name == "cs4":
        made = theirs.WalshHadamardCS(3, size, 4, torch.randperm(size**2), cpu)
    elif name.startswith("sr_bicubic"):
        factor = int(name.removeprefix("sr_bicubic"))
        made = theirs.SRConv(bicubic(factor), 3, size, cpu, stride=factor)
    elif name.startswith("sr"):
        made = theirs.SuperResolution(3, size, int(name.removeprefix("sr")), cpu)
    elif name == "deblur_aniso":
        made = theirs.Deblurring2D(*lines(name), 3, size, cpu)
    else:
        made = theirs.Deblurring(lines(name)[0], 3, size, cpu)
    return made.H, made.Ht, made.H_pinv


def deepinv(name: str, size: int, _: str) -> Maps:
    """The nearest class of deepinv: closed forms where it has them (circular edges), else its iterations."""
    # A CUDA torchvision does not import beside a CPU torch without its operators.
    if torch.version.cuda is None and "_torchvision" not in globals():
        library = torch.library.Library("torchvision", "FRAGMENT")
        for op in ("nms", "qnms"):
            library.define(f"{op}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        globals()["_torchvision"] = library  # it lives as long as this object
    import deepinv as package

    physics, shape = package.physics, (3, size, size)
    if name == "deno":
        made: Any = physics.Denoising()
    elif name == "inp":
        made = physics.Inpainting(shape, mask=0.5)
    elif name == "color":
        made = physics.Decolorize()
    elif name == "cs4":
        made = physics.SinglePixelCamera(m=size * size // 4, img_size=shape, fast=True)
    elif name.startswith("sr_bicubic"):
        made = physics.Downsampling(shape, filter="bicubic", factor=int(name.removeprefix("sr_bicubic")))
    elif name.startswith("sr"):
        factor = int(name.removeprefix("sr"))
        made = physics.Downsampling(
            shape, filter=torch.full((1, 1, factor, factor), factor**-2.0), factor=factor
        )
    else:
        made = physics.BlurFFT(shape, filter=torch.outer(*lines(name))[None, None])
    return made.A, made.A_adjoint, made.A_dagger


LIBRARIES: dict[str, Callable[[str, int, str], Maps]] = {"ours": ours, "ddrm": ddrm, "deepinv": deepinv}


def seconds(work: Callable[[], object], repeats: int) -> float:
    """Median after one run to warm up, or that run alone if it takes more than five seconds."""
    first = timed(work)
    return first if first > 5 else sorted(timed(work) for _ in range(repeats))[repeats // 2]


def timed(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # MiB on Linux


def cell(library: str, name: str, size: int, batch: int, repeats: int, path: str) -> dict[str, float]:
    """Measure one degradation of one library; runs in a process of its own."""
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    make, x = LIBRARIES[library], torch.rand(batch, 3, size, size) * 2 - 1
    make(name, 32, path)  # imports, and the first use of LAPACK and FFT
    before = peak()
    begin = time.perf_counter()
    forward, adjoint, pinv = make(name, size, path)
    found = {"construct": time.perf_counter() - begin}
    with torch.no_grad():
        y = forward(x)
        found["forward"] = seconds(lambda: forward(x), repeats)
        found["adjoint"] = seconds(lambda: adjoint(y), repeats)
        found["pinv"] = seconds(lambda: pinv(y), repeats)
    return {**found, "peak_mib": peak() - before}


def measure(library: str, name: str, size: int, batch: int, given: argparse.Namespace) -> dict[str, Any]:
    """`cell` in a child process, or why there is no result."""
    arguments = [library, name, str(size), str(batch), str(given.repeats), given.ddrm or ""]
    command = [sys.executable, __file__, "--cell", json.dumps(arguments)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=given.limit, check=False)
    except subprocess.TimeoutExpired:
        return {"failed": f"> {given.limit:g} s"}
    if done.returncode:
        return {"failed": (done.stderr.strip().splitlines() or [f"exit {done.returncode}"])[-1]}
    return json.loads(done.stdout.strip().splitlines()[-1])


def geometric_mean(ratios: list[float]) -> float:
    return math.exp(sum(map(math.log, ratios)) / len(ratios))


def ratios(rows: list[dict[str, Any]], library: str) -> dict[str, list[float]]:
    """Their time over ours, for each part, over the cells both could do, but `deno`, which is no work."""
    mine = {(row["name"], row["size"]): row for row in rows if row["library"] == "ours"}
    found: dict[str, list[float]] = {part: [] for part in PARTS}
    for row in rows:
        base = mine.get((row["name"], row["size"]), {})
        if (
            row["name"] != "deno"
            and row["library"] == library
            and "failed" not in row
            and "failed" not in base
        ):
            for part in PARTS:
                found[part].append(row[part] / base[part])
    return found


def table(rows: list[dict[str, Any]]) -> str:
    text = [
        "| degradation | size | library | construct ms | A ms | A^T ms | A^+ ms | peak MiB |",
        "|---" * 8 + "|",
    ]
    for row in rows:
        head = f"| {row['name']} | {row['batch']} x {row['size']}^2 | {row['library']} |"
        if "failed" in row:
            text.append(f"{head} {row['failed']} | | | | |")
        else:
            times = " | ".join(f"{1e3 * row[part]:.3g}" for part in PARTS)
            text.append(f"{head} {times} | {row['peak_mib']:.0f} |")
    for library in ("ddrm", "deepinv"):
        found = ratios(rows, library)
        if found["forward"]:
            parts = ", ".join(f"{part} {geometric_mean(found[part]):.1f}" for part in PARTS)
            text.append(f"\n{library} / ours, geometric mean of {len(found['forward'])} cells: {parts}")
    return "\n".join(text)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--ddrm", help="a checkout of github.com/bahjat-kawar/ddrm")
    parser.add_argument("--only", help="some degradations, separated by commas")
    parser.add_argument("--quick", action="store_true", help="256 x 256 only")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--limit", type=float, default=120.0, help="seconds for one cell")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "operators.json")
    parser.add_argument("--cell", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.cell:
        library, name, size, batch, repeats, path = json.loads(given.cell)
        print(json.dumps(cell(library, name, int(size), int(batch), int(repeats), path)))
        return
    libraries = [
        "ours",
        *(["ddrm"] if given.ddrm else []),
        *(["deepinv"] if importlib.util.find_spec("deepinv") else []),
    ]
    rows: list[dict[str, Any]] = []
    for name in given.only.split(",") if given.only else NAMES:
        for size, batch in SIZES[:1] if given.quick else SIZES:
            for library in libraries:
                found = measure(library, name, size, batch, given)
                rows.append({"name": name, "size": size, "batch": batch, "library": library, **found})
                print(".", end="", file=sys.stderr, flush=True)
    setup = {
        "torch": torch.__version__,
        "threads": int(os.environ["OMP_NUM_THREADS"]),
        "dtype": "float32",
        "device": "cpu",
    }
    given.output.parent.mkdir(parents=True, exist_ok=True)
    given.output.write_text(
        json.dumps({"setup": {**setup, "repeats": given.repeats}, "rows": rows}, indent=1) + "\n"
    )
    report = f"torch {setup['torch']}, {setup['threads']} thread(s), float32, CPU\n\n{table(rows)}\n"
    given.output.with_suffix(".md").write_text(f"# Degradations: `benchmarks/operators.py`\n\n{report}")
    print(f"\n{report}")


if __name__ == "__main__":
    main()
