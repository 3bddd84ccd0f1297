"""The networks of published metrics against their authors' code (tests/golden/README.md), with drawn weights."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.networks.weights import seeded
from undiffuse.core.images import from_unit
from undiffuse.metrics.dinov2 import DINOv2, fitting
from undiffuse.metrics.inception import Inception, resized

GOLDEN = load_file(Path(__file__).parents[1] / "golden" / "evaluate.safetensors")


def inputs():
    """Bytes for the one, [-1, 1] for the other, out of one generator."""
    draws = torch.Generator().manual_seed(403)
    image = torch.randint(0, 256, (2, 3, 70, 91), generator=draws, dtype=torch.uint8)
    return from_unit(image / 255), 2 * torch.rand(2, 3, 224, 224, generator=draws) - 1


def positive(net):
    for name, value in net.state_dict().items():
        if name.endswith("running_var"):
            value.copy_(0.5 + value.abs())
    return net


def test_inception():
    net = positive(seeded(Inception(), 401))
    features, logits = net(resized(inputs()[0]))
    # float32 through 94 layers; the two pictures' features, around 0.28, are 3e-3 apart
    assert (features - GOLDEN["inception.features"]).abs().max() < 3e-6
    assert (logits[:, :32] - GOLDEN["inception.logits"]).abs().max() < 5e-6
    assert (features[0] - features[1]).abs().max() > 1e-3


def test_dinov2():
    """With positions interpolated from 37 to 16 a side."""
    net = seeded(DINOv2(128, 3, 512, 37), 402)
    with torch.no_grad():
        found = net(inputs()[1])
    assert (found - GOLDEN["dinov2"]).abs().max() < 1e-5  # float32 through 3 blocks, normalised
    again = fitting({name: tuple(value.shape) for name, value in net.state_dict().items()})
    again.load_state_dict(net.state_dict())
    assert torch.equal(again(inputs()[1]), found)


@pytest.mark.parametrize(
    ("positions", "layer"),
    [((1, 5, 64), None), ((1, 6, 64), (256, 64)), ((5, 64), (256, 64)), ((1, 5, 60), (240, 60))],
)
def test_other_transformers_are_refused(positions, layer):
    """No perceptron; 5 positions that are no square; two axes; channels that are not heads of 64."""
    shapes = {"pos_embed": positions} | ({} if layer is None else {"blocks.0.mlp.fc1.weight": layer})
    with pytest.raises(ValueError):
        fitting(shapes)


def test_resizing_as_tensorflow_1():
    """Pixel i of the new picture lies at i H / side of the old; the last one repeats."""
    x = torch.arange(4.0).reshape(1, 1, 1, 4).expand(1, 1, 4, 4)
    assert torch.equal(resized(x, 8)[0, 0, 0], torch.tensor([0, 0.5, 1, 1.5, 2, 2.5, 3, 3]))
    assert torch.equal(resized(x, 2)[0, 0, 0], torch.tensor([0.0, 2]))
    assert torch.equal(resized(x.mT, 8), resized(x, 8).mT)
