"""A train step against diffusers' UNet2DModel: images/s and peak memory of the same loop around either network.

    python benchmarks/training.py [--case small,cifar10] [--modes fp32,bf16+channels_last] [--compile] [--steps 5]
        [--device cpu]

Both networks have the same widths, blocks, attention, heads and groups; the step (noise, forward, loss of the noise,
backward, clipping, AdamW, average of weights) is written once. Every network has a process of its own; they take
their steps in turns, one at a time, so that a ratio is the median over pairs of neighbouring steps. On the CPU a step
is measured in CPU seconds of OMP_NUM_THREADS threads (default 1), and memory is how far the peak of another process,
which gives back what it frees, rises above where it stood before the network was built. On CUDA events and the
allocator's peak tell, and the share of the peak is the counted FLOP/s over those of a large matrix product of the
same type; on a CPU convolutions outrun the matrix products of MKL. Writes benchmarks/results/training.json, and
beside it the table that it prints (.md).
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from torch import Tensor, nn

LIBRARIES = ("ours", "diffusers")
PARTS = ("fp32", "bf16", "channels_last", "compiled")
ONE_COMPILER = {"TORCHINDUCTOR_COMPILE_THREADS": "1"}  # workers would hold the pipe open after their parent
KEEP_LESS = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}  # of the C library


@dataclass(frozen=True, kw_only=True)
class Case:
    """Sizes of a network and of what it trains on."""

    size: int
    width: int
    multipliers: tuple[int, ...]
    attention: tuple[int, ...]  # levels, 0 the finest
    blocks: int = 2
    adm: bool = False  # ADM, with heads of 64 channels, instead of DDPM, with one head
    batch: dict[str, int]


CASES = {
    "small": Case(
        size=32, width=64, multipliers=(1, 2, 2, 2), attention=(1,), batch={"cpu": 16, "cuda": 256}
    ),
    "cifar10": Case(
        size=32, width=128, multipliers=(1, 2, 2, 2), attention=(1,), batch={"cpu": 8, "cuda": 256}
    ),
    "adm64_small": Case(
        size=64,
        width=64,
        multipliers=(1, 2, 3, 4),
        attention=(2, 3),
        blocks=1,
        adm=True,
        batch={"cpu": 4, "cuda": 128},
    ),
    "adm64": Case(
        size=64,
        width=192,
        multipliers=(1, 2, 3, 4),
        attention=(1, 2, 3),
        blocks=3,
        adm=True,
        batch={"cpu": 1, "cuda": 64},
    ),
}
DEFAULT_CASES = {"cpu": "small,cifar10,adm64_small", "cuda": "cifar10,adm64"}
DEFAULT_MODES = {"cpu": "fp32,fp32+channels_last,bf16+channels_last", "cuda": "bf16+channels_last"}


def ours(case: Case) -> nn.Module:
    from undiffuse.networks import ADMConfig, DDPMConfig

    sizes: dict[str, Any] = {
        "width": case.width,
        "multipliers": case.multipliers,
        "attention": case.attention,
        "blocks": case.blocks,
        "dropout": 0.0,
    }
    if case.adm:
        return ADMConfig(**sizes, head_channels=64, resblock_updown=True, new_attention_order=True).build()
    return DDPMConfig(**sizes).build()


def diffusers(case: Case) -> nn.Module:
    # A CUDA torchvision does not import beside a CPU torch without its operators.
    if torch.version.cuda is None and "_torchvision" not in globals():
        library = torch.library.Library("torchvision", "FRAGMENT")
        for op in ("nms", "qnms"):
            library.define(f"{op}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        globals()["_torchvision"] = library  # it lives as long as this object
    from diffusers.models.unets.unet_2d import UNet2DModel

    plain = ("ResnetDownsampleBlock2D", "ResnetUpsampleBlock2D") if case.adm else ("DownBlock2D", "UpBlock2D")
    levels = range(len(case.multipliers))
    down = ["AttnDownBlock2D" if level in case.attention else plain[0] for level in levels]
    up = ["AttnUpBlock2D" if level in case.attention else plain[1] for level in reversed(levels)]
    special: dict[str, Any] = (
        {
            "attention_head_dim": 64,
            "downsample_type": "resnet",
            "upsample_type": "resnet",
            "resnet_time_scale_shift": "scale_shift",
            "norm_eps": 1e-5,
            "attn_norm_num_groups": 32,  # else the middle attention has no normalisation
        }
        if case.adm
        else {
            "attention_head_dim": None,
            "downsample_padding": 0,
            "norm_eps": 1e-6,
            "flip_sin_to_cos": False,
            "freq_shift": 1,
        }
    )
    return UNet2DModel(
        sample_size=case.size,
        in_channels=3,
        out_channels=3,
        layers_per_block=case.blocks,
        block_out_channels=tuple(case.width * multiplier for multiplier in case.multipliers),
        down_block_types=tuple(down),
        up_block_types=tuple(up),
        norm_num_groups=32,
        dropout=0.0,
        **special,
    )


def train_step(net: nn.Module, case: Case, mode: str, device: str) -> Callable[[], None]:
    """One step of training, the same for either network; modes are parts of PARTS joined by +."""
    from undiffuse.training.ema import EMA

    parts = mode.split("+")
    layout = torch.channels_last if "channels_last" in parts else torch.contiguous_format
    net.to(device=device, memory_format=layout).train()  # type: ignore[call-overload]
    average = EMA(net, halflife_images=500_000)
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-4, fused=device == "cuda")
    batch, seen = case.batch[device], 0
    clean = (torch.rand(batch, 3, case.size, case.size, device=device) * 2 - 1).to(memory_format=layout)
    called = torch.compile(net) if "compiled" in parts else net

    def step() -> None:
        nonlocal seen
        t = torch.randint(1000, (batch,), device=device)
        signal = (0.5 + 0.5 * torch.cos(torch.pi * t / 1000)).reshape(-1, 1, 1, 1)  # abar
        noise = torch.randn_like(clean)
        x = signal.sqrt() * clean + (1 - signal).sqrt() * noise
        with torch.autocast(device, torch.bfloat16, enabled="bf16" in parts):
            answer = called(x, t)
            guess: Tensor = answer if isinstance(answer, Tensor) else answer.sample
            loss = (guess.float() - noise).square().mean()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        seen += batch
        average.update(net, images_seen=seen, batch=batch)

    return step


def timed(work: Callable[[], object], device: str) -> float:
    """On the CPU the seconds that one thread computes, or that pass with several; on CUDA those that pass there."""
    if device == "cpu":
        clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
        begin = clock()
        work()
        return clock() - begin
    begun, ended = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    begun.record()
    work()
    ended.record()
    torch.cuda.synchronize()
    return begun.elapsed_time(ended) / 1e3


def flops(step: Callable[[], None]) -> int:
    """Of convolutions, products of matrices and attention, forward and, if the step has one, backward."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        step()
    return counter.get_total_flops()


