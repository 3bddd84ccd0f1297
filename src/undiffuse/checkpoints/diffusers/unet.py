"""diffusers' config.json of a UNet2DModel and the sizes of our networks, each from the other.

What our networks cannot be exactly is refused by the name of the setting. The two kinds differ in the embedding of the
timestep: sines first (flip_sin_to_cos false, freq_shift 1) is Ho's network, cosines first (true, 0) is ADM.
"""

import json
import math
from collections.abc import Mapping
from typing import Any

from undiffuse.networks import ADM, DDPM
from undiffuse.networks.blocks import SelfAttention

# What UNet2DModel takes for a setting that config.json leaves out.
DEFAULTS: dict[str, Any] = {
    "sample_size": None,
    "in_channels": 3,
    "out_channels": 3,
    "center_input_sample": False,
    "time_embedding_type": "positional",
    "time_embedding_dim": None,
    "freq_shift": 0,
    "flip_sin_to_cos": True,
    "down_block_types": ["DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"],
    "mid_block_type": "UNetMidBlock2D",
    "up_block_types": ["AttnUpBlock2D", "AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"],
    "block_out_channels": [224, 448, 672, 896],
    "layers_per_block": 2,
    "mid_block_scale_factor": 1,
    "downsample_padding": 1,
    "downsample_type": "conv",
    "upsample_type": "conv",
    "dropout": 0.0,
    "act_fn": "silu",
    "attention_head_dim": 8,
    "norm_num_groups": 32,
    "attn_norm_num_groups": None,
    "norm_eps": 1e-5,
    "resnet_time_scale_shift": "default",
    "add_attention": True,
    "class_embed_type": None,
    "num_class_embeds": None,
    "num_train_timesteps": None,
}
AVERAGE = {  # what diffusers' EMAModel leaves in the file
    "decay",
    "inv_gamma",
    "min_decay",
    "optimization_step",
    "power",
    "update_after_step",
    "use_ema_warmup",
}
COMMON: dict[str, tuple[Any, ...]] = {  # what our networks are, whatever the kind
    "center_input_sample": (False, None),
    "time_embedding_type": ("positional",),
    "mid_block_type": ("UNetMidBlock2D",),
    "mid_block_scale_factor": (1,),
    "act_fn": ("silu", "swish"),
    "add_attention": (True,),
    "class_embed_type": (None,),
}
HO: dict[str, tuple[Any, ...]] = {
    "norm_eps": (1e-6,),
    "resnet_time_scale_shift": ("default",),
    "attention_head_dim": (None,),
}
GUIDED: dict[str, tuple[Any, ...]] = {
    "norm_eps": (1e-5,),
    "resnet_time_scale_shift": ("default", "scale_shift"),
}
BLOCKS = {  # what a level is made of: does it attend, and how does it change the resolution (None: as the type says)
    "down": {
        "DownBlock2D": (False, "conv"),
        "ResnetDownsampleBlock2D": (False, "resnet"),
        "AttnDownBlock2D": (True, None),
    },
    "up": {
        "UpBlock2D": (False, "conv"),
        "ResnetUpsampleBlock2D": (False, "resnet"),
        "AttnUpBlock2D": (True, None),
    },
}


