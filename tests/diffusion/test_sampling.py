"""With an exact denoiser in place of a network, what is left is the sampler's own error."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from analytic import GAUSSIAN, TWO_MODES
from test_process import every_prediction, exact_network

from reverie import diffusion
from reverie.diffusion import PREDICTIONS, SOLVERS, sample

SCHEDULE = {"vp-linear": "quadratic", "sub-vp": "quadratic", "edm": "karras", "ve": "karras"}
NFE = {("ve", "euler"): 400}  # first order in the exponent of sigma, over more than five decades of variance
NAMES = ["vp-linear", "vp-cosine", "vp-diffusion-ql", "ve", "sub-vp", "edm", "rectified-flow"]


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("name", NAMES)
def test_every_process_and_solver_hits_the_mixture(name, solver):
    """8,192 samples with 100 NFE, from the exact marginal at t_max: mean within 0.05, covariance within 0.06 (of a
    total variance of 0.93 and 0.59), weight of the first mode, 0.7, within 0.03.

    The predictions take turns, each with every process and solver once or more: that all of them give the same
    denoiser at each time is test_process's.
    """
    turn = NAMES.index(name) + list(SOLVERS).index(solver)
    process = every_prediction(name)[turn % len(PREDICTIONS)]
    if process.steps:
        process = diffusion.vp_diffusion_ql(100, prediction=process.prediction)
    exact = TWO_MODES.denoiser(process)
    data = TWO_MODES.sample(jax.random.key(1), 8192)

    @jax.jit
    def run(key):
        return sample(
            process,
            lambda x, t: process.denoise(exact_network(process, exact, t), x, t),
            key,
            data.shape,
            nfe=NFE.get((name, solver), 100),
            solver=solver,
            schedule=SCHEDULE.get(name, "uniform"),
            warm_start=data,
            start=process.t_max,
        )

    x = np.asarray(run(jax.random.key(0)))
    np.testing.assert_allclose(x.mean(0), TWO_MODES.mean, atol=0.05)
    np.testing.assert_allclose(np.cov(x.T), TWO_MODES.covariance, atol=0.06)
    assert abs((x.sum(1) > -0.6).mean() - 0.7) < 0.03


@pytest.mark.parametrize("name", ["vp-linear", "vp-cosine", "ve", "edm", "rectified-flow"])
def test_pure_noise_starts_at_the_prior(name):
    """As above from pure noise, at the looser tolerance that the prior's own mismatch asks for."""
    process = diffusion.PROCESSES[name]()
    x = sample(
        process, TWO_MODES.denoiser(process), jax.random.key(0), (8192, 2), nfe=60, solver="dpm++2m", schedule="log-snr"
    )
    np.testing.assert_allclose(np.mean(x, 0), TWO_MODES.mean, atol=0.06)
    assert abs((np.sum(x, 1) > -0.6).mean() - 0.7) < 0.03


def flow_error(process, solver, nfe, schedule):
    """Error against the exact probability flow of a Gaussian: x keeps its number of standard deviations."""
    z = jnp.array([[1.0, -0.7], [-1.3, 0.4], [0.2, 2.0]])

    def at(t):
        std = jnp.sqrt(process.alpha(t) ** 2 * GAUSSIAN.variances[0] + process.sigma(t) ** 2)
        return process.alpha(t) * GAUSSIAN.means[0] + std * z

    denoiser = GAUSSIAN.denoiser(process)
    # The start is given exactly: noise and data are chosen so that perturb lands on it.
    exact_start = at(process.t_max)
    alpha = process.alpha(process.t_max)
    x = sample(
        process,
        denoiser,
        jax.random.key(0),
        z.shape,
        nfe=nfe,
        solver=solver,
        schedule=schedule,
        warm_start=exact_start / alpha,
        start=process.t_max,
        temperature=0.0,
    )
    return float(jnp.abs(x - denoiser(at(process.t_min), jnp.float32(process.t_min))).max())


