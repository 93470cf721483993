"""Steps that are taken again: exact where the denoiser is, and nearer to what is wanted where scores are composed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from analytic import TWO_MODES

from reverie.diffusion import inpaint, sample, vp_cosine
from reverie.diffusion.schedules import timesteps
from reverie.errors import ReverieError

PROCESS = vp_cosine()
KEY = jax.random.key(0)


def product(x, t):
    """Of N(-1, 1) and N(1, 1), whose noised scores are added: x0_hat by Tweedie's formula."""
    level = PROCESS.level(t)
    variance = level.alpha**2 + level.sigma**2
    score = sum((level.alpha * mean - x) / variance for mean in (-1.0, 1.0))
    return (x + level.sigma**2 * score) / level.alpha


def drawn(denoiser, shape, **options):
    return jax.jit(lambda key: sample(PROCESS, denoiser, key, shape, **options))(KEY)


def variance_of_product(nfe, resampling, until):
    """Of what ancestral steps draw of the product, step for step: x0_hat is a multiple of x, and all else Gaussian."""
    begin = PROCESS.level(timesteps(PROCESS, nfe, None, None))
    alphas, sigmas = np.append(begin.alpha, 1.0), np.append(begin.sigma, 0.0)
    found = 1.0
    for t, a, s, b, r in zip(begin.t, alphas, sigmas, alphas[1:], sigmas[1:], strict=False):
        ratio, added = a / b, s**2 - (a / b * r) ** 2
        x0_hat = (a**2 - s**2) / (a * (a**2 + s**2))
        step = ratio * (r / s) ** 2 + b * added / s**2 * x0_hat
        for _ in range(resampling if t <= until else 1):
            after = step**2 * found + added * (r / s) ** 2
            found = ratio**2 * after + added
        found = after
    return found


@pytest.mark.parametrize(("resampling", "until"), [(1, 1.0), (20, 1.0), (20, 0.5)])
def test_a_product_of_densities_is_drawn_as_its_steps_say(resampling, until):
    x = drawn(product, (40_000,), nfe=50, resampling=resampling, resampling_time=until)
    assert float(x.var()) == pytest.approx(variance_of_product(50, resampling, until), rel=0.03)
    assert abs(float(x.mean())) < 0.02


def test_steps_taken_again_come_nearer_to_the_product():
    """Its variance is 1/2. Added scores are the product's without noise, but not of the product with noise added."""
    assert variance_of_product(50, 1, 1.0) < 0.3
    assert 0.41 < variance_of_product(50, 20, 1.0) < 0.43
    assert 0.47 < variance_of_product(400, 100, 1.0) < 0.5


def test_an_exact_denoiser_s_distribution_stays():
    x = np.asarray(drawn(TWO_MODES.denoiser(PROCESS), (8192, 2), nfe=40, resampling=4))
    np.testing.assert_allclose(x.mean(0), TWO_MODES.mean, atol=0.05)
    np.testing.assert_allclose(np.cov(x.T), TWO_MODES.covariance, atol=0.06)


def test_held_entries_are_held_and_the_others_agree_with_them_better():
    """An entry that is held without noise while the other is all noise says too little of the mode: of 0.88 for the
    first one, by Bayes' rule, plain sampling draws 0.67."""
    mask, held = jnp.array([True, False]), jnp.array([-0.4, 0.0])
    density = TWO_MODES.weights * jnp.exp(-((held[0] - TWO_MODES.means[:, 0]) ** 2) / (2 * TWO_MODES.variances[:, 0]))
    density /= jnp.sqrt(TWO_MODES.variances[:, 0])
    wanted = float(density[0] / density.sum())

    def share(resampling):
        options = {"nfe": 20, "resampling": resampling, "project": inpaint(mask, held), "history": True}
        x, past = drawn(TWO_MODES.denoiser(PROCESS), (8192, 2), **options)
        assert len(past) == 20 * resampling and np.all(past[..., 0] == np.float32(-0.4))
        return float((x[:, 1] > -0.3).mean())

    assert wanted == pytest.approx(0.879, abs=1e-3)
    assert share(1) < 0.69 and 0.72 < share(10) < wanted


def test_it_is_refused_where_it_means_nothing():
    with pytest.raises(ReverieError, match="resampling = 0"):
        drawn(product, (4,), nfe=5, resampling=0)
    with pytest.raises(ReverieError, match="one-stage"):
        drawn(product, (4,), nfe=5, resampling=2, solver="heun")
