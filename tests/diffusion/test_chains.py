"""Chains of Gaussian steps: likely as the textbook says, and the very ones that the sampler walks."""

import jax
import jax.numpy as jnp
import numpy as np
from scipy.stats import norm

from reverie.diffusion import (
    adjoints,
    draw_chain,
    flow_step,
    log_density,
    posterior,
    rectified_flow,
    sample,
    steps_of_chain,
    vp_diffusion_ql,
)

STEPS, MEAN, STD = 6, 0.7, 0.4
VP = vp_diffusion_ql(STEPS)
FLOW = rectified_flow(t_min=1 / STEPS)


def gaussian(process):
    """x0_hat of data N(MEAN, STD²), which is linear in x."""

    def denoise(x, t):
        t = jnp.asarray(t)[..., None] if jnp.ndim(t) else t
        alpha, sigma = process.alpha(t), process.sigma(t)
        return MEAN + alpha * STD**2 / (alpha**2 * STD**2 + sigma**2) * (x - alpha * MEAN)

    return denoise


def floored(least):
    def kernel(row, x, x0):
        mean, std = posterior(row, x, x0)
        return mean, jnp.maximum(std, least)

    return kernel


def noisy(row, x, x0):
    """Noise that depends on where a step begins."""
    return flow_step(row, x, x0), 0.1 + 0.05 * jnp.abs(x) + 0.1 * row.start.t


def drawn(process, kernel, n=4, kept=STEPS, seed=0, **options):
    how = {"nfe": STEPS, "kept": kept, **options}
    return jax.jit(lambda key: draw_chain(process, gaussian(process), kernel, key, (n, 2), **how))(jax.random.key(seed))


def test_a_chain_s_log_density_is_that_of_ho_et_al_s_gaussians():
    """By betas and their products in double precision, whatever the chain is."""
    x = np.random.default_rng(0).normal(size=(3, STEPS + 1, 2))
    mean, std = steps_of_chain(VP, gaussian(VP), floored(0.05), jnp.asarray(x, jnp.float32), nfe=STEPS)
    found = log_density(x[:, 1:], mean, std)

    product = np.array([1.0, *(np.asarray(VP.alpha(jnp.arange(1, STEPS + 1) / STEPS), np.float64) ** 2)])
    beta = 1 - product[1:] / product[:-1]
    for i in range(STEPS):
        k = STEPS - i
        now, then, b = product[k], product[k - 1], beta[k - 1]
        alpha, variance = np.sqrt(now), 1 - now
        x0 = MEAN + alpha * STD**2 / (now * STD**2 + variance) * (x[:, i] - alpha * MEAN)
        centre = np.sqrt(then) * b / (1 - now) * x0 + np.sqrt(1 - b) * (1 - then) / (1 - now) * x[:, i]
        spread = max(np.sqrt((1 - then) / (1 - now) * b), 0.05)
        np.testing.assert_allclose(found[:, i], norm.logpdf(x[:, i + 1], centre, spread), rtol=2e-4, atol=2e-4)


def test_a_flow_s_chain_takes_euler_s_steps_of_equal_length():
    x = np.random.default_rng(1).normal(size=(3, STEPS + 1, 2)).astype(np.float32)
    mean, std = steps_of_chain(FLOW, gaussian(FLOW), noisy, jnp.asarray(x), nfe=STEPS)
    for i in range(STEPS):
        t = 1 - i / STEPS
        velocity = (x[:, i] - np.asarray(gaussian(FLOW)(x[:, i], t))) / t
        np.testing.assert_allclose(mean[:, i], x[:, i] - velocity / STEPS, atol=1e-5)
        np.testing.assert_allclose(std[:, i], 0.1 + 0.05 * np.abs(x[:, i]) + 0.1 * t, atol=1e-6)


