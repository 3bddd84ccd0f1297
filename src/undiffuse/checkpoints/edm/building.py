"""EDM's networks as ours, where they are the same function: DhariwalUNet (its 'adm') is ADM.

Source: training/networks.py of github.com/NVlabs/edm (Karras et al. 2022). The other one, SongUNet (DDPM++ and
NCSN++), scales its residual blocks by sqrt(1/2) and filters where it resamples; no network here does, so it is refused.
The classes' source in the file is not looked at: their names tell what they are, and what can be checked of them is.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic
import torch
from torch import Tensor

from undiffuse.checkpoints.described import WIDEST
from undiffuse.checkpoints.edm.reading import Record, modules, read_snapshot, tensors
from undiffuse.checkpoints.facts import Facts, Given
from undiffuse.checkpoints.found import Found
from undiffuse.checkpoints.native import Count, PriorConfig
from undiffuse.checkpoints.weights import Weights, checked, shown
from undiffuse.config import explain
from undiffuse.networks import ADM
from undiffuse.networks.blocks import GroupNorm, SelfAttention

NETWORK = "edm"  # where Weights.meta holds the record
MAGIC = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19"  # of torch.save's older files, behind the pickle's version
HEAD = 64  # channels a head (channels_per_head)
BLOCK = {
    "norm0": "in_layers.0",
    "conv0": "in_layers.2",
    "affine": "emb_layers.1",
    "norm1": "out_layers.0",
    "conv1": "out_layers.3",
    "skip": "skip_connection",
}
INSTEAD = (
    "run it with EDM's own code, and give it to undiffuse.interop.k_diffusion.denoiser: a prior in Python"
)


class Arguments(pydantic.BaseModel):
    """What a DhariwalUNet was made with, as far as it matters here."""

    img_resolution: Count
    in_channels: Count
    out_channels: Count
    label_dim: Annotated[int, pydantic.Field(ge=0, le=WIDEST)] = 0
    model_channels: Count = 192
    channel_mult: Annotated[tuple[Count, ...], pydantic.Field(min_length=1, max_length=16)] = (1, 2, 3, 4)
    channel_mult_emb: Literal[4] = 4
    num_blocks: Count = 3
    attn_resolutions: tuple[int, ...] = (32, 16, 8)
    dropout: float = 0.10
    label_dropout: float = 0


def is_snapshot(path: Path) -> bool:
    """Whether it is a plain pickle: torch.save's begin with a number of theirs, safetensors' with a length, then {."""
    with path.open("rb") as file:
        head = file.read(14)
    return head[:1] == b"\x80" and head[1:2] <= b"\x05" and head[2:] != MAGIC and head[8:9] != b"{"


def open_snapshot(path: Path) -> Weights:
    """The averaged network of a snapshot, its tensors under EDM's names. ValueError, in one line, if it holds none."""
    net = read_snapshot(path)
    try:
        return Weights(
            path, checked(path, tensors(modules(net))), {NETWORK: net}, ("averaged (EMA) weights: ema",)
        )
    except ValueError as error:
        raise ValueError(f"'{path}': {error}") from None


class EDMFormat:
    """A snapshot of EDM's training, read by `open_snapshot`."""

    def matches(self, weights: Weights) -> bool:
        """Whether it is of `open_snapshot`."""
        return isinstance(weights.meta.get(NETWORK), Record)

    def describe(self, weights: Weights, given: Given) -> Found:
        """ValueError for networks that ours cannot be, with what they are and what else can be done."""
        net, facts = weights.meta[NETWORK], Facts(given, (), weights.path)
        try:
            config = config_of(net)
        except pydantic.ValidationError as error:
            raise ValueError(explain(error, "the network", Arguments)) from None
        facts.show("network", f"DhariwalUNet (ADM) in {net.kind}")
        facts.show("source", "that of the file was not run: taken for github.com/NVlabs/edm's")
        facts.show("prediction", config.prediction)
        facts.show(
            *("sigma_data", config.sigma_data) if config.schedule is None else ("schedule", config.schedule)
        )
        facts.check_all_used()
        config.bounded(len(weights.tensors))
        with torch.device("meta"):
            ours = config.build_network()
        assert isinstance(ours, ADM)
        return Found("snapshot of EDM", config, state_of(net, ours), tuple(facts.lines))


def config_of(net: Record) -> PriorConfig:
    """What prior a snapshot holds. ValueError says what it is instead of one that can be built exactly."""
    model = net.table("_modules").get("model")
    if not isinstance(model, Record):
        raise ValueError(f"a {net.kind} without a network 'model'; expected EDMPrecond or iDDPMPrecond")
    if model.kind != "DhariwalUNet":
        also = " (DDPM++ or NCSN++)" if model.kind == "SongUNet" else ""
        raise ValueError(
            f"a {model.kind}{also} in {net.kind}; of EDM's networks this package can be DhariwalUNet (arch=adm) "
            f"exactly; {INSTEAD}"
        )
    told = Arguments.model_validate(model.arguments)
    size, channels, classes = told.img_resolution, told.in_channels, told.label_dim or None
    held: dict[str, Any] = {
        "num_classes": classes,
        "null_class": classes is not None and told.label_dropout > 0,  # no class: a vector of zeros
    }
    return PriorConfig(
        network={
            "name": "adm",
            "in_channels": channels,
            "out_channels": channels,
            "learned_variance": told.out_channels == 2 * channels,
            "width": told.model_channels,
            "multipliers": list(told.channel_mult),
            "blocks": told.num_blocks,
            "attention": [i for i in range(len(told.channel_mult)) if size >> i in told.attn_resolutions],
            "head_channels": HEAD,
            "new_attention_order": True,
            "scale_shift": True,
            "resblock_updown": True,
            "dropout": told.dropout,
            **held,
        },
        channels=channels,
        size=(size, size),
        **held,
        **_scaling(net),
    )


def state_of(net: Record, ours: ADM) -> dict[str, Tensor]:
    """The tensors of `ours` (it may lie on the meta device), from the snapshot it was described from.

    ValueError if one is missing, left over or of another shape, or if a layer is not what ours is.
    """
    found = _numbered(net.table("_modules")["model"])
    theirs, wanted, state = tensors(found), ours.state_dict(), dict[str, Tensor]()
    names = dict(_names(ours))
    _check_layers(found, names, ours)
    theirs.pop("map_augment.weight", None)  # told of augmentation in training alone
    for name in [name for name in theirs if name.endswith("resample_filter")]:
        _check_filter(name, theirs.pop(name))
    for name, value in theirs.items():
        layer, _, kind = name.rpartition(".")
        key = f"{names.get(layer, '?')}.{kind}"
        if layer == "map_label":
            rows = int(ours.config.null_class)
            value = torch.cat([value.T, value.new_zeros(rows, len(value))])
        elif layer.endswith(".qkv"):  # heads, channels, and q, k, v innermost
            width = len(value) // 3
            value = value.unflatten(0, (-1, min(HEAD, width), 3)).permute(2, 0, 1, *range(3, value.ndim + 2))
            value = value.flatten(0, 2)
        if key not in wanted or value.numel() != wanted[key].numel():
            expected = tuple(wanted[key].shape) if key in wanted else "no such tensor"
            raise ValueError(f"{shown(name)} is {tuple(value.shape)}, expected {expected}")
        state[key] = value.reshape(wanted[key].shape).contiguous()
    if missing := sorted(wanted.keys() - state.keys()):
        raise ValueError(f"nothing for {missing[0]}; take the file from its source again")
    return state


def _scaling(net: Record) -> dict[str, Any]:
    """How the network is a denoiser."""
    if net.kind == "EDMPrecond":
        return {"prediction": "edm", "sigma_data": net.get("sigma_data")}
    if net.kind == "iDDPMPrecond" and (net.get("C_1"), net.get("C_2")) == (0.001, 0.008):
        return {"prediction": "eps", "schedule": "cosine", "timesteps": net.get("M")}
    raise ValueError(
        f"a network in {net.kind}; known here are EDMPrecond, and iDDPMPrecond with C_1 0.001 and C_2 0.008; {INSTEAD}"
    )


def _numbered(model: Record) -> dict[str, Record]:
    """The modules of a network, those of the two halves named by their place, which is the order they are run in."""
    places = {
        f"{half}.{key}": f"{half}.{place}"
        for half in ("enc", "dec")
        if isinstance(part := model.table("_modules").get(half), Record)
        for place, key in enumerate(part.table("_modules"))
    }
    found = dict[str, Record]()
    for name, module in modules(model).items():
        head = ".".join(name.split(".")[:2])
        found[places.get(head, head) + name[len(head) :]] = module
    return found


def _check_layers(found: Mapping[str, Record], names: Mapping[str, str], ours: ADM) -> None:
    """ValueError for a layer that is another function than ours in its place."""
    layers = dict(ours.named_modules())
    for name, module in found.items():
        wanted: dict[str, Any] = {}
        if module.kind == "GroupNorm" and isinstance(norm := layers.get(names.get(name, "")), GroupNorm):
            wanted = {"num_groups": norm.num_groups, "eps": norm.eps}
        elif module.kind == "UNetBlock":
            attention = layers.get(names.get(f"{name}.qkv", "").removesuffix(".qkv"))
            heads = attention.heads if isinstance(attention, SelfAttention) else 0
            wanted = {"skip_scale": 1, "adaptive_scale": True, "num_heads": heads}
        elif module.kind == "PositionalEmbedding":
            wanted = {"num_channels": ours.config.width, "max_positions": 10000, "endpoint": False}
        elif module.kind == "Conv2d":
            wanted = {"fused_resample": False}
        for key, value in wanted.items():
            if (theirs := module.get(key)) != value:
                raise ValueError(
                    f"{shown(name)}: {key} = {str(theirs)[:30]}; this package can have {value}; {INSTEAD}"
                )


def _check_filter(name: str, value: Tensor) -> None:
    """ValueError unless it takes means of 2 x 2, as our halving does; its transpose repeats, as our doubling."""
    if value.shape != (1, 1, 2, 2) or not (value == 0.25).all():
        raise ValueError(f"{shown(name)} is another filter than the mean of 2 x 2; {INSTEAD}")


def _names(net: ADM) -> Iterator[tuple[str, str]]:
    """Theirs -> ours, layer by layer, in the order in which both are run."""
    yield from (("map_layer0", "time_embed.0"), ("map_layer1", "time_embed.2"), ("map_label", "label_emb"))
    yield from (("out_norm", "out.0"), ("out_conv", "out.2"))
    top, blocks = len(net.config.widths) - 1, net.config.blocks
    yield "enc.0", "input_blocks.0.0"
    for number in range(1, len(net.input_blocks)):
        yield from _block(f"enc.{number}", f"input_blocks.{number}.0", f"input_blocks.{number}.1")
    yield from _block("dec.0", "middle_block.0", "middle_block.1")
    yield from _block("dec.1", "middle_block.2", None)
    place = 2
    for number in range((top + 1) * (blocks + 1)):
        stage, level = f"output_blocks.{number}", top - number // (blocks + 1)
        yield from _block(f"dec.{place}", f"{stage}.0", f"{stage}.1")
        place += 1
        if level and number % (blocks + 1) == blocks:
            yield from _block(f"dec.{place}", f"{stage}.{2 if level in net.config.attention else 1}", None)
            place += 1


def _block(theirs: str, ours: str, attention: str | None) -> Iterator[tuple[str, str]]:
    for name, mine in BLOCK.items():
        yield f"{theirs}.{name}", f"{ours}.{mine}"
    if attention is not None:
        for name, mine in (("norm2", "norm"), ("qkv", "qkv"), ("proj", "proj_out")):
            yield f"{theirs}.{name}", f"{attention}.{mine}"