def network_of(given: Mapping[str, Any]) -> dict[str, Any]:
    """The sizes of our network, `name` included, from a config.json. ValueError names what cannot be had."""
    unknown = [k for k in given if k not in DEFAULTS and not k.startswith("_") and k not in AVERAGE]
    if unknown := [k for k in unknown if given[k] is not None]:
        raise ValueError(f"config.json sets {unknown[0][:60]}, which no UNet2DModel known here has")
    told = {**DEFAULTS, **{key: value for key, value in given.items() if key in DEFAULTS}}
    kinds = {(False, 1): "ddpm", (True, 0): "adm"}
    embedding = bool(told["flip_sin_to_cos"]), told["freq_shift"]
    kind = next((kind for key, kind in kinds.items() if key == embedding), None)
    if kind is None:
        raise _refused(told, "flip_sin_to_cos", "false with freq_shift 1, or true with freq_shift 0")
    for name, choices in {**COMMON, **(HO if kind == "ddpm" else GUIDED)}.items():
        if told[name] not in choices:
            raise _refused(told, name, " or ".join(_json(choice) for choice in choices))
    classes = told["num_class_embeds"]
    widths = [_count(width, "block_out_channels") for width in _list(told, "block_out_channels")]
    if told["time_embedding_dim"] not in (None, 4 * widths[0]):
        raise _refused(told, "time_embedding_dim", f"{4 * widths[0]}, four times the first width")
    levels = {half: _levels(told, half, len(widths)) for half in ("down", "up")}
    sizes = {
        "name": kind,
        "width": widths[0],
        "multipliers": [_multiplier(width, widths[0]) for width in widths],
        "blocks": _count(told["layers_per_block"], "layers_per_block"),
        "attention": _attention(told, levels),
        "dropout": told["dropout"],
        "groups": _count(told["norm_num_groups"], "norm_num_groups"),
        "num_classes": None if classes is None else _count(classes, "num_class_embeds"),
        **_channels(told),
    }
    return sizes | (_ho if kind == "ddpm" else _guided)(told, _resampling(told, levels))


def unet_of(net: DDPM | ADM, size: tuple[int, int] | None) -> dict[str, Any]:
    """The config.json of a network. ValueError for one that UNet2DModel cannot be."""
    config = net.config
    if config.widths[0] != config.width:
        raise ValueError(
            f"the first level has {config.widths[0]} channels and the embedding of the noise is made for "
            f"{config.width}; a UNet2DModel has one number for both"
        )
    levels = range(len(config.widths))
    guided = isinstance(net, ADM)
    resampling = guided and net.config.resblock_updown
    down, up = (list(BLOCKS[half])[int(resampling)] for half in ("down", "up"))
    classes = config.num_classes
    shift = guided and net.config.scale_shift
    return {
        "_class_name": "UNet2DModel",
        **DEFAULTS,
        "sample_size": None if size is None else size[0] if size[0] == size[1] else list(size),
        "in_channels": config.in_channels,
        "out_channels": config.out_channels * (2 if config.learned_variance else 1),
        "freq_shift": 0 if guided else 1,
        "flip_sin_to_cos": guided,
        "down_block_types": ["AttnDownBlock2D" if i in config.attention else down for i in levels],
        "up_block_types": ["AttnUpBlock2D" if i in config.attention else up for i in reversed(levels)],
        "block_out_channels": list(config.widths),
        "layers_per_block": config.blocks,
        "downsample_padding": 1 if guided else 0,
        "downsample_type": "resnet" if resampling else "conv",
        "upsample_type": "resnet" if resampling else "conv",
        "dropout": config.dropout,
        "attention_head_dim": _head_dim(net) if guided else None,
        "norm_num_groups": config.groups,
        "attn_norm_num_groups": config.groups if shift else None,
        "norm_eps": 1e-5 if guided else 1e-6,
        "resnet_time_scale_shift": "scale_shift" if shift else "default",
        "num_class_embeds": None if classes is None else classes + config.null_class,
    }


def _channels(told: Mapping[str, Any]) -> dict[str, Any]:
    """In, out, and whether a variance was learned: told by twice as many channels out."""
    inside, out = (_count(told[name], name) for name in ("in_channels", "out_channels"))
    if out not in (inside, 2 * inside):
        raise _refused(told, "out_channels", f"{inside}, or {2 * inside} with a learned variance")
    return {"in_channels": inside, "out_channels": inside, "learned_variance": out == 2 * inside}


Levels = list[tuple[bool, str | None]]  # (attends, how it is left for the next; None: not), the finest first


def _levels(told: Mapping[str, Any], half: str, count: int) -> Levels:
    """What the levels of a half are made of."""
    name, known = f"{half}_block_types", BLOCKS[half]
    names = [str(block).removeprefix("UNetRes") for block in _list(told, name)]
    if len(names) != count:
        raise _refused(told, name, f"{count} of them, as block_out_channels has")
    if strange := [block for block in names if block not in known]:
        raise ValueError(
            f"config.json: {name} has {strange[0][:60]}; this package can have {', '.join(known)}"
        )
    made = [known[block] for block in (names if half == "down" else reversed(names))]
    kinds: list[str | None] = [kind or str(told[f"{half}sample_type"]) for _, kind in made]
    kinds[-1 if half == "down" else 0] = None
    return [(attends, kind) for (attends, _), kind in zip(made, kinds, strict=True)]


