"""Coefficients against closed forms and the released codes' recursions; losses and predictions against identities."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from analytic import TWO_MODES

from reverie import diffusion
from reverie.diffusion import PREDICTIONS, PROCESSES
from reverie.diffusion.process import noise_of

TIMES = jnp.linspace(0.02, 0.95, 9)


@pytest.mark.parametrize("name", PROCESSES)
def test_level_is_consistent(name):
    process = PROCESSES[name]()
    level = process.level(TIMES)
    h = 1e-3
    for function, derivative in ((process.alpha, level.d_alpha), (process.sigma, level.d_sigma)):
        difference = (function(TIMES + h) - function(TIMES - h)) / (2 * h)
        np.testing.assert_allclose(derivative, difference, rtol=2e-2, atol=2e-3)
    np.testing.assert_allclose(process.time_of(level.log_snr), TIMES, rtol=1e-4)
    assert np.all(np.diff(level.log_snr) < 0)


def test_forward_diffusion_is_the_papers():
    """g^2: beta for VP; beta (1 - exp(-2 int beta)) for sub-VP (Song et al. 2021, eq. 29); d sigma^2/dt for VE."""
    beta = 0.1 + TIMES * 19.9
    integral = 0.1 * TIMES + 19.9 * TIMES**2 / 2
    np.testing.assert_allclose(diffusion.vp_linear().level(TIMES).rate, beta, rtol=1e-3)
    np.testing.assert_allclose(
        diffusion.sub_vp().level(TIMES).rate, beta * (1 - np.exp(-2 * integral)), rtol=1e-3, atol=1e-4
    )
    growth = 2 * (0.01 * 5000**TIMES) ** 2 * np.log(5000)
    np.testing.assert_allclose(diffusion.ve().level(TIMES).rate, growth, rtol=1e-3)


@pytest.mark.parametrize("steps", [5, 20, 100])
def test_diffusion_ql_schedule_is_the_product_of_its_betas(steps):
    i = np.arange(1, steps + 1)
    betas = 1 - np.exp(-0.1 / steps - (10 - 0.1) * (2 * i - 1) / (2 * steps**2))
    process = diffusion.vp_diffusion_ql(steps)
    np.testing.assert_allclose(process.alpha(i / steps) ** 2, np.cumprod(1 - betas), rtol=1e-4)
    np.testing.assert_allclose(process.alpha(1.0) ** 2, 0.0064, atol=1e-4)
    if steps == 5:
        np.testing.assert_allclose(betas, [0.196, 0.459, 0.636, 0.755, 0.835], atol=1e-3)


@pytest.mark.parametrize(("steps", "last"), [(20, 6.1e-6), (100, 2.4e-7), (200, 6.1e-8)])
def test_cosine_schedule_has_its_last_beta_clipped(steps, last):
    process = diffusion.vp_cosine(steps)
    edges = np.cos((np.arange(steps + 1) / steps + 0.008) / 1.008 * np.pi / 2) ** 2
    betas = np.minimum(1 - edges[1:] / edges[:-1], 0.999)
    times = np.arange(1, steps + 1) / steps
    np.testing.assert_allclose(process.alpha(times) ** 2, np.cumprod(1 - betas), rtol=2e-3)
    np.testing.assert_allclose(process.alpha(times) ** 2 + process.sigma(times) ** 2, 1, rtol=1e-5)
    np.testing.assert_allclose(process.alpha(1.0) ** 2, last, rtol=0.02)


def test_prior_scales():
    assert diffusion.vp_linear().prior_scale == pytest.approx(1, abs=1e-6)
    assert diffusion.vp_diffusion_ql(5).prior_scale == pytest.approx(1, abs=1e-6)
    assert diffusion.ve().prior_scale == pytest.approx(50, abs=0.05)
    assert diffusion.edm().prior_scale == pytest.approx(80, abs=0.05)
    assert diffusion.rectified_flow().prior_scale == 1


def exact_network(process, denoiser, t):
    """The network that a perfect training would end in: E[target | x_t], which is linear in x0_hat and eps_hat."""
    prediction = PREDICTIONS[process.prediction]

    def net(scaled, feature, cond):
        x = scaled / prediction.scale(process, t)
        x0 = denoiser(x, t)
        return prediction.target(process, x0, noise_of(process.level(t), x, x0), t)

    return net


def every_prediction(name):
    options = {"t_max": 0.9946} if name == "rectified-flow" else {}
    return [PROCESSES[name](prediction=p, **options) for p in PREDICTIONS]


@pytest.mark.parametrize("name", PROCESSES)
def test_every_prediction_gives_the_same_denoiser(name):
    for process in every_prediction(name):
        denoiser = TWO_MODES.denoiser(process)
        times = [1 / 5, 3 / 5, 1.0] if process.steps else [2 * process.t_min, 0.1, 0.5, process.t_max]
        for t in map(jnp.float32, times):
            x = process.perturb(
                TWO_MODES.sample(jax.random.key(0), 64), t, jax.random.normal(jax.random.key(1), (64, 2))
            )
            x0 = process.denoise(exact_network(process, denoiser, t), x, t)
            np.testing.assert_allclose(x0, denoiser(x, t), atol=2e-3, err_msg=f"{process.prediction} at {t}")


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_loss_is_least_for_the_exact_network_and_zero_for_known_data(prediction):
    """With a single data point x0 = E[x0 | x_t], so the residual vanishes for every prediction."""
    process = diffusion.vp_linear(prediction=prediction)
    point = jnp.array([0.3, -0.8])

    def net(scaled, feature, cond):
        t = feature / 1000
        x = scaled / PREDICTIONS[prediction].scale(process, t)[:, None]
        eps = (x - process.alpha(t)[:, None] * point) / process.sigma(t)[:, None]
        return PREDICTIONS[prediction].target(process, jnp.broadcast_to(point, x.shape), eps, t)

    x0 = jnp.broadcast_to(point, (256, 2))
    assert process.loss(net, x0, jax.random.key(0)).max() < 1e-4
    off = process.loss(lambda *a: net(*a) + 0.1, x0, jax.random.key(0))
    np.testing.assert_allclose(off, 0.01, rtol=0.05)


def test_loss_weights_masks_and_projection():
    process = diffusion.vp_cosine(20, prediction="x0")
    x0 = jnp.ones((4, 3, 2))
    ones = process.loss(lambda x, t, c: 0 * x, x0, jax.random.key(0))
    np.testing.assert_allclose(ones, 1, rtol=1e-6)
    weight = jnp.array([10.0, 1, 1])[:, None]
    np.testing.assert_allclose(process.loss(lambda x, t, c: 0 * x, x0, jax.random.key(0), weight=weight), 4, rtol=1e-6)
    per_example = jnp.arange(4.0)[:, None, None]
    np.testing.assert_allclose(
        process.loss(lambda x, t, c: 0 * x, x0, jax.random.key(0), weight=per_example), np.arange(4), rtol=1e-6
    )
    # Masked elements count neither in the sum nor in the number; a wholly masked example gives 0, not NaN.
    mask = jnp.array([[1, 1, 0], [1, 0, 0], [1, 1, 1], [0, 0, 0]])[:, :, None]
    steps = jnp.array([1.0, 2.0, 3.0])[:, None] * jnp.ones(2)
    masked = process.loss(lambda x, t, c: 0 * x, x0 * steps, jax.random.key(0), mask=mask)
    np.testing.assert_allclose(masked, [2.5, 1, 14 / 3, 0], rtol=1e-6)
    # The network sees the projected input.
    project = diffusion.inpaint(jnp.ones((3, 2), bool), 1.0)
    np.testing.assert_allclose(process.loss(lambda x, t, c: x, x0, jax.random.key(0), project=project), 0, atol=1e-7)
    absolute = process.loss(lambda x, t, c: 3 + 0 * x, x0, jax.random.key(0), penalty=jnp.abs)
    np.testing.assert_allclose(absolute, 2, rtol=1e-6)


def test_edm_loss_is_the_papers_weighting():
    """(sigma^2 + sd^2)/(sigma sd)^2 |D - x0|^2 for any network (Karras et al. 2022, table 1)."""
    process = diffusion.edm(sigma_data=0.5)
    key = jax.random.key(3)
    x0 = 0.5 * jax.random.normal(jax.random.key(1), (32, 4))

    def net(x, feature, cond):
        return jnp.sin(3 * x) + feature[:, None]

    key_t, key_eps = jax.random.split(key)
    t = process.draw_times(key_t, (32,))
    x = process.perturb(x0, t, jax.random.normal(key_eps, x0.shape))
    sigma = 80 * t
    weight = (sigma**2 + 0.25) / (sigma * 0.5) ** 2
    paper = weight * ((process.denoise(net, x, t) - x0) ** 2).mean(-1)
    np.testing.assert_allclose(process.loss(net, x0, key), paper, rtol=1e-3)


def test_training_times():
    discrete = diffusion.vp_diffusion_ql(5).draw_times(jax.random.key(0), (10_000,))
    values, counts = np.unique(np.asarray(discrete), return_counts=True)
    np.testing.assert_allclose(values, np.arange(1, 6) / 5, rtol=1e-6)
    assert np.all(np.abs(counts / 10_000 - 0.2) < 0.02)
    log_sigma = np.log(80 * diffusion.edm().draw_times(jax.random.key(0), (10_000,)))
    assert abs(log_sigma.mean() + 1.2) < 0.05
    assert abs(log_sigma.std() - 1.2) < 0.05
    assert diffusion.vp_cosine(20).time_feature(jnp.float32(1.0)) == 19


def test_impossible_processes_are_refused():
    with pytest.raises(ValueError, match="'noise' is unknown; choose one of eps, x0"):
        diffusion.vp_linear(prediction="noise")
    with pytest.raises(ValueError, match="alpha is 0"):
        diffusion.rectified_flow(prediction="eps")
    with pytest.raises(ValueError, match="0 steps"):
        diffusion.vp_cosine(0)
