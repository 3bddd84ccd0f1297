"""Sizes of guided-diffusion's networks, as the shapes of their tensors tell them."""

import re
from collections.abc import Mapping
from typing import Any

from undiffuse.checkpoints.weights import Shapes, shape_of

Stage = dict[int, str]  # what its layers are: block, attention, strided, doubled, stem


def unet_sizes(shapes: Shapes) -> dict[str, Any]:
    """Sizes of `networks.ADMConfig` that the shapes tell. ValueError where they contradict each other."""
    down, up = stages(shapes, "input_blocks"), stages(shapes, "output_blocks")
    ends = [number for number, stage in up.items() if {"block", "doubled"} & {stage.get(1), stage.get(2)}]
    levels = len(ends) + 1
    blocks, left = divmod(len(up), levels)
    if left or blocks < 2 or ends != [(blocks * (level + 1)) - 1 for level in range(levels - 1)]:
        raise ValueError(f"{len(up)} output blocks with enlarging after {ends}: levels of unequal depth")
    firsts = [blocks * level for level in reversed(range(levels))]  # of each level, the finest first
    widths = [_width(shapes, f"output_blocks.{number}.0") for number in firsts]
    labels = shapes.get("label_emb.weight")
    return {
        **_common(shapes, widths, "output_blocks.0.0"),
        "blocks": blocks - 1,
        "attention": tuple(level for level, number in enumerate(firsts) if up[number].get(1) == "attention"),
        "resblock_updown": levels > 1 and not any("strided" in stage.values() for stage in down.values()),
        "num_classes": None if labels is None else labels[0],
    }


def classifier_sizes(shapes: Shapes) -> list[dict[str, Any]]:
    """Sizes of `networks.ClassifierConfig` that the shapes allow: one for each depth of a level that fits them."""
    down = stages(shapes, "input_blocks")
    count = len(down)
    strided = any("strided" in stage.values() for stage in down.values())
    found: list[dict[str, Any]] = []
    for blocks in range(1, count):
        levels, left = divmod(count, blocks + 1)
        if left:
            continue
        firsts = [1 + level * (blocks + 1) for level in range(levels)]
        if not all(
            _is_level(shapes, down, first, blocks, first + blocks < count, strided) for first in firsts
        ):
            continue
        widths = [_width(shapes, f"input_blocks.{first}.0") for first in firsts]
        sizes = {
            **_common(shapes, widths, "input_blocks.1.0"),
            "blocks": blocks,
            "attention": tuple(level for level, first in enumerate(firsts) if 1 in down[first]),
            "resblock_updown": levels > 1 and not strided,
        }
        found.append(sizes | _pool(shapes, levels))
    if not found:
        raise ValueError(f"{count} input blocks that no number of levels explains")
    return found


def stages(shapes: Shapes, half: str) -> dict[int, Stage]:
    """The stages of a half, numbered from 0 without a gap, and what their layers are. ValueError for other names."""
    kinds = {
        "in_layers.0.weight": "block",
        "qkv.weight": "attention",
        "op.weight": "strided",
        "conv.weight": "doubled",
        "weight": "stem",
    }
    found: dict[int, Stage] = {}
    for name in shapes:
        if match := re.fullmatch(half + r"\.(\d{1,4})\.(\d)\.(.+)", name):
            stage = found.setdefault(int(match[1]), {})
            if match[3] in kinds:
                stage[int(match[2])] = kinds[match[3]]
    if sorted(found) != list(range(len(found))):
        raise ValueError(f"{half} with gaps between their numbers")
    return found


def _is_level(
    shapes: Shapes, down: Mapping[int, Stage], first: int, blocks: int, shrinks: bool, strided: bool
) -> bool:
    """Whether stages `first` on are one level: alike, and closed by a stage that halves them if it `shrinks`."""
    members = [down[number] for number in range(first, first + blocks)]
    if any(stage != members[0] or stage.get(0) != "block" for stage in members):
        return False
    widths = {_width(shapes, f"input_blocks.{number}.0") for number in range(first, first + blocks)}
    if len(widths) > 1 or not shrinks:
        return len(widths) == 1
    number = first + blocks
    if strided:
        return down[number] == {0: "strided"}
    return down[number] == {0: "block"} and _width(shapes, f"input_blocks.{number}.0") in widths


def _common(shapes: Shapes, widths: list[int], block: str) -> dict[str, Any]:
    width = shape_of(shapes, "time_embed.0.weight", 2)[1]
    told = shape_of(shapes, f"{block}.emb_layers.1.weight", 2)[0]
    return {
        "in_channels": shape_of(shapes, "input_blocks.0.0.weight", 4)[1],
        "width": width,
        "multipliers": tuple(each / max(1, width) for each in widths),
        "scale_shift": told == 2 * _width(shapes, block),
    }


def _pool(shapes: Shapes, levels: int) -> dict[str, Any]:
    if "out.2.positional_embedding" in shapes:
        tokens = shape_of(shapes, "out.2.positional_embedding", 2)[1]
        side = round(max(0, tokens - 1) ** 0.5)
        classes = shape_of(shapes, "out.2.c_proj.weight", 3)[0]
        return {"pool": "attention", "num_classes": classes, "size": side * 2 ** (levels - 1)}
    if "out.3.weight" in shapes:
        return {"pool": "adaptive", "num_classes": shape_of(shapes, "out.3.weight", 4)[0]}
    return {"pool": "spatial", "num_classes": shape_of(shapes, "out.2.weight", 2)[0]}


def _width(shapes: Shapes, block: str) -> int:
    return shape_of(shapes, f"{block}.out_layers.3.weight", 4)[0]


def summary(sizes: Mapping[str, Any]) -> str:
    """A network in a line."""
    levels = " ".join(f"{multiplier:g}" for multiplier in sizes["multipliers"])
    at = " ".join(str(level) for level in sizes["attention"]) or "none"
    return (
        f"{sizes['name']}, width {sizes['width']} times {levels}, {sizes['blocks']} blocks a level, attention at "
        f"levels {at} of 0 to {len(sizes['multipliers']) - 1}, {sizes['in_channels']} channels in, "
        f"{'scale and shift' if sizes['scale_shift'] else 'added'} embedding, "
        f"{'residual' if sizes['resblock_updown'] else 'convolutional'} changes of resolution"
    )