def test_without_a_floor_it_is_the_sampler_s_own_chain():
    """The same initial noise and the same keys: the end of DDPM's sample and of its last three steps."""
    key = jax.random.key(0)
    first, rest = jax.random.split(key)
    noise = jax.random.normal(first, (4, 2))
    want, past = sample(VP, gaussian(VP), rest, (4, 2), nfe=STEPS, noise=noise, history=True)
    whole, last = drawn(VP, floored(0.0)), drawn(VP, floored(0.0), kept=3)
    np.testing.assert_allclose(whole[:, -1], want, atol=1e-5)
    np.testing.assert_allclose(whole[:, 0], noise, atol=1e-6)
    np.testing.assert_allclose(jnp.moveaxis(whole[:, 1:], 1, 0), past, atol=1e-5)
    np.testing.assert_array_equal(last, whole[:, 3:])
    assert drawn(VP, floored(0.0), kept=0).shape == (4, 1, 2)


def test_what_is_drawn_differs_from_the_means_by_standard_normal_noise():
    """Of every step of 4000 chains, in its standard deviations: another grid would not do, nor another floor."""
    for process, kernel in ((VP, floored(0.1)), (FLOW, noisy)):
        chain = drawn(process, kernel, n=4000)
        mean, std = steps_of_chain(process, gaussian(process), kernel, chain, nfe=STEPS)
        noise = np.asarray((chain[:, 1:] - mean) / std)
        error = 4 / np.sqrt(8000)
        np.testing.assert_allclose(noise.mean((0, 2)), 0, atol=error)
        np.testing.assert_allclose(noise.var((0, 2)), 1, atol=error * np.sqrt(2))
        part = steps_of_chain(process, gaussian(process), kernel, chain[:, 4:], nfe=STEPS)
        np.testing.assert_allclose(part[0], mean[:, 4:], atol=1e-5)


def test_noise_is_clipped_where_that_is_asked_for():
    chain = drawn(VP, floored(0.1), n=4000, largest_noise=1.5)
    mean, std = steps_of_chain(VP, gaussian(VP), floored(0.1), chain, nfe=STEPS)
    np.testing.assert_allclose(jnp.abs((chain[:, 1:] - mean) / std).max(), 1.5, atol=1e-3)


def test_x0_is_clipped_in_the_chain_and_in_its_likelihood():
    how = {"clip_x0": (-0.5, 0.5)}
    chain = drawn(VP, floored(0.1), n=4000, **how)
    mean, std = steps_of_chain(VP, gaussian(VP), floored(0.1), chain, nfe=STEPS, **how)
    assert jnp.abs(mean[:, -1]).max() == 0.5
    np.testing.assert_allclose(((chain[:, 1:] - mean) / std).var((0, 2)), 1, atol=0.07)


def test_an_adjoint_is_the_gradient_of_what_follows_with_its_noise_held():
    """By walking on from where each step ends with the chain's own noise, and differentiating that: to rounding, in a
    chain whose steps bend. The last is the slope itself."""
    kernel = floored(0.05)

    def bent(x, t):
        t = jnp.asarray(t)[..., None] if jnp.ndim(t) else t
        return jnp.sin(2 * x) * (1 - t) + 0.3 * x[..., ::-1] ** 2

    key, slope = jax.random.key(3), jnp.asarray([[0.7, -1.0], [0.2, 2.0]])
    x = draw_chain(VP, bent, kernel, key, (2, 2), nfe=STEPS, kept=STEPS)
    found = adjoints(VP, bent, kernel, x, slope, nfe=STEPS)
    mean, _ = steps_of_chain(VP, bent, kernel, x, nfe=STEPS)
    noise = x[:, 1:] - mean

    def end(here, step):
        for later in range(step + 1, STEPS):
            whole = x.at[:, later].set(here)
            here = steps_of_chain(VP, bent, kernel, whole, nfe=STEPS)[0][:, later] + noise[:, later]
        return (slope * here).sum()

    for step in range(STEPS):
        np.testing.assert_allclose(found[:, step], jax.grad(end)(x[:, step + 1], step), rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(found[:, -1], slope)
    tail = adjoints(VP, bent, kernel, x[:, -3:], slope, nfe=STEPS)
    np.testing.assert_allclose(tail, found[:, -2:], rtol=1e-6)