def peak_flops(mode: str) -> float:
    """FLOP/s of CUDA in a large product of matrices of the type that the mode computes in, at best."""
    n = 8192
    a = torch.randn(n, n, device="cuda", dtype=torch.bfloat16 if "bf16" in mode else torch.float32)
    timed(lambda: a @ a, "cuda")
    return 2 * n**3 / min(timed(lambda: a @ a, "cuda") for _ in range(10))


def memory(device: str) -> float:
    """The peak so far, in MiB."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # KiB on Linux


def child(library: str, name: str, mode: str, device: str, task: str) -> None:
    """Build one network, then answer each line of the input with a line: a process of its own."""
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    torch.manual_seed(0)
    case, make = CASES[name], {"ours": ours, "diffusers": diffusers}[library]
    small = Case(
        size=32, width=32, multipliers=(1, 1), attention=(1,), adm=case.adm, batch={"cpu": 1, "cuda": 1}
    )
    if not case.adm:  # imports, and the first use of the kernels; heads have 64 channels in ADM
        train_step(make(small), small, mode.replace("+compiled", ""), device)()
    else:
        make(CASES["small"])
    before = memory(device) if device == "cpu" else 0.0
    net = make(case)
    found: dict[str, Any] = {"parameters": sum(p.numel() for p in net.parameters())}
    step = train_step(net, case, mode, device)
    if task == "flops":
        print(json.dumps({**found, "flop": flops(step)}), flush=True)
        return
    step()
    step()
    if device == "cuda":
        torch.cuda.synchronize()
    print(json.dumps({**found, "peak_mib": memory(device) - before}), flush=True)
    if task == "memory":
        return
    for _ in sys.stdin:
        print(timed(step, device), flush=True)


def start(library: str, name: str, mode: str, device: str, task: str) -> "subprocess.Popen[str]":
    command = [sys.executable, __file__, "--child", json.dumps([library, name, mode, device, task])]
    env = {**os.environ, **ONE_COMPILER, **(KEEP_LESS if task == "memory" else {})}
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env)


def line(process: "subprocess.Popen[str]") -> Any:
    assert process.stdout is not None
    text = process.stdout.readline()
    if not text:
        raise RuntimeError("a measuring process died; its error is above")
    return json.loads(text)


def once(library: str, name: str, mode: str, device: str, task: str) -> dict[str, Any]:
    process = start(library, name, mode, device, task)
    found = line(process)
    process.communicate()
    return found


def measure(name: str, modes: list[str], device: str, steps: int) -> list[dict[str, Any]]:
    """All modes of both libraries, their steps in turns."""
    rows: list[dict[str, Any]] = []
    flop = {
        library: once(library, name, "fp32", device, "flops")["flop"] for library in LIBRARIES
    }  # a compiled network or another type does the same
    running: list[subprocess.Popen[str]] = []
    try:
        for mode in modes:
            for library in LIBRARIES:
                process = start(library, name, mode, device, "steps")
                running.append(process)
                found = line(process)
                if device == "cpu":
                    found["peak_mib"] = once(library, name, mode, device, "memory")["peak_mib"]
                rows.append({"case": name, "mode": mode, "library": library, **found, "seconds": []})
                print(".", end="", file=sys.stderr, flush=True)
        for _ in range(steps):
            for row, process in zip(rows, running, strict=True):
                assert process.stdin is not None
                process.stdin.write("\n")
                process.stdin.flush()
                row["seconds"].append(line(process))
    finally:
        for process in running:
            process.communicate()
    for row in rows:
        seconds = median(row["seconds"])
        row["images_per_s"] = CASES[name].batch[device] / seconds
        row["gflop"] = flop[row["library"]] / 1e9
        row["gflop_per_s"] = row["gflop"] / seconds
        if device == "cuda":
            row["share_of_peak"] = 1e9 * row["gflop_per_s"] / peak_flops(row["mode"])
    return rows


def ratio(rows: list[dict[str, Any]], case: str, mode: str, other: str) -> tuple[float, float] | None:
    """(their seconds over ours, our memory over theirs), ours in `mode` and theirs in `other`."""
    found = {(row["library"], row["mode"]): row for row in rows if row["case"] == case}
    mine, theirs = found.get(("ours", mode)), found.get(("diffusers", other))
    if mine is None or theirs is None:
        return None
    pairs = zip(theirs["seconds"], mine["seconds"], strict=True)
    return median(a / b for a, b in pairs), mine["peak_mib"] / theirs["peak_mib"]


def table(rows: list[dict[str, Any]], device: str) -> str:
    text = [
        "| case | mode | library | parameters | GFLOP a step | GFLOP/s | images/s | peak MiB |",
        "|---" * 8 + "|",
    ]
    for row in rows:
        case = CASES[row["case"]]
        share = f" ({row['share_of_peak']:.0%} of peak)" if "share_of_peak" in row else ""
        text.append(
            f"| {row['case']}, {case.batch[device]} x {case.size}^2 | {row['mode']} | {row['library']} "
            f"| {row['parameters']:,} | {row['gflop']:.1f} | {row['gflop_per_s']:.0f}{share} "
            f"| {row['images_per_s']:.3g} | {row['peak_mib']:.0f} |"
        )
    text += [
        "",
        "| case | ours | diffusers | images/s, ours / theirs | memory, ours / theirs |",
        "|---" * 5 + "|",
    ]
    for case in dict.fromkeys(row["case"] for row in rows):
        modes = list(dict.fromkeys(row["mode"] for row in rows if row["case"] == case))
        pairs = [(mode, mode) for mode in modes]
        pairs += [(mode.removesuffix("+compiled"), mode) for mode in modes if mode.endswith("+compiled")]
        for mode, other in dict.fromkeys(pairs):
            found = ratio(rows, case, mode, other)
            if found is not None:
                text.append(f"| {case} | {mode} | {other} | {found[0]:.2f} | {found[1]:.2f} |")
    return "\n".join(text)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--case", help=f"some of {', '.join(CASES)}, separated by commas")
    parser.add_argument("--modes", help=f"parts of {', '.join(PARTS)}, joined by +, separated by commas")
    parser.add_argument("--compile", action="store_true", help="each mode compiled as well")
    parser.add_argument("--steps", type=int, default=7, help="of each network, after two to warm up")
    parser.add_argument("--append", action="store_true", help="keep the other rows of the output")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "training.json")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        child(*json.loads(given.child))
        return
    modes = (given.modes or DEFAULT_MODES[given.device]).split(",")
    modes += [f"{mode}+compiled" for mode in modes] if given.compile else []
    cases = (given.case or DEFAULT_CASES[given.device]).split(",")
    for wrong in {part for mode in modes for part in mode.split("+")} - set(PARTS):
        parser.error(f"no mode '{wrong}'; choose from {', '.join(PARTS)}")
    for wrong in set(cases) - set(CASES):
        parser.error(f"no case '{wrong}'; choose from {', '.join(CASES)}")
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    setup: dict[str, Any] = {
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name() if given.device == "cuda" else "cpu",
        "threads": int(os.environ["OMP_NUM_THREADS"]),
    }
    rows: list[dict[str, Any]] = []
    if given.append and given.output.is_file():
        kept = json.loads(given.output.read_text())
        if kept["setup"] != setup:
            parser.error(f"'{given.output}' was measured with another setup: {kept['setup']}")
        rows = [row for row in kept["rows"] if row["case"] not in cases]
    for name in cases:
        rows += measure(name, modes, given.device, given.steps)
        report = (
            f"torch {setup['torch']}, {setup['device']}, {setup['threads']} thread(s); medians; a ratio of images/s "
            f"above 1 and one of memory below 1 are in our favour\n\n{table(rows, given.device)}\n"
        )
        given.output.parent.mkdir(parents=True, exist_ok=True)
        given.output.write_text(json.dumps({"setup": setup, "rows": rows}, indent=1) + "\n")
        given.output.with_suffix(".md").write_text(f"# Training: `benchmarks/training.py`\n\n{report}")
    print(f"\n{report}")


if __name__ == "__main__":
    main()
