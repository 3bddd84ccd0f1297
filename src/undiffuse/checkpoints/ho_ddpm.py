"""Files of DDPM's U-Net as DDIM, DDRM and pytorch_diffusion keep them: CelebA-HQ, LSUN, CIFAR-10.

The state dict of `Model` of github.com/ermongroup/ddim; a `logvar` of its bayesian variant is left out, for it is no
part of the estimate of x0.
"""

import re
from typing import Any

from undiffuse.checkpoints.facts import Facts, Given
from undiffuse.checkpoints.found import Found, alike, of_known, square, timesteps, written
from undiffuse.checkpoints.native import PriorConfig
from undiffuse.checkpoints.weights import Shapes, Weights, shape_of

FORM = "DDPM (Ho et al. 2020; DDIM, DDRM, pytorch_diffusion)"


class HoFormat:
    """The state dict of DDPM's `Model`."""

    def matches(self, weights: Weights) -> bool:
        return {"temb.dense.0.weight", "conv_in.weight", "mid.block_1.conv1.weight"} <= {*weights.tensors}

    def describe(self, weights: Weights, given: Given) -> Found:
        tensors = {name: value for name, value in weights.tensors.items() if name != "logvar"}
        sizes = {"name": "ddpm", **ddpm_sizes(weights.shapes)}
        channels = sizes["in_channels"]
        files = alike("ho_ddpm", sizes, weights.path)
        facts = Facts(given, files, weights.path)
        facts.show("network", _summary(sizes))
        facts.show("channels", channels)
        facts.show("answers with", "noise and its variance" if sizes["learned_variance"] else "noise alone")
        if len(tensors) < len(weights.tensors):
            facts.show("logvar", "left out: no part of the estimate")
        network = {**sizes, "groups": facts.take("groups", lambda _: 32, 32)}
        told, size = timesteps(facts), square(facts)
        facts.check_all_used()
        config = None
        if not facts.missing:
            config = PriorConfig(network=written(network), channels=channels, size=size, **told)
        return Found(
            FORM, config, tensors, tuple(facts.lines), tuple(facts.missing), of_known(files, weights.path)
        )


def ddpm_sizes(shapes: Shapes) -> dict[str, Any]:
    """Sizes of `networks.DDPMConfig`: the shapes tell them all but the groups of the normalisation."""
    blocks = {(int(m[1]), int(m[2])) for name in shapes if (m := _BLOCK.fullmatch(name))}
    levels = max((level for level, _ in blocks), default=-1) + 1
    depth = max((block for _, block in blocks), default=-1) + 1
    if not levels or len(blocks) != levels * depth:
        raise ValueError(
            f"{len(blocks)} blocks of the contracting half on {levels} levels; expected as many on each"
        )
    width = shape_of(shapes, "temb.dense.0.weight", 2)[1]
    widths = [shape_of(shapes, f"down.{level}.block.0.conv1.weight", 4)[0] for level in range(levels)]
    seen, answers = shape_of(shapes, "conv_in.weight", 4)[1], shape_of(shapes, "conv_out.weight", 4)[0]
    if answers not in (seen, 2 * seen):
        raise ValueError(f"{seen} channels in and {answers} out; expected as many, or twice as many, out")
    return {
        "in_channels": seen,
        "out_channels": seen,
        "learned_variance": answers == 2 * seen,
        "width": width,
        "multipliers": tuple(each / max(1, width) for each in widths),
        "blocks": depth,
        "attention": tuple(level for level in range(levels) if f"down.{level}.attn.0.q.weight" in shapes),
    }


_BLOCK = re.compile(r"down\.(\d{1,3})\.block\.(\d{1,3})\.conv1\.weight")


def _summary(sizes: dict[str, Any]) -> str:
    levels = " ".join(f"{multiplier:g}" for multiplier in sizes["multipliers"])
    at = " ".join(str(level) for level in sizes["attention"]) or "none"
    return (
        f"ddpm, width {sizes['width']} times {levels}, {sizes['blocks']} blocks a level, attention at levels {at} "
        f"of 0 to {len(sizes['multipliers']) - 1}"
    )
