import math

import pytest
import torch
from scipy.fft import dctn

from tests.metrics.weights import pictures
from undiffuse.metrics import power, spectrum_error
from undiffuse.metrics.spectrum import _cosines, _from_cosines


def noise(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("shape", [(2, 16, 33), (1, 31, 8)])
def test_cosines_are_those_of_scipy(shape):
    x = noise(*shape)
    expected = torch.from_numpy(dctn(x.numpy(), axes=(1, 2), norm="ortho"))
    torch.testing.assert_close(_cosines(x), expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(_from_cosines(_cosines(x)), x, rtol=0, atol=1e-12)


def test_white_noise_has_its_variance_everywhere():
    frequencies, spectrum = power(0.3 * noise(40, 3, 48, 70))
    assert spectrum.shape == (40, len(frequencies))
    # a bin averages at least 3 coefficients x 120 planes: deviation sqrt(2 / 360) = 7 %; five of them
    torch.testing.assert_close(spectrum.mean(0), torch.full_like(frequencies, 0.09), rtol=0.37, atol=0)
    torch.testing.assert_close(spectrum.mean(0)[-2:], torch.full((2,), 0.09).double(), rtol=0.02, atol=0)


def test_a_wave_is_in_the_bin_of_its_frequency():
    n, k = 64, 19  # cosine 19 of 64 pixels: 19 / 128 cycles a pixel
    wave = torch.cos(math.pi * k * (torch.arange(n, dtype=torch.float64) + 0.5) / n)
    frequencies, spectrum = power(wave.expand(1, 1, n, n))
    best = int(spectrum[0].argmax())
    assert spectrum[0, best] / spectrum[0].sum() == pytest.approx(1, abs=1e-12)
    assert abs(math.log2(frequencies[best] / (k / (2 * n)))) <= 0.25 + 1e-9  # half a bin of half an octave


def test_frequencies():
    frequencies, _ = power(noise(1, 1, 64, 64), per_octave=1)
    expected = [0.5 / 2**i / math.sqrt(2) for i in (4, 3, 2, 1, 0)]  # 1/64 to 1/2: five octaves
    torch.testing.assert_close(frequencies, torch.tensor(expected).double())


def test_error_of_a_known_gain():
    x = 0.2 * noise(2, 3, 64, 80).clamp(-2, 2)
    assert spectrum_error(x, x).tolist() == [0, 0]
    # a fifth of the amplitude is 13.98 dB in every bin; the floor of 5e-6 against 0.0016 changes it by 0.013 dB
    torch.testing.assert_close(
        spectrum_error(0.2 * x, x), torch.full((2,), 20 * math.log10(5)).double(), rtol=0, atol=0.05
    )


def test_blur_and_noise_show_and_black_is_finite():
    x, _ = pictures(64, 64)
    smooth = (x + x.roll(1, -1) + x.roll(1, -2) + x.roll((1, 1), (-2, -1))) / 4
    assert (spectrum_error(smooth, x) > 1).all()
    assert (spectrum_error(x + 0.1 * noise(*x.shape), x) > 1).all()
    black = torch.full_like(x, -1.0)
    assert spectrum_error(black, black).tolist() == [0, 0]
    assert torch.isfinite(spectrum_error(black, x)).all()


def test_small_pictures_are_refused():
    with pytest.raises(ValueError, match="8x8.*7x40"):
        power(torch.zeros(1, 1, 7, 40))
