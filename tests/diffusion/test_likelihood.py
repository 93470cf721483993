"""The probability-flow likelihood against densities in closed form."""

import jax
import numpy as np
import pytest
from analytic import GAUSSIAN, TWO_MODES

from reverie import diffusion
from reverie.diffusion import log_likelihood

PROCESSES = {
    "vp-linear": {},
    "vp-cosine": {},
    "sub-vp": {},
    "ve": {},
    "edm": {},
    "rectified-flow": {"t_max": 0.999},
}


@pytest.mark.parametrize("name", PROCESSES)
def test_log_likelihood_of_a_gaussian_and_of_a_mixture(name):
    """Mean absolute error below 0.03 nats at 200 steps (the prior's own mismatch is the largest part of it)."""
    process = diffusion.PROCESSES[name](**PROCESSES[name])
    for mixture in (GAUSSIAN, TWO_MODES):
        x = mixture.sample(jax.random.key(0), 64)
        ours = log_likelihood(process, mixture.denoiser(process), x, steps=200)
        clean = diffusion.vp_linear()
        exact = mixture.log_density(clean, x, 0.0)
        assert np.abs(ours - exact).mean() < 0.03


def test_hutchinson_is_unbiased_and_needs_a_key():
    process = diffusion.vp_linear()
    x = TWO_MODES.sample(jax.random.key(0), 16)
    exact = log_likelihood(process, TWO_MODES.denoiser(process), x, steps=50)
    probed = log_likelihood(process, TWO_MODES.denoiser(process), x, steps=50, key=jax.random.key(1), probes=256)
    np.testing.assert_allclose(probed, exact, atol=0.25)
    assert np.abs(probed - exact).mean() < 0.1
    with pytest.raises(ValueError, match="probes = 4 needs a key"):
        log_likelihood(process, TWO_MODES.denoiser(process), x, probes=4)


def test_any_event_shape():
    process = diffusion.vp_linear()
    denoiser = GAUSSIAN.denoiser(process)
    x = GAUSSIAN.sample(jax.random.key(0), 12)
    flat = log_likelihood(process, denoiser, x, steps=20)
    stacked = log_likelihood(process, denoiser, x.reshape(4, 3, 2), steps=20)
    np.testing.assert_allclose(stacked, flat.reshape(4, 3).sum(1), rtol=1e-4)
