"""How much of what the machine can compute does sampling use? Images a second, and the share of the peak.

    python benchmarks/peak.py [--device cuda] [--case cifar10,adm256] [--batch 32] [--modes bf16,bf16+compiled]

DDPM's CIFAR-10 network at 50 calls of DDIM and guided-diffusion's of 256 x 256 (without classes) at 20, with seeded
weights, as `undiffuse sample` draws: fp32 or bf16 (`--precision`), `compiled` by torch (`--compile`).
FLOP are those of convolutions, products of matrices and attention. The peak, of CUDA, is what a product of two large
matrices of the same type reaches on the same device, at best; a CPU's convolutions are quicker than its products.
Fewer --steps tell the same share sooner. Writes benchmarks/results/peak.json, and beside it the table that it prints;
rows of other devices, cases and modes stay.
"""

import argparse
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from torch import Tensor, nn
from training import flops, memory, peak_flops, timed

from undiffuse.app.priors import PRECISIONS, Opened
from undiffuse.checkpoints import PriorConfig
from undiffuse.core import SeededNoise, from_timesteps, last, sample
from undiffuse.networks.blocks import lowered
from undiffuse.samplers import ddim

MODES = ("fp32", "bf16", "fp32+compiled", "bf16+compiled")
DEFAULT_MODES = {"cpu": "fp32", "cuda": "bf16,bf16+compiled"}
DEFAULT_CASES = {"cpu": "cifar10", "cuda": "cifar10,adm256"}
KEY = ("device", "case", "batch", "steps", "mode")
RESULTS = Path(__file__).parent / "results" / "peak.json"


@dataclass(frozen=True)
class Case:
    """A published network, and how many calls it is asked for."""

    network: dict[str, Any]
    size: int
    calls: int


CASES = {
    "cifar10": Case(
        {"name": "ddpm", "width": 128, "multipliers": [1, 2, 2, 2], "blocks": 2, "attention": [1]}, 32, 50
    ),
    "adm256": Case(
        {
            "name": "adm", "width": 256, "multipliers": [1, 1, 2, 2, 4, 4], "blocks": 2, "attention": [3, 4, 5],
            "head_channels": 64, "resblock_updown": True, "learned_variance": True,
        },
        256,
        20,
    ),
}  # fmt: skip


def drawing(
    case: Case, batch: int, calls: int, mode: str, device: torch.device
) -> tuple[Callable[[], Tensor], int]:
    """What draws a batch, and the FLOP of one call for one image."""
    shape = (3, case.size, case.size)
    config = PriorConfig(
        network=case.network, prediction="eps", schedule="linear", channels=3, size=shape[1:]
    )
    torch.manual_seed(0)
    prior = config.build().eval().to(device)
    for parameter in prior.net.parameters():  # layers that begin at 0 would hide the others
        if not parameter.any():
            nn.init.normal_(parameter, std=0.02)
    sigmas = from_timesteps(config.discrete(), calls, "leading")
    one, level = torch.zeros(1, *shape, device=device), sigmas[0].float().to(device)

    @torch.no_grad()
    def call() -> None:
        prior(one, level)

    flop = flops(call)
    precision, _, compiled = mode.partition("+")
    if precision != "fp32":
        lowered(prior.net, PRECISIONS[precision])
    Opened(prior, "seeded").ready(device, bool(compiled))
    noise = SeededNoise(range(batch))

    def draw() -> Tensor:
        x = sigmas[0].float().to(device) * noise(torch.empty(batch, *shape, device=device))
        return last(sample(ddim(prior.given(), noise), x, sigmas)).x

    return draw, flop


def measure(
    name: str, batch: int, calls: int, mode: str, device: torch.device, repeats: int
) -> dict[str, Any]:
    """A row of the table."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    draw, flop = drawing(CASES[name], batch, calls, mode, device)
    answer = draw()  # compiles
    if not bool(answer.isfinite().all()):
        raise RuntimeError(f"{name}, {mode}: the pictures are not finite")
    seconds = [timed(draw, device.type) for _ in range(repeats)]
    each = median(seconds)
    done = flop * batch * calls / each
    share = done / peak_flops(mode) if device.type == "cuda" else None
    called = (
        torch.cuda.get_device_name() if device.type == "cuda" else f"cpu, {torch.get_num_threads()} thread(s)"
    )
    row = dict(zip(KEY, (called, name, batch, calls, mode), strict=True))
    told = {"gflop a call": flop / 1e9, "images_per_s": batch / each, "tflop_per_s": done / 1e12}
    return {**row, **told, "share": share, "peak_mib": memory(device.type), "seconds": seconds}


def table(rows: list[dict[str, Any]]) -> str:
    text = [
        "| device | network | batch | calls | mode | GFLOP a call | images/s | TFLOP/s | of the peak | MiB |"
    ]
    text.append("|---" * 10 + "|")
    for row in rows:
        text.append(
            f"| {row['device']} | {row['case']} | {row['batch']} | {row['steps']} | {row['mode']} "
            f"| {row['gflop a call']:.4g} | {row['images_per_s']:.3g} | {row['tflop_per_s']:.3g} "
            f"| {'' if row['share'] is None else format(row['share'], '.0%')} | {row['peak_mib']:.0f} |"
        )
    return "\n".join(text)


def report(output: Path, rows: list[dict[str, Any]]) -> None:
    """The numbers as JSON, and the table beside it."""
    output.write_text(json.dumps({"torch": torch.__version__, "rows": rows}, indent=1) + "\n")
    head = f"# Sampling and the machine's peak: `benchmarks/peak.py`\n\ntorch {torch.__version__}; medians\n"
    output.with_suffix(".md").write_text(f"{head}\n{table(rows)}\n")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--case", help=f"some of {', '.join(CASES)}, separated by commas")
    parser.add_argument("--batch", default="32", help="several with commas")
    parser.add_argument("--steps", type=int, help="calls of the network [50 and 20]")
    parser.add_argument("--modes", help=f"some of {', '.join(MODES)}, separated by commas")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--output", type=Path, default=RESULTS)
    given = parser.parse_args()
    modes = (given.modes or DEFAULT_MODES[given.device]).split(",")
    cases = (given.case or DEFAULT_CASES[given.device]).split(",")
    for what, wrong, known in (
        ("mode", set(modes) - {*MODES}, MODES),
        ("case", set(cases) - {*CASES}, CASES),
    ):
        if wrong:
            parser.error(f"no {what} '{min(wrong)}'; choose from {', '.join(known)}")
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    rows: list[dict[str, Any]] = (
        json.loads(given.output.read_text())["rows"] if given.output.is_file() else []
    )
    for name, batch, mode in product(cases, map(int, given.batch.split(",")), modes):
        calls = given.steps or CASES[name].calls
        row = measure(name, batch, calls, mode, torch.device(given.device), given.repeats)
        rows = [old for old in rows if any(old[key] != row[key] for key in KEY)] + [row]
        rows.sort(key=lambda row: [str(row[key]) for key in KEY])
        report(given.output, rows)
        print(table([row]), flush=True)


if __name__ == "__main__":
    main()