@pytest.mark.parametrize(
    ("name", "solver", "order", "schedule"),
    [
        ("vp-cosine", "euler", 1, "uniform"),
        ("vp-linear", "euler", 1, "quadratic"),
        ("edm", "euler", 1, "karras"),
        ("rectified-flow", "euler", 1, "uniform"),
        ("vp-linear", "ddim", 1, "log-snr"),
        ("vp-cosine", "heun", 2, "uniform"),
        ("vp-linear", "heun", 2, "quadratic"),
        ("edm", "heun", 2, "karras"),
        ("rectified-flow", "heun", 2, "uniform"),
        ("vp-linear", "dpm++2m", 2, "log-snr"),
        ("vp-cosine", "dpm++2m", 2, "log-snr"),
        ("edm", "dpm++2m", 2, "log-snr"),
    ],
)
def test_error_falls_at_the_solvers_order(name, solver, order, schedule):
    """Halving the step divides the error by 2^order; observed order within 0.35 of it."""
    options = {"t_max": 0.99} if name == "rectified-flow" else {}
    process = diffusion.PROCESSES[name](**options)
    nfe = (20, 40) if order == 1 else (17, 33)
    stages = SOLVERS[solver].stages
    coarse, fine = (flow_error(process, solver, n * stages - stages + 1, schedule) for n in nfe)
    observed = np.log2(coarse / fine) / np.log2((nfe[1] - 1) / (nfe[0] - 1))
    assert abs(observed - order) < 0.35, (coarse, fine, observed)


@pytest.mark.parametrize(("solver", "schedule"), [("euler-maruyama", "quadratic"), ("ddpm-beta", "log-snr")])
def test_variance_error_of_stochastic_solvers_falls_at_first_order(solver, schedule):
    """Weak order 1 on the variance of a Gaussian, 400,000 samples: halving the step halves the error within 30 %."""
    process = diffusion.vp_linear()

    def error(nfe):
        x = sample(
            process,
            GAUSSIAN.denoiser(process),
            jax.random.key(0),
            (400_000, 2),
            nfe=nfe,
            solver=solver,
            schedule=schedule,
        )
        return abs(float(x[:, 0].var()) - 1.2)

    assert error(16) / error(32) == pytest.approx(2, rel=0.3)


def draw(process, solver, nfe=20, shape=(256, 2), mixture=TWO_MODES, **options):
    return np.asarray(
        sample(process, mixture.denoiser(process), jax.random.key(7), shape, nfe=nfe, solver=solver, **options)
    )


def test_ddim_at_eta_one_is_ancestral_sampling():
    for process in (diffusion.vp_linear(), diffusion.vp_cosine(20), diffusion.ve()):
        np.testing.assert_allclose(draw(process, diffusion.ddim(1.0)), draw(process, "ddpm"), atol=2e-3)


def test_first_order_dpm_solver_is_ddim():
    for process in (diffusion.vp_linear(), diffusion.edm(), diffusion.rectified_flow()):
        first = draw(process, diffusion.dpm_solver_pp(order=1))
        np.testing.assert_allclose(first, draw(process, "ddim"), atol=2e-5)


def test_full_ancestral_chain_is_the_papers_recursion():
    """DDPM over all steps of a discrete process against the textbook update with betas."""
    steps = 20
    process = diffusion.vp_cosine(steps)
    denoiser = TWO_MODES.denoiser(process)
    bar = np.append(1.0, np.asarray(process.alpha(np.arange(1, steps + 1) / steps)) ** 2).astype(np.float64)
    x = jnp.ones((5, 2))
    for i in range(steps, 0, -1):
        beta = 1 - bar[i] / bar[i - 1]
        x0 = denoiser(x, jnp.float32(i / steps))
        x = np.sqrt(bar[i - 1]) * beta / (1 - bar[i]) * x0 + np.sqrt(1 - beta) * (1 - bar[i - 1]) / (1 - bar[i]) * x
    ours = sample(
        process,
        denoiser,
        jax.random.key(0),
        (5, 2),
        nfe=steps,
        warm_start=jnp.ones((5, 2)) / process.alpha(1.0),
        start=1.0,
        temperature=0.0,
        noise_temperature=0.0,
    )
    np.testing.assert_allclose(ours, x, atol=1e-4)


