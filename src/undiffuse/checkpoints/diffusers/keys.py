"""Which tensor of ours is which of diffusers' UNet2DModel.

The layers are the same; names, the shape of 1 x 1 layers, and the packing of q, k and v differ.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from undiffuse.checkpoints.weights import shown
from undiffuse.networks import ADM, DDPM
from undiffuse.networks.blocks import SelfAttention

RESIDUAL = {
    "ddpm": {
        "norm1": "norm1",
        "conv1": "conv1",
        "temb_proj": "time_emb_proj",
        "norm2": "norm2",
        "conv2": "conv2",
        "nin_shortcut": "conv_shortcut",
    },
    "adm": {
        "in_layers.0": "norm1",
        "in_layers.2": "conv1",
        "emb_layers.1": "time_emb_proj",
        "out_layers.0": "norm2",
        "out_layers.3": "conv2",
        "skip_connection": "conv_shortcut",
    },
}
QKV = ("to_q", "to_k", "to_v")
OLD = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}  # until diffusers 0.15


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer of ours and theirs: one, or three whose rows stand below each other in ours."""

    ours: str
    theirs: tuple[str, ...]
    matrix: bool = False  # theirs is nn.Linear where ours is a 1 x 1 convolution
    heads: int | None = None  # ours has q, k, v within each of so many heads (ADM's legacy order)

    def to_ours(self, tensors: list[Tensor], shape: torch.Size) -> Tensor:
        """Their tensors, one a layer, as ours of this shape."""
        joined = tensors[0] if len(tensors) == 1 else torch.cat(tensors)
        if self.heads is not None:
            joined = joined.unflatten(0, (3, self.heads, -1)).transpose(0, 1).flatten(0, 2)
        return joined.reshape(shape)

    def to_theirs(self, tensor: Tensor) -> list[Tensor]:
        """Our tensor as theirs, one a layer."""
        if self.matrix and tensor.ndim > 1:
            tensor = tensor.flatten(1)
        if self.heads is not None:
            tensor = tensor.unflatten(0, (self.heads, 3, -1)).transpose(0, 1).flatten(0, 2)
        return list(tensor.chunk(len(self.theirs)))


def to_theirs(net: DDPM | ADM) -> dict[str, Tensor]:
    """The tensors of UNet2DModel that make it the same function."""
    state, found = net.state_dict(), dict[str, Tensor]()
    for layer in _layers(net):
        for kind in ("weight", "bias"):
            if (tensor := state.pop(f"{layer.ours}.{kind}", None)) is not None:
                names = [f"{name}.{kind}" for name in layer.theirs]
                found.update(zip(names, layer.to_theirs(tensor), strict=True))
    assert not state, f"not mapped: {', '.join(state)}"
    return found


