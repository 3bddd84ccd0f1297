import pytest
import torch

from tests.metrics.weights import filled, pictures
from undiffuse.metrics import LPIPS

GOLDEN = {
    "alex": ([0.5473883675321565, 1.057034328737593], 0.9067654743146404),
    "vgg": ([0.5958050411666539, 0.7155145943740063], 0.5487192258856111),
}


@pytest.mark.parametrize("net", ["alex", "vgg"])
def test_equals_the_authors_package(net):
    """Made with lpips 0.1.4 around torchvision 0.28.0's alexnet and vgg16, in float64:

    lpips.LPIPS(net=net, pretrained=False, pnet_rand=True).double(), its parameters set by `formula` of the name
    in torchvision's file ("features.0.weight") or "lin0.model.1.weight", called on `pictures()` and on the
    first channel of the first pair. Its shift and scale stay rounded to float32: hence 1e-7.
    """
    model = filled(net, torch.float64)
    x, y = pictures()
    pairs, grey = GOLDEN[net]
    torch.testing.assert_close(model(x, y), torch.tensor(pairs).double(), rtol=1e-7, atol=0)
    assert model(x[:1, :1], y[:1, :1]).item() == pytest.approx(grey, rel=1e-7)


def test_zero_for_equal_pictures_and_symmetric():
    model = filled("alex")
    x, y = pictures()
    assert model(x, x).tolist() == [0, 0]
    torch.testing.assert_close(model(x, y), model(y, x), rtol=0, atol=0)


def test_each_pair_on_its_own():
    model = filled("alex")
    x, y = pictures()
    torch.testing.assert_close(model(x, y)[1:], model(x[1:], y[1:]), rtol=1e-5, atol=0)  # float32 sums


@pytest.mark.parametrize("net, least", [("alex", 31), ("vgg", 16)])
def test_least_size(net, least):
    model = LPIPS(net)
    x = torch.zeros(1, 3, least, 64)
    assert model(x, x).item() == 0
    with pytest.raises(ValueError, match=f"{least} pixels a side; this is 3x{least - 1}x64"):
        model(x[:, :, 1:], x[:, :, 1:])


def test_other_channels_and_networks_are_refused():
    with pytest.raises(ValueError, match="1 or 3 channels.*4x64x64"):
        LPIPS()(torch.zeros(1, 4, 64, 64), torch.zeros(1, 4, 64, 64))
    with pytest.raises(ValueError, match="'squeeze'; choose from alex, vgg"):
        LPIPS("squeeze")
