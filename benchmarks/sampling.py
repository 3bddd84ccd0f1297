"""Images per second of sampling against diffusers' pipelines: the same U-Net, weights, noise and number of steps.

    python benchmarks/sampling.py [--case small,cifar10] [--sampler ddim,ddpm] [--batch 1,8,64]
        [--modes eager,default,compiled,default-against-compiled] [--steps 4] [--repeats 5] [--append]

Our network is written as a folder of diffusers and read there, so that both have the same weights. `DDIMPipeline` and
`DDPMPipeline` start from their own noise and end with arrays in [0, 1], and so does our loop, from the same noise:
before anything is timed, the pictures of DDIM have to be equal to 1e-3. Modes: `eager` and `compiled` are of both
libraries; `default` is what `undiffuse sample` does unless told, against their eager pipeline, or
`default-against-compiled`. Cells are small on purpose: a few calls of the network, seconds each. Every cell has a
process of its own; the two libraries take turns, one at a time, so that a ratio is the median over pairs of
neighbours. Time is CPU seconds, or with OMP_NUM_THREADS above 1, its default, seconds that pass, which need a machine
that does nothing else. Memory is how far the peak of another process, which gives back what it frees, rises above
where it stood before the network was built. Beside that: our loop and theirs around a network that does nothing, in
milliseconds a step. Writes benchmarks/results/sampling.json, and beside it the table that it prints.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from torch import Tensor, nn
from training import CASES, KEEP_LESS, ONE_COMPILER, Case, line, memory, timed
from training import diffusers as stub_operators

LIBRARIES, SAMPLERS = ("ours", "diffusers"), ("ddim", "ddpm")
MODES = {  # of ours, and of theirs
    "eager": ("eager", "eager"),
    "default": ("default", "eager"),
    "compiled": ("compiled", "compiled"),
    "default-against-compiled": ("default", "compiled"),
    "nothing": ("nothing", "nothing"),
}
EQUAL = 1e-3  # of pictures in [0, 1]: float32, and their tables of products in float32
SEED = 0


class Nothing(nn.Module):
    """In place of a network, for what a loop costs by itself: `sample` is what diffusers asks an answer for."""

    def __init__(self, config: Any = None):
        super().__init__()
        self.config, self.weight = config, nn.Parameter(torch.zeros(1))
        self.dtype, self.device = torch.float32, torch.device("cpu")

    def forward(self, x: Tensor, *told: Any) -> Any:
        self.sample = x
        return x if self.config is None else self


def prior_of(case: Case) -> tuple[Any, Any]:
    """Our prior with seeded weights, and its description."""
    from undiffuse.checkpoints import PriorConfig

    network = {
        "name": "ddpm", "width": case.width, "multipliers": list(case.multipliers), "blocks": case.blocks,
        "attention": list(case.attention), "dropout": 0.0,
    }  # fmt: skip
    config = PriorConfig(
        network=network, prediction="eps", schedule="linear", channels=3, size=(case.size, case.size)
    )
    torch.manual_seed(SEED)
    prior = config.build()
    for (
        parameter
    ) in prior.net.parameters():  # layers that begin at 0 would hide what is wrong with the others
        if not parameter.any():
            nn.init.normal_(parameter, std=0.02)
    return prior.eval(), config


def ours(case: Case, sampler: str, steps: int, batch: int, mode: str) -> Callable[[], np.ndarray]:
    from undiffuse.app.machine import keep_freed
    from undiffuse.app.priors import Opened
    from undiffuse.core import from_timesteps, last, sample
    from undiffuse.samplers import ancestral, ddim

    prior, config = prior_of(case)
    keep_freed()  # as `undiffuse sample` does
    if mode != "eager":  # `default` as `undiffuse sample`, `compiled` with its --compile
        Opened(prior, "seeded").ready(torch.device("cpu"), mode == "compiled")
    if mode == "nothing":
        prior.net = Nothing()
    sigmas = from_timesteps(config.discrete(), steps, "leading")
    top = (1 + sigmas[0] ** 2).sqrt().item()  # theirs starts at x_T = sqrt(abar) x

    def draw() -> np.ndarray:
        generator = torch.Generator().manual_seed(SEED)

        def noise(like: Tensor) -> Tensor:
            return torch.randn(like.shape, generator=generator)

        x = top * noise(torch.empty(batch, 3, case.size, case.size))
        step = ddim(prior.given(), noise) if sampler == "ddim" else ancestral(prior.given(), noise)
        x = last(sample(step, x, sigmas)).x
        return (x / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).numpy()

    return draw


def theirs(case: Case, sampler: str, steps: int, batch: int, mode: str) -> Callable[[], np.ndarray]:
    stub_operators(replace(case, width=32))  # makes diffusers importable
    from diffusers.models.unets.unet_2d import UNet2DModel
    from diffusers.pipelines.ddim.pipeline_ddim import DDIMPipeline
    from diffusers.pipelines.ddpm.pipeline_ddpm import DDPMPipeline
    from diffusers.schedulers.scheduling_ddim import DDIMScheduler
    from diffusers.schedulers.scheduling_ddpm import DDPMScheduler

    from undiffuse.checkpoints.diffusers import export
    from undiffuse.checkpoints.native import Checkpoint

    with tempfile.TemporaryDirectory() as folder:
        prior, config = prior_of(case)
        export(Checkpoint(prior, config, {}), Path(folder) / "p")
        del prior
        unet: Any = UNet2DModel.from_pretrained(Path(folder) / "p" / "unet").eval()
    if mode == "compiled":
        unet.compile()
    if mode == "nothing":
        unet = Nothing(unet.config)
    common: dict[str, Any] = {"clip_sample": False, "timestep_spacing": "leading"}
    if sampler == "ddim":
        pipe: Any = DDIMPipeline(unet, DDIMScheduler(**common))
    else:
        pipe = DDPMPipeline(unet, DDPMScheduler(**common))
    pipe.set_progress_bar_config(disable=True)

    def draw() -> np.ndarray:
        generator = torch.Generator().manual_seed(SEED)
        return pipe(batch_size=batch, generator=generator, num_inference_steps=steps, output_type="np").images

    return draw


MAKE = {"ours": ours, "diffusers": theirs}


def child(cell: dict[str, Any], library: str, task: str) -> None:
    """Build, draw once, then answer each line of the input with the seconds of a draw: a process of its own."""
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    tiny = Case(size=32, width=32, multipliers=(1, 1), attention=(1,), batch={"cpu": 1})
    MAKE[library](tiny, cell["sampler"], 2, 1, "eager")()  # imports, and the first use of the kernels
    before = memory("cpu")
    mode = MODES[cell["mode"]][LIBRARIES.index(library)]
    draw = MAKE[library](CASES[cell["case"]], cell["sampler"], cell["steps"], cell["batch"], mode)
    found = draw()
    if task == "picture":
        np.save(cell["path"] + f"/{library}.npy", found)
    print(json.dumps({"peak_mib": memory("cpu") - before}), flush=True)
    if task == "seconds":
        for _ in sys.stdin:
            print(timed(draw, "cpu"), flush=True)


def start(cell: dict[str, Any], library: str, task: str) -> "subprocess.Popen[str]":
    command = [sys.executable, __file__, "--child", json.dumps([cell, library, task])]
    env = {**os.environ, **ONE_COMPILER, **(KEEP_LESS if task == "memory" else {})}
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env)


def once(cell: dict[str, Any], library: str, task: str) -> dict[str, Any]:
    process = start(cell, library, task)
    found = line(process)
    process.communicate()
    return found


def check(case: str, steps: int) -> float:
    """The largest difference between their pictures and ours, in both modes; an error if they are not the same."""
    found: list[float] = []
    for mode in ("eager", "default"):
        with tempfile.TemporaryDirectory() as folder:
            cell = {"case": case, "sampler": "ddim", "steps": steps, "batch": 1, "mode": mode, "path": folder}
            for library in LIBRARIES:
                once(cell, library, "picture")
            a, b = (np.load(Path(folder) / f"{library}.npy") for library in LIBRARIES)
        found.append(float(np.abs(a - b).max()))
        if not found[-1] < EQUAL or a.std() == 0:
            raise RuntimeError(
                f"{case}, {mode}: pictures differ by {found[-1]}, a deviation of {a.std()}; expected {EQUAL}"
            )
    return max(found)


def measure(cell: dict[str, Any], repeats: int) -> list[dict[str, Any]]:
    """A row for each library, their draws in turns."""
    rows = [{**cell, "library": library, "seconds": []} for library in LIBRARIES]
    running = [start(cell, library, "seconds") for library in LIBRARIES]
    try:
        for process in running:
            line(process)
        for _ in range(repeats):
            for row, process in zip(rows, running, strict=True):
                assert process.stdin is not None
                process.stdin.write("\n")
                process.stdin.flush()
                row["seconds"].append(line(process))
    finally:
        for process in running:
            process.communicate()
    for row in rows:
        if (
            cell["mode"] in ("eager", "default") and cell["sampler"] == "ddim"
        ):  # the network's: of any sampler
            row["peak_mib"] = once(cell, row["library"], "memory")["peak_mib"]
        row["images_per_s"] = cell["batch"] / median(row["seconds"])
    return rows


def place(row: dict[str, Any]) -> tuple[Any, ...]:
    """Of a row in the table."""
    return row["case"], row["sampler"], list(MODES).index(row["mode"]), row["batch"]


def table(rows: list[dict[str, Any]]) -> str:
    text = [
        "| network | sampler | mode | batch | ours, images/s | diffusers | ratio | ours, peak MiB | diffusers |",
        "|---" * 9 + "|",
    ]
    for mine, other in zip(rows[::2], rows[1::2], strict=True):
        if mine["mode"] == "nothing":
            continue
        ratio = median(b / a for a, b in zip(mine["seconds"], other["seconds"], strict=True))
        peak = [f"{row['peak_mib']:.0f}" if "peak_mib" in row else "" for row in (mine, other)]
        text.append(
            f"| {mine['case']} | {mine['sampler']}, {mine['steps']} steps | {mine['mode']} | {mine['batch']} "
            f"| {mine['images_per_s']:.3g} | {other['images_per_s']:.3g} | {ratio:.3f} | {peak[0]} | {peak[1]} |"
        )
    if not any(row["mode"] == "nothing" for row in rows):
        return "\n".join(text)
    text += ["", "A step around a network that does nothing, batch of 1, milliseconds:", ""]
    text += ["| sampler | ours | diffusers |", "|---" * 3 + "|"]
    for mine, other in zip(rows[::2], rows[1::2], strict=True):
        if mine["mode"] == "nothing":
            each = [1e3 * min(row["seconds"]) / row["steps"] for row in (mine, other)]
            text.append(f"| {mine['sampler']} | {each[0]:.3f} | {each[1]:.3f} |")
    return "\n".join(text)


def report(output: Path, rows: list[dict[str, Any]], equal: dict[str, float]) -> None:
    """The numbers as JSON, and the table beside it."""
    setup = {"torch": torch.__version__, "threads": int(os.environ["OMP_NUM_THREADS"]), "equal_to": equal}
    draws = [len(row["seconds"]) for row in rows]
    seconds = (
        "1 thread, CPU seconds" if setup["threads"] == 1 else f"{setup['threads']} threads, elapsed seconds"
    )
    head = (
        f"# Sampling: `benchmarks/sampling.py`\n\ntorch {setup['torch']}, one process at a time, {seconds}; "
        f"medians of {min(draws)} to {max(draws)} draws; "
        "a ratio above 1 is in our favour. `default` is what `undiffuse sample` does unless told; memory is\n"
        "the rise of the peak above what stood before the network was built.\n"
        f"The pictures of both differ by at most {max(equal.values()):.1g} of white - black.\n"
    )
    output.write_text(json.dumps({"setup": setup, "rows": rows}, indent=1) + "\n")
    output.with_suffix(".md").write_text(f"{head}\n{table(rows)}\n")


def cells(given: argparse.Namespace) -> list[dict[str, Any]]:
    found = [
        {"case": case, "sampler": sampler, "steps": given.steps, "batch": batch, "mode": mode}
        for case in given.case.split(",")
        for mode in given.modes.split(",")
        for batch in map(int, given.batch.split(","))
        for sampler in given.sampler.split(",")
    ]
    nothing = {"case": "small", "steps": 100, "batch": 1, "mode": "nothing"}
    return found + [{**nothing, "sampler": sampler} for sampler in SAMPLERS]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--case", default="small,cifar10")
    parser.add_argument("--batch", default="1,8,64")
    parser.add_argument("--sampler", default="ddim,ddpm")
    parser.add_argument(
        "--modes", default="eager,default", help=f"some of {', '.join(MODES)}; compiling takes minutes"
    )
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--append", action="store_true", help="keep the other rows of the output")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "sampling.json")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        child(*json.loads(given.child))
        return
    kept: list[dict[str, Any]] = []
    if given.append and given.output.is_file():
        kept = json.loads(given.output.read_text())["rows"]
    equal: dict[str, float] = {}
    if kept:
        equal |= json.loads(given.output.read_text())["setup"]["equal_to"]
    equal |= {case: check(case, given.steps) for case in given.case.split(",")}
    print("pictures of both differ by at most", equal, flush=True)
    for cell in cells(given):
        rows = measure(cell, given.repeats)
        kept = [row for row in kept if any(row[key] != cell[key] for key in cell)] + rows
        kept.sort(key=place)
        report(given.output, kept, equal)
        print(cell, [round(row["images_per_s"], 3) for row in rows], flush=True)
    print(table(kept))


if __name__ == "__main__":
    main()