def to_ours(net: DDPM | ADM, theirs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of `net` (it may lie on the meta device) from those of UNet2DModel.

    Nothing may be missing or left over. ValueError names the first such tensor, with its shape.
    """
    left, state, found = {**theirs}, net.state_dict(), dict[str, Tensor]()
    for layer in _layers(net):
        for kind in ("weight", "bias"):
            if (wanted := state.get(f"{layer.ours}.{kind}")) is None:
                continue
            tensors = [_taken(left, f"{name}.{kind}") for name in layer.theirs]
            for name, tensor, like in zip(layer.theirs, tensors, layer.to_theirs(wanted), strict=True):
                _same(f"{name}.{kind}", tuple(tensor.shape), tuple(like.shape))
            found[f"{layer.ours}.{kind}"] = layer.to_ours(tensors, wanted.shape)
    if left:
        name = min(left)
        raise ValueError(
            f"{shown(name)} {tuple(left[name].shape)} has no place in the network of config.json "
            f"({len(left)} such tensors); take both files from one folder"
        )
    return found


def _same(name: str, found: tuple[int, ...], wanted: tuple[int, ...]) -> None:
    """ValueError unless the shapes agree; ones at the end do not count (layers that were convolutions once)."""
    if found[: len(wanted)] != wanted or any(n != 1 for n in found[len(wanted) :]):
        raise ValueError(
            f"{name} is {found}, but config.json makes it {wanted}; take both files from one folder"
        )


def _taken(left: dict[str, Tensor], name: str) -> Tensor:
    """The tensor of this name, or of the one that it had in older versions."""
    layer, _, kind = name.rpartition(".")
    for new, old in OLD.items():
        if layer.endswith(f".{new}") and name not in left:
            name = f"{layer.removesuffix(new)}{old}.{kind}"
    if name not in left:
        raise ValueError(f"{name} is missing among the tensors; take the file from its source again")
    return left.pop(name)


def _layers(net: DDPM | ADM) -> Iterator[Layer]:
    """Every layer that has tensors, and pairs of some that have none (a shortcut that is the identity)."""
    if net.label_emb is not None:
        yield Layer("label_emb", ("class_embedding",))
    yield from _ddpm(net) if isinstance(net, DDPM) else _adm(net)


def _ddpm(net: DDPM) -> Iterator[Layer]:
    for ours, theirs in (
        ("temb.dense.0", "time_embedding.linear_1"),
        ("temb.dense.1", "time_embedding.linear_2"),
        ("conv_in", "conv_in"),
        ("norm_out", "conv_norm_out"),
        ("conv_out", "conv_out"),
    ):
        yield Layer(ours, (theirs,))
    top = len(net.config.widths) - 1
    for level in range(top + 1):
        for half, count, theirs in (
            ("down", net.config.blocks, f"down_blocks.{level}"),
            ("up", net.config.blocks + 1, f"up_blocks.{top - level}"),
        ):
            for block in range(count):
                yield from _block("ddpm", f"{half}.{level}.block.{block}", f"{theirs}.resnets.{block}")
                yield from _ddpm_attention(f"{half}.{level}.attn.{block}", f"{theirs}.attentions.{block}")
            yield Layer(f"{half}.{level}.{half}sample.conv", (f"{theirs}.{half}samplers.0.conv",))
    yield from _block("ddpm", "mid.block_1", "mid_block.resnets.0")
    yield from _ddpm_attention("mid.attn_1", "mid_block.attentions.0")
    yield from _block("ddpm", "mid.block_2", "mid_block.resnets.1")


def _block(kind: str, ours: str, theirs: str) -> Iterator[Layer]:
    for mine, other in RESIDUAL[kind].items():
        yield Layer(f"{ours}.{mine}", (f"{theirs}.{other}",))


def _ddpm_attention(ours: str, theirs: str) -> Iterator[Layer]:
    yield Layer(f"{ours}.norm", (f"{theirs}.group_norm",))
    for mine, other in (("q", "to_q"), ("k", "to_k"), ("v", "to_v"), ("proj_out", "to_out.0")):
        yield Layer(f"{ours}.{mine}", (f"{theirs}.{other}",), matrix=True)


def _adm(net: ADM) -> Iterator[Layer]:
    for ours, theirs in (
        ("time_embed.0", "time_embedding.linear_1"),
        ("time_embed.2", "time_embedding.linear_2"),
        ("input_blocks.0.0", "conv_in"),
        ("out.0", "conv_norm_out"),
        ("out.2", "conv_out"),
    ):
        yield Layer(ours, (theirs,))
    top, blocks = len(net.config.widths) - 1, net.config.blocks
    stages = iter(range(1, len(net.input_blocks)))
    for level in range(top + 1):
        for block in range(blocks):
            yield from _stage(net, f"input_blocks.{next(stages)}", f"down_blocks.{level}", block)
        if level < top:
            yield from _resampling(f"input_blocks.{next(stages)}.0", f"down_blocks.{level}.downsamplers.0")
    yield from _block("adm", "middle_block.0", "mid_block.resnets.0")
    yield from _adm_attention(net, "middle_block.1", "mid_block.attentions.0")
    yield from _block("adm", "middle_block.2", "mid_block.resnets.1")
    stages = iter(range(len(net.output_blocks)))
    for level in range(top + 1):  # from the coarsest
        for block in range(blocks + 1):
            number = next(stages)
            yield from _stage(net, f"output_blocks.{number}", f"up_blocks.{level}", block)
            if level < top and block == blocks:
                attends = top - level in net.config.attention
                ours = f"output_blocks.{number}.{2 if attends else 1}"
                yield from _resampling(ours, f"up_blocks.{level}.upsamplers.0")


def _stage(net: ADM, ours: str, theirs: str, block: int) -> Iterator[Layer]:
    yield from _block("adm", f"{ours}.0", f"{theirs}.resnets.{block}")
    yield from _adm_attention(net, f"{ours}.1", f"{theirs}.attentions.{block}")


def _adm_attention(net: ADM, ours: str, theirs: str) -> Iterator[Layer]:
    stage, _, index = ours.rpartition(".")
    layers = list(net.get_submodule(stage).children())
    if int(index) >= len(layers) or not isinstance(layer := layers[int(index)], SelfAttention):
        return
    heads = None if layer.new_order else layer.heads
    yield Layer(f"{ours}.norm", (f"{theirs}.group_norm",))
    yield Layer(f"{ours}.qkv", tuple(f"{theirs}.{name}" for name in QKV), True, heads)
    yield Layer(f"{ours}.proj_out", (f"{theirs}.to_out.0",), matrix=True)


def _resampling(ours: str, theirs: str) -> Iterator[Layer]:
    yield from _block("adm", ours, theirs)
    yield Layer(f"{ours}.op", (f"{theirs}.conv",))  # of a contracting half without residual blocks
    yield Layer(f"{ours}.conv", (f"{theirs}.conv",))  # of an expanding one
