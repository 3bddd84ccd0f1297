"""A network made ready to be asked often, and not to be trained."""

from torch import nn

from undiffuse.networks.blocks import ResidualBlock, Upsample
from undiffuse.networks.packed import PackedConv, PackedDoubling, can_pack


def packed(net: nn.Module) -> int:
    """Put layers of `networks.packed` in place of a network's convolutions; how many.

    For float32 on a CPU, and none elsewhere. The network then answers without gradients only, as before to the
    rounding of float32, and its weights can no longer be read: open its file anew to train or to write it.
    """
    doubling = {id(conv) for part in net.modules() for conv in _doubled(part)}
    count = 0
    parents = [part for part in net.modules() if not can_pack(part)]  # not the layers, which go one by one
    for part in parents:
        for name, conv in list(part.named_children()):
            if can_pack(conv):
                layer = PackedDoubling if id(conv) in doubling else PackedConv
                setattr(part, name, layer(conv))  # type: ignore[arg-type]
                count += 1
    return count


def _doubled(part: nn.Module) -> list[nn.Module]:
    """The convolution of this layer that sees a doubled image."""
    if isinstance(part, Upsample):
        return [part.conv]
    if isinstance(part, ResidualBlock) and part.resample == "up":
        return [part.in_layers[2]]
    return []