def test_churn_of_zero_is_heun():
    process = diffusion.edm()
    plain = draw(process, "heun", nfe=21, schedule="karras")
    np.testing.assert_allclose(draw(process, diffusion.edm_churn(0.0), nfe=21, schedule="karras"), plain, atol=1e-5)
    assert np.abs(draw(process, diffusion.edm_churn(40.0), nfe=21, schedule="karras") - plain).max() > 0.01


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("nfe", [1, 2, 5])
def test_nfe_are_what_was_asked_and_each_is_useful(solver, nfe):
    """The denoiser runs `nfe` times, and changing any one of its answers changes the sample."""
    process = diffusion.vp_linear()
    exact = TWO_MODES.denoiser(process)
    seen = []

    @jax.jit
    def run(wrong):
        def denoiser(x, t):
            jax.debug.callback(lambda: seen.append(0), ordered=False)
            return exact(x, t) + jnp.where(t == wrong, 1.0, 0.0)

        return sample(process, denoiser, jax.random.key(0), (4, 2), nfe=nfe, solver=solver)

    right = run(-1.0)
    jax.effects_barrier()
    assert len(seen) == nfe
    from reverie.diffusion.sampling import table

    rows = table(process, SOLVERS[solver], nfe, None, None)
    for t in {float(t) for t in rows.level.t}:
        assert np.abs(run(t) - right).max() > 1e-7, t


def test_temperatures_are_separate():
    """On a Gaussian: no noise gives the mean; halving the initial noise of an ODE halves the standard deviation."""
    process = diffusion.vp_linear()
    still = draw(process, "ddpm", mixture=GAUSSIAN, temperature=0.0, noise_temperature=0.0)
    assert still.std(0).max() < 1e-5
    full, half = (draw(process, "ddim", mixture=GAUSSIAN, temperature=s) for s in (1.0, 0.5))
    np.testing.assert_allclose(half.std(0) / full.std(0), 0.5, rtol=1e-3)
    quiet = draw(process, "ddpm", mixture=GAUSSIAN, noise_temperature=0.5).std(0)
    loud = draw(process, "ddpm", mixture=GAUSSIAN).std(0)
    assert np.all(quiet < 0.9 * loud)


def test_warm_start_keeps_the_distribution_and_costs_less():
    process = diffusion.vp_cosine(20)
    data = TWO_MODES.sample(jax.random.key(3), 8192)
    x = draw(process, "ddpm", nfe=5, shape=(8192, 2), warm_start=data, start=0.25)
    np.testing.assert_allclose(x.mean(0), TWO_MODES.mean, atol=0.05)
    np.testing.assert_allclose(np.cov(x.T), TWO_MODES.covariance, atol=0.08)
    same_mode = (x.sum(1) > -0.6) == (np.asarray(data).sum(1) > -0.6)
    assert same_mode.mean() > 0.95
    # Unnoised at the last step, the plan comes back almost as it was.
    near = draw(process, "ddim", nfe=1, shape=(8192, 2), warm_start=data, start=0.05)
    assert np.abs(near - data).mean() < 0.1


