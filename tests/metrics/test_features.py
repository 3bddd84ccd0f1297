"""Distances of features against closed forms, against scipy's square root of a matrix, and in any order."""

import math

import pytest
import torch
from scipy.linalg import sqrtm

from undiffuse.metrics.features import frechet, frechet_to, inception_score, kid, moments, prdc


def draws(n, d, seed, shift=0.0, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    return shift + scale * torch.randn(n, d, generator=generator, dtype=torch.float64)


def covariance(d, seed, decay=2.0):
    """Eigenvalues from 1 down to d^-decay, in random directions."""
    basis, _ = torch.linalg.qr(draws(d, d, seed))
    return (basis * torch.arange(1, d + 1, dtype=torch.float64) ** -decay) @ basis.T


def by_sqrtm(m, s, n, t):
    root = torch.as_tensor(sqrtm((s @ t).numpy())).real
    return ((m - n).square().sum() + (s + t - 2 * root).trace()).item()


def test_frechet_of_commuting_gaussians():
    """Sum of (m - n)^2 + (s - t)^2 over independent axes."""
    s, t = torch.rand(2, 20, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 0.1
    m, n = draws(2, 20, 1)
    expected = ((m - n) ** 2 + (s - t) ** 2).sum().item()
    found = frechet(m, torch.diag(s**2), n, torch.diag(t**2))
    assert found == pytest.approx(expected, rel=1e-12)  # float64, 20 terms


@pytest.mark.parametrize("decay", [0.5, 2.0])
def test_frechet_as_by_sqrtm(decay):
    m, n = draws(2, 96, 2)
    s, t = covariance(96, 3, decay), covariance(96, 4, decay)
    expected = by_sqrtm(m, s, n, t)
    assert frechet(m, s, n, t) == pytest.approx(
        expected, rel=1e-8
    )  # sqrtm loses half the digits at 1e-8 condition
    assert frechet(n, t, m, s) == pytest.approx(frechet(m, s, n, t), rel=1e-11)


def test_frechet_of_singular_covariances():
    """Fewer pictures than features. Axes that only one of the two varies along: closed form again."""
    s = torch.tensor([4.0, 1, 0, 0, 0, 0], dtype=torch.float64)
    t = torch.tensor([1.0, 0, 9, 0, 0, 0], dtype=torch.float64)
    turn, _ = torch.linalg.qr(draws(6, 6, 5))
    zero = torch.zeros(6, dtype=torch.float64)
    found = frechet(zero, turn @ torch.diag(s) @ turn.T, zero, turn @ torch.diag(t) @ turn.T)
    assert found == pytest.approx((2 - 1) ** 2 + 1 + 9, rel=1e-12)
    few = draws(20, 200, 6)
    # of 16 digits none may be lost to 181 eigenvalues that are 0, whose rounded roots would add 1e-8 each
    assert frechet(*moments(few), *moments(few)) < 1e-11 * moments(few)[1].trace()


@pytest.mark.parametrize(("n", "m"), [(9, 30), (30, 9), (30, 300), (300, 30), (300, 400)])
def test_frechet_of_few_pictures(n, m):
    """40 features, by the small matrix, the large one, and singular ones."""
    x, y = draws(n, 40, 17), draws(m, 40, 18, 0.3, 1.2)
    expected = frechet(*moments(x), *moments(y))
    assert frechet_to(x, *moments(y)) == pytest.approx(expected, rel=1e-7)  # n > m: zeros, 1e-8 each
    few, many = sorted((x, y), key=len)
    assert frechet_to(few, *moments(many)) == pytest.approx(expected, rel=1e-11)


@pytest.mark.parametrize("power", [1, 2])
def test_frechet_of_few_pictures_whose_features_fade(power):
    """Deviations k^-p: products of their squares lie below rounding, and their roots do not."""
    falls = torch.arange(1, 129, dtype=torch.float64) ** -power
    x, y = draws(100, 128, 17) * falls, draws(400, 128, 18) * falls
    assert frechet_to(x, *moments(y)) == pytest.approx(frechet(*moments(x), *moments(y)), rel=1e-9)


def test_frechet_does_not_see_turns():
    x, y = draws(400, 12, 7), draws(300, 12, 8, 0.3, 1.2)
    turn, _ = torch.linalg.qr(draws(12, 12, 9))
    turned = frechet(*moments(x @ turn), *moments(y @ turn))
    assert turned == pytest.approx(frechet(*moments(x), *moments(y)), rel=1e-10)


def test_the_bias_of_frechet_falls_with_the_number_of_pictures():
    """Of N draws each from the same standard normal in D dimensions: (2 D + (D^2 + D) / 2) / N to first order.

    2 D / N from the means; |E|^2 / 4 from the roots of I + E, and the two sample covariances have
    E|E|^2 = 2 (D^2 + D) / N.
    """
    d, repeats = 6, 60
    for n in (200, 800):
        values = [
            frechet(*moments(draws(n, d, 2 * i)), *moments(draws(n, d, 2 * i + 1))) for i in range(repeats)
        ]
        values = torch.tensor(values)
        expected = (2 * d + (d * d + d) / 2) / n
        error = 4 * values.std().item() / math.sqrt(repeats) + 0.02 * expected  # and the next order, D / N
        assert abs(values.mean().item() - expected) < error


def test_moments_are_those_of_numpy():
    x = draws(50, 7, 10) + 1000  # a mean far above the deviation: one pass would cancel
    mean, cov = moments(x)
    assert torch.allclose(mean, x.mean(0), rtol=1e-14)
    assert torch.allclose(cov, torch.cov(x.T), rtol=1e-10)


def test_kid_is_unbiased_and_its_interval_holds_the_truth():
    """0 for equal distributions, on average, with few pictures; the truth of a shift, from many."""
    same = [kid(draws(30, 4, 2 * i), draws(40, 4, 2 * i + 1)) for i in range(200)]
    values = torch.tensor([estimate.value for estimate in same])
    assert values.mean().abs() < 4 * values.std() / math.sqrt(len(values))
    assert values.min() < 0  # a biased estimate never is
    assert sum(e.low <= 0 <= e.high for e in same) >= 0.93 * len(
        same
    )  # 95 % less two deviations of the count
    truth = kid(draws(4000, 4, 1001, 0.5), draws(4000, 4, 1002)).value
    shifted = [kid(draws(60, 4, 2 * i, 0.5), draws(60, 4, 2 * i + 1)) for i in range(200)]
    assert torch.tensor([e.value for e in shifted]).mean() == pytest.approx(
        truth, rel=0.1
    )  # 1 / sqrt(200) of it
    assert sum(e.low <= truth <= e.high for e in shifted) >= 0.88 * 200  # skewed at 60 pictures


def test_kid_by_all_pairs():
    x, y = draws(7, 3, 11), draws(5, 3, 12)

    def k(a, b):
        return (a @ b / 3 + 1) ** 3

    xx = [k(a, b) for i, a in enumerate(x) for j, b in enumerate(x) if i != j]
    yy = [k(a, b) for i, a in enumerate(y) for j, b in enumerate(y) if i != j]
    xy = [k(a, b) for a in x for b in y]
    expected = sum(xx) / len(xx) + sum(yy) / len(yy) - 2 * sum(xy) / len(xy)
    assert kid(x, y).value == pytest.approx(expected.item(), rel=1e-12)


def test_prdc_by_hand():
    reference = torch.tensor([[0.0], [1], [2], [10], [11], [12]])
    samples = torch.tensor([[0.5], [1.5], [1.6], [50], [50.2]])
    # k = 1: balls of radius 1 around each of the reference; of the samples 1, 0.1, 0.1, 0.2 and 0.2
    found = prdc(samples, reference, 1)
    assert found == pytest.approx({"precision": 3 / 5, "recall": 2 / 6, "density": 6 / 5, "coverage": 3 / 6})


def test_prdc_of_equal_and_of_distant_sets():
    x, y = draws(500, 8, 13), draws(500, 8, 14)
    same = prdc(x, y)
    assert all(value > 0.85 for value in same.values())
    assert same["coverage"] == pytest.approx(1 - 0.5**5, abs=0.05)  # Naeem et al. 2020, lemma 2: 1 - 2^-k
    assert same["density"] == pytest.approx(1, abs=0.1)
    assert set(prdc(x + 100, y).values()) == {0.0}


def test_inception_score():
    """1 for a network that says the same of all; the number of classes where it is certain and they are equal."""
    assert inception_score(torch.zeros(40, 7), 1)[0] == pytest.approx(1)
    certain = 1000 * torch.eye(7).repeat(10, 1)
    assert inception_score(certain, 1) == (pytest.approx(7), 0)
    assert inception_score(certain, 10) == (pytest.approx(7), pytest.approx(0, abs=1e-12))


def test_the_order_is_of_no_account(monkeypatch):
    x, y = draws(90, 6, 15), draws(70, 6, 16, 0.2)
    i, j = torch.randperm(90), torch.randperm(70)
    before = kid(x, y).value, kid(x, y).high, frechet(*moments(x), *moments(y)), inception_score(x, 1)[0]
    close = prdc(x, y)
    monkeypatch.setattr("undiffuse.metrics.features.ENTRIES", 300)  # and neither are the blocks
    x, y = x[i], y[j]
    after = kid(x, y).value, kid(x, y).high, frechet(*moments(x), *moments(y)), inception_score(x, 1)[0]
    assert after == pytest.approx(before, rel=1e-9)  # sums in another order; KID is a difference of them
    assert prdc(x, y) == pytest.approx(close, rel=1e-12)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: moments(draws(1, 4, 0)), "at least 2 pictures"),
        (lambda: prdc(draws(5, 4, 0), draws(9, 4, 0)), "at least 6 pictures"),
        (lambda: kid(draws(9, 4, 0), draws(9, 5, 0)), "one network"),
        (lambda: kid(draws(9, 4, 0) / 0, draws(9, 4, 0)), "not finite"),
        (lambda: frechet(*moments(draws(9, 4, 0)), *moments(draws(9, 5, 0))), "one network"),
        (lambda: frechet(torch.zeros(2), torch.ones(2, 3), torch.zeros(2), torch.eye(2)), "expected 2x2"),
        (
            lambda: frechet(torch.zeros(2), torch.eye(2).cumsum(1), torch.zeros(2), torch.eye(2)),
            "not symmetric",
        ),
        (
            lambda: frechet(torch.zeros(2), torch.eye(2), torch.zeros(2), -torch.eye(2)),
            "negative eigenvalue -1",
        ),
        (lambda: frechet_to(torch.eye(2), torch.zeros(2), -torch.eye(2)), "negative eigenvalue -1"),
    ],
)
def test_what_cannot_be_compared_is_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call()