def _attention(told: Mapping[str, Any], levels: Mapping[str, Levels]) -> list[int]:
    """Levels that attend: the same in both halves, as ours do."""
    down, up = ([i for i, (attends, _) in enumerate(levels[half]) if attends] for half in ("down", "up"))
    if down != up:
        raise _refused(told, "up_block_types", "attention at the levels where down_block_types has it")
    return down


def _resampling(told: Mapping[str, Any], levels: Mapping[str, Levels]) -> str:
    """How all levels change the resolution."""
    kinds = {kind for half in levels.values() for _, kind in half if kind is not None}
    if not kinds <= {"conv", "resnet"} or len(kinds) > 1:
        raise ValueError(
            f"config.json: down_block_types, downsample_type, up_block_types and upsample_type change the resolution "
            f"by {' and '.join(sorted(kinds))[:80]}; this package can have conv or resnet, one for all"
        )
    return kinds.pop() if kinds else "conv"


def _ho(told: Mapping[str, Any], resampling: str) -> dict[str, Any]:
    """Ho's network has nothing more to choose."""
    if resampling != "conv":
        raise _refused(told, "downsample_type", "conv beside flip_sin_to_cos false")
    if told["downsample_padding"] != 0:
        raise _refused(told, "downsample_padding", "0 beside flip_sin_to_cos false")
    if told["attn_norm_num_groups"] not in (None, told["norm_num_groups"]):
        raise _refused(told, "attn_norm_num_groups", "null")
    return {}


def _guided(told: Mapping[str, Any], resampling: str) -> dict[str, Any]:
    """What ADM alone has."""
    if resampling == "conv" and told["downsample_padding"] != 1:
        raise _refused(told, "downsample_padding", "1 beside flip_sin_to_cos true")
    shift = told["resnet_time_scale_shift"] == "scale_shift"
    groups, middle = told["norm_num_groups"], told["attn_norm_num_groups"]
    if middle != groups and (shift or middle is not None):  # null there: no normalisation at all
        raise _refused(told, "attn_norm_num_groups", f"{groups}, as norm_num_groups")
    head = told["attention_head_dim"]
    return {
        "scale_shift": shift,
        "resblock_updown": resampling == "resnet",
        "heads": 1,
        "head_channels": None if head is None else _count(head, "attention_head_dim"),
        "new_attention_order": True,  # theirs are three matrices; joined in the simpler order
    }


def _head_dim(net: ADM) -> int | None:
    """Channels a head; None for one head everywhere. ValueError if that depends on the level."""
    found = [
        (layer.qkv.in_channels, layer.heads) for layer in net.modules() if isinstance(layer, SelfAttention)
    ]
    if all(heads == 1 for _, heads in found):
        return None
    if len(sizes := {width // heads for width, heads in found}) > 1:
        raise ValueError(
            f"heads of {', '.join(str(size) for size in sorted(sizes))} channels, by the level; a UNet2DModel has "
            "one attention_head_dim"
        )
    return sizes.pop()


def _multiplier(width: int, first: int) -> float:
    """m with int(m * first) == width, in spite of rounding."""
    m = width / first
    return m if int(m * first) == width else math.nextafter(m, math.inf)


def _list(told: Mapping[str, Any], name: str) -> list[Any]:
    if not isinstance(told[name], list | tuple) or not 1 <= len(told[name]) <= 32:
        raise _refused(told, name, "a list of 1 to 32")
    return list(told[name])


def _count(value: Any, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 100_000:
        raise ValueError(f"config.json: {name} = {_json(value)}; expected whole numbers of at least 1")
    return value


def _refused(told: Mapping[str, Any], name: str, expected: str) -> ValueError:
    return ValueError(f"config.json: {name} = {_json(told[name])}; this package can have {expected}")


def _json(value: Any) -> str:
    return json.dumps(value)[:80]