def test_clipping_of_x0_and_of_x():
    process = diffusion.vp_diffusion_ql(5)
    _x, past = sample(
        process, TWO_MODES.denoiser(process), jax.random.key(0), (512, 2), nfe=5, clip_x=(-0.5, 0.5), history=True
    )
    assert np.abs(past).max() <= 0.5
    # The initial noise is no step's result, and the network sees it unclipped.
    large = sample(
        process, lambda x, t: 0.1 * (jnp.abs(x) > 2), jax.random.key(0), (512, 2),
        nfe=1, solver="ddim", clip_x=(-0.5, 0.5),
    )  # fmt: skip
    assert np.abs(large).max() == np.float32(0.1)
    clipped = draw(process, "ddim", nfe=5, clip_x0=(-0.5, 0.5))
    assert np.abs(clipped).max() <= 0.5
    # eps is re-derived from the clipped x0: with the first answer clipped to one point c, x is a c + s eps'.
    t, s = 1.0, 0.8
    c = 0.5
    far, past = sample(
        process,
        lambda x, t: jnp.full_like(x, 9.0),
        jax.random.key(0),
        (4, 1),
        nfe=5,
        solver="ddim",
        clip_x0=(-c, c),
        history=True,
    )
    start = np.asarray(jax.random.normal(jax.random.split(jax.random.key(0))[0], (4, 1)))
    eps = (start - process.alpha(t) * c) / process.sigma(t)
    np.testing.assert_allclose(past[0], process.alpha(s) * c + process.sigma(s) * eps, atol=1e-5)
    np.testing.assert_allclose(far, c, atol=1e-6)


@pytest.mark.parametrize("solver", SOLVERS)
def test_gradient_through_the_chain_agrees_with_finite_differences(solver):
    """d sample / d parameter for a smooth denoiser with a parameter, in float32: 1 % tolerance."""
    for process in (diffusion.vp_cosine(20), diffusion.rectified_flow()):
        exact = GAUSSIAN.denoiser(process)

        @jax.jit
        def total(shift, process=process, exact=exact):
            def denoiser(x, t):
                return exact(x, t) * (1 + shift) + 0.1 * jnp.sin(x)

            x = sample(process, denoiser, jax.random.key(2), (64, 2), nfe=5, solver=solver)
            return (x**2).mean()

        gradient = jax.grad(total)(0.0)
        h = 4e-3
        numeric = (total(h) - total(-h)) / (2 * h)
        assert abs(gradient) > 0.1
        np.testing.assert_allclose(gradient, numeric, rtol=0.01)


def test_gradient_passes_through_every_evaluation():
    """Diffusion-QL's silent error is a stopped gradient in the early evaluations. Here each has a parameter."""
    process = diffusion.vp_diffusion_ql(5)
    exact = TWO_MODES.denoiser(process)

    def total(shifts):
        def denoiser(x, t):
            return exact(x, t) + shifts[jnp.round(5 * t).astype(int) - 1]

        return sample(process, denoiser, jax.random.key(0), (64, 2), nfe=5).sum()

    assert np.all(np.abs(jax.grad(total)(jnp.zeros(5))) > 1e-3)


def test_bad_requests_name_the_value():
    process = diffusion.vp_cosine(20)
    denoiser = TWO_MODES.denoiser(process)
    go = functools.partial(sample, process, denoiser, jax.random.key(0), (4, 2))
    with pytest.raises(ValueError, match="30 sampling steps"):
        go(nfe=30)
    with pytest.raises(ValueError, match="'ddmp' is unknown; choose one of ddpm"):
        go(nfe=5, solver="ddmp")
    with pytest.raises(ValueError, match="'cubic' is unknown"):
        go(nfe=5, schedule="cubic")
    with pytest.raises(ValueError, match="nfe = 0"):
        go(nfe=0)
    with pytest.raises(ValueError, match="needs both"):
        go(nfe=5, start=0.5)
    with pytest.raises(ValueError, match="solver 'heun' of two stages cannot follow"):
        go(nfe=5, solver="heun", guide=lambda x, row: x)
    with pytest.raises(ValueError, match=r"resampling = 2 .* a solver has two stages"):
        go(nfe=5, solver=diffusion.SOLVERS["heun"], resampling=2)
    with pytest.raises(ValueError, match="start in"):
        go(nfe=5, start=1.5, warm_start=jnp.zeros((4, 2)))
