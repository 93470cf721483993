"""Guidance against posteriors that are known in closed form, and its conventions against identities."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from analytic import GAUSSIAN, TWO_MODES, Mixture

from reverie import diffusion
from reverie.diffusion import sample

MODES = [Mixture([1.0], TWO_MODES.means[i : i + 1], TWO_MODES.variances[i : i + 1]) for i in range(2)]


def predict_mode(process):
    """The exact conditional model p(x | y): y = 0 or 1 names the mode, y = -1 is the null condition."""
    denoisers = [TWO_MODES.denoiser(process)] + [m.denoiser(process) for m in MODES]

    def predict(x, t, y):
        return jnp.take_along_axis(
            jnp.stack([d(x, t) for d in denoisers]), (jnp.asarray(y) + 1)[None, ..., None], axis=0
        )[0]

    return predict


def run(process, denoiser, n=8192, nfe=60, **options):
    options = {"solver": "ddim", "schedule": "quadratic"} | options
    return np.asarray(sample(process, denoiser, jax.random.key(0), (n, 2), nfe=nfe, **options))


def test_scale_one_is_the_conditional_model_and_zero_the_unconditional():
    process = diffusion.vp_linear()
    predict = predict_mode(process)
    y, null = jnp.zeros(512, int), -jnp.ones(512, int)
    for scale, reference in ((1.0, y), (0.0, null)):
        guided = run(process, diffusion.classifier_free(predict, y, null, scale), 512)
        np.testing.assert_allclose(guided, run(process, lambda x, t, c=reference: predict(x, t, c), 512), atol=1e-4)


def test_scale_is_that_of_eps_u_plus_w_difference():
    """eps_w = eps_u + w (eps_c - eps_u), not the (1 + w) convention."""
    process = diffusion.vp_linear()
    x, t = jax.random.normal(jax.random.key(0), (16, 2)), jnp.float32(0.4)
    predict = predict_mode(process)
    y, null = jnp.zeros(16, int), -jnp.ones(16, int)

    def eps(x0):
        return (x - process.alpha(t) * x0) / process.sigma(t)

    base, conditional = eps(predict(x, t, null)), eps(predict(x, t, y))
    guided = eps(diffusion.classifier_free(predict, y, null, 1.2)(x, t))
    np.testing.assert_allclose(guided, base + 1.2 * (conditional - base), atol=1e-5)


@pytest.mark.parametrize(("scale", "wanted"), [(1.5, (2, 8, 2)), (1.0, (8, 2)), (0, (8, 2))])
def test_classifier_free_makes_one_evaluation_of_a_doubled_batch_where_both_halves_count(scale, wanted):
    process = diffusion.vp_linear()
    shapes = []

    def predict(x, t, y):
        shapes.append(x.shape)
        return predict_mode(process)(x, t, y)

    guided = diffusion.classifier_free(predict, jnp.zeros(8, int), -jnp.ones(8, int), scale)
    guided(jnp.zeros((8, 2)), jnp.float32(0.5))
    assert shapes == [wanted]


def test_larger_scales_sharpen():
    process = diffusion.vp_linear()
    predict = predict_mode(process)
    n = 2048
    share = [
        (
            run(process, diffusion.classifier_free(predict, jnp.zeros(n, int), -jnp.ones(n, int), w), n).sum(1) > -0.6
        ).mean()
        for w in (0.0, 0.3, 1.0)
    ]
    assert share[0] < share[1] < share[2]
    assert share[2] > 0.995


def test_composition_is_a_product_of_gaussians():
    """For p(x) = N(0, I) and p(y_i | x) = N(y_i; x_i, s^2), each condition alone shifts its own coordinate, and the
    composition with weights 1 is exactly the posterior given both."""
    process = diffusion.vp_linear()
    s2, y = 0.25, jnp.array([1.0, -2.0])

    def predict(x, t, seen):
        alpha, sigma = process.alpha(t), process.sigma(t)
        mean, variance = seen * y / (1 + s2), jnp.where(seen > 0, s2 / (1 + s2), 1.0)
        return mean + alpha * variance / (alpha**2 * variance + sigma**2) * (x - alpha * mean)

    n = 8192
    conditions = [jnp.broadcast_to(jnp.eye(2)[i], (n, 2)) for i in range(2)]
    x = run(process, diffusion.compose(predict, conditions, [1.0, 1.0], jnp.zeros((n, 2))), n)
    np.testing.assert_allclose(x.mean(0), y / (1 + s2), atol=0.03)
    np.testing.assert_allclose(np.cov(x.T), np.eye(2) * s2 / (1 + s2), atol=0.02)
    with pytest.raises(ValueError, match="2 conditions but 1"):
        diffusion.compose(predict, conditions, [1.0], jnp.zeros((n, 2)))


@pytest.mark.parametrize("scales", [(-1.0, 0.0), (1.0, -0.5)])
def test_a_negative_scale_is_not(scales):
    """p(x) = N(0, v) and p(x | y_i) = N(m_i, v): p(x) prod_i (p(x|y_i)/p(x))^w_i is N(sum_i w_i m_i, v), at every noise
    level. So NOT y_1 is the mirror image of y_1, and y_1 AND NOT y_2 lies away from m_2."""
    process, v = diffusion.vp_linear(), 0.5
    means = jnp.array([[1.0, 0.0], [0.5, 1.5]])

    def predict(x, t, mean):
        alpha, sigma = process.alpha(t), process.sigma(t)
        return mean + alpha * v / (alpha**2 * v + sigma**2) * (x - alpha * mean)

    n = 4096
    x = run(
        process, diffusion.compose(predict, [jnp.broadcast_to(m, (n, 2)) for m in means], scales, jnp.zeros((n, 2))), n
    )
    plain = run(process, lambda x, t: predict(x, t, 0.0), n)
    # The flow moves each sample as without conditions, but for the mean, which it leaves at alpha(t_max) times its own.
    np.testing.assert_allclose(x - plain, np.broadcast_to(jnp.array(scales) @ means, x.shape), atol=0.02)


ONE, OTHER = Mixture([0.4, 0.6], [[-1.0], [0.8]], [[0.1], [0.2]]), Mixture([0.5, 0.5], [[-0.9], [1.2]], [[0.15], [0.1]])
"""Of one number each."""


def side_by_side(process, *mixtures):
    """The denoiser of several numbers, each independent of the others and of its own mixture."""
    each = [mixture.denoiser(process) for mixture in mixtures]
    return lambda x, t: jnp.concatenate([d(x[..., i : i + 1], t) for i, d in enumerate(each)], -1)


def only(mixture, k):
    return Mixture([1.0], mixture.means[k : k + 1], mixture.variances[k : k + 1])


def test_of_a_mixture_what_was_never_told_together_is_sampled_together():
    """Two conditions name a component of one number each: together, the posterior is the one component of both; alone,
    the other number is as it was. NOT what lies m away, by a scale -w, is exactly -w m away; nothing else changes."""
    process, m, w = diffusion.vp_linear(), 0.7, 0.5
    told = {0: (ONE, OTHER), 1: (only(ONE, 1), OTHER), 2: (ONE, only(OTHER, 0))}

    def predict(x, t, y):
        denoisers = [side_by_side(process, *told[i]) for i in (0, 1, 2)]
        return jnp.take_along_axis(jnp.stack([d(x, t) for d in denoisers]), y[None, ..., None], 0)[0]

    n = 8192
    conditions, null = [jnp.full(n, i) for i in (1, 2)], jnp.zeros(n, int)
    x = run(process, diffusion.compose(predict, conditions, [1.0, 1.0], null), n)
    means, variances = (np.array([getattr(ONE, a)[1, 0], getattr(OTHER, a)[0, 0]]) for a in ("means", "variances"))
    np.testing.assert_allclose(x.mean(0), means, atol=4 * np.sqrt(variances.max() / n) + 0.01)
    np.testing.assert_allclose(x.var(0), variances, rtol=0.08)
    alone = run(process, diffusion.compose(predict, conditions[:1], [1.0], null), n)
    np.testing.assert_allclose(alone.mean(0), [means[0], OTHER.mean[0]], atol=0.06)

    one, away = only(OTHER, 0), Mixture([1.0], OTHER.means[:1] + m, OTHER.variances[:1])

    def shift_one(x, t, y):
        return jnp.where(y[..., None], side_by_side(process, ONE, away)(x, t), side_by_side(process, ONE, one)(x, t))

    x = run(process, diffusion.compose(shift_one, [jnp.ones(n, bool)], [-w], jnp.zeros(n, bool)), n)
    plain = run(process, side_by_side(process, ONE, one), n)
    np.testing.assert_allclose(x - plain, np.broadcast_to([0, -w * m], x.shape), atol=0.02)


def test_scores_of_several_models_add():
    """One model knows of the first number, one of the second, and the third of neither: p_1 p_2 / p_3 knows both, at
    every noise level. With equal scales of sum 1 two Gaussians alike but for their means have their mean."""
    process, n = diffusion.vp_linear(), 8192
    free = Mixture([1.0], [[0.2]], [[1.0]])
    models = [side_by_side(process, *each) for each in ((ONE, free), (free, OTHER), (free, free))]
    x = run(process, diffusion.combine(process, models, [1.0, 1.0, -1.0]), n)
    np.testing.assert_allclose(x, run(process, side_by_side(process, ONE, OTHER), n), atol=1e-4)
    np.testing.assert_allclose(x.mean(0), [ONE.mean[0], OTHER.mean[0]], atol=0.05)

    means = [jnp.array([[1.0, -0.5]]), jnp.array([[0.2, 0.5]]), jnp.array([[0.6, 0.0]])]
    one, two, between = (Mixture([1.0], mean, jnp.full((1, 2), 0.3)).denoiser(process) for mean in means)
    x = run(process, diffusion.combine(process, [one, two], [0.5, 0.5]), 512)
    np.testing.assert_allclose(x, run(process, between, 512), atol=1e-5)


def test_noises_add_whatever_the_scales():
    process = diffusion.vp_linear()
    x, t = jax.random.normal(jax.random.key(0), (16, 2)), jnp.float32(0.4)
    models = [TWO_MODES.denoiser(process), GAUSSIAN.denoiser(process)]

    def eps(denoiser):
        return (x - process.alpha(t) * denoiser(x, t)) / process.sigma(t)

    found = eps(diffusion.combine(process, models, [0.7, 0.6]))
    np.testing.assert_allclose(found, 0.7 * eps(models[0]) + 0.6 * eps(models[1]), atol=1e-5)
    with pytest.raises(ValueError, match="2 denoisers but 1 scales"):
        diffusion.combine(process, models, [1.0])
    flow = diffusion.rectified_flow()  # which has no signal at t = 1
    assert jnp.isfinite(diffusion.combine(flow, models, [1.0, 1.0])(x, jnp.float32(1.0))).all()


def test_conditions_are_trees():
    """A dictionary of arrays as the condition, of several shapes and without some batch axes, through the loss, the
    denoiser and guidance, is the same as the parts by themselves."""
    process = diffusion.vp_cosine(20)
    n = 16
    null = {"state": jnp.zeros((n, 3)), "image": {"mean": jnp.zeros(())}}
    condition = {"state": jax.random.normal(jax.random.key(1), (n, 3)), "image": {"mean": jnp.float32(0.3)}}
    x = jax.random.normal(jax.random.key(0), (n, 2))

    def net(x, feature, cond):
        return 0.1 * x + cond["state"][..., :2] + jnp.expand_dims(cond["image"]["mean"], (-1, -2))

    def flat(x, feature, cond):
        return 0.1 * x + cond

    parts = condition["state"][:, :2] + 0.3
    loss = process.loss(net, x, jax.random.key(2), condition)
    np.testing.assert_allclose(loss, process.loss(flat, x, jax.random.key(2), parts), rtol=1e-5)
    t = jnp.float32(0.5)
    guided = diffusion.compose(lambda *a: process.denoise(net, *a), [condition, null], [1.5, 2.0], null)(x, t)
    plain = diffusion.classifier_free(lambda *a: process.denoise(flat, *a), parts, 0 * parts, 1.5)(x, t)
    np.testing.assert_allclose(guided, plain, rtol=1e-5)
    with pytest.raises(ValueError, match="give each the null's"):
        diffusion.classifier_free(lambda *a: process.denoise(net, *a), {"state": parts}, null, 1.5)


@pytest.mark.parametrize("name", ["vp-linear", "vp-cosine", "ve", "rectified-flow"])
def test_energy_guidance_at_weight_one_is_the_posterior(name):
    """Prior N(m, v), likelihood N(y; x, s^2). log p(y | x_t) is known: y | x_t ~ N(E[x0|x_t], s^2 + Var[x0|x_t])."""
    process = diffusion.PROCESSES[name]()
    mean, variance = GAUSSIAN.means[0], GAUSSIAN.variances[0]
    y, s2 = jnp.array([1.0, 0.5]), 0.3
    denoiser = GAUSSIAN.denoiser(process)

    def log_likelihood(x, t):
        left = variance * process.sigma(t) ** 2 / (process.alpha(t) ** 2 * variance + process.sigma(t) ** 2)
        return -0.5 * ((y - denoiser(x, t)) ** 2 / (s2 + left)).sum(-1)

    schedule = "karras" if name == "ve" else "quadratic"
    guided = diffusion.energy(process, denoiser, log_likelihood)
    posterior = 1 / (1 / variance + 1 / s2)
    for solver in ("ddim", "ddpm-beta"):
        x = run(process, guided, 20_000, 100, solver=solver, schedule=schedule)
        np.testing.assert_allclose(x.mean(0), posterior * (mean / variance + y / s2), atol=0.04)
        np.testing.assert_allclose(x.var(0), posterior, rtol=0.1)
    unguided = run(process, diffusion.energy(process, denoiser, log_likelihood, 0.0), 512)
    np.testing.assert_array_equal(unguided, run(process, denoiser, 512))


def test_value_gradient_moves_by_scale_times_posterior_variance():
    """One evaluation from x: the guide adds steps * scale * variance * gradient before it, only at times >= stop."""
    process = diffusion.vp_cosine(20)
    goal = jnp.array([3.0, -1.0])
    seen = []

    def denoiser(x, t):
        jax.debug.callback(lambda x: seen.append(np.asarray(x)), x, ordered=True)
        return jnp.zeros_like(x)

    def go(**options):
        seen.clear()
        guide = diffusion.value_gradient(lambda x, t: (x * goal).sum(-1), 0.1, **options)
        sample(process, denoiser, jax.random.key(0), (1, 2), nfe=20, guide=guide, noise_temperature=0.0)
        jax.effects_barrier()
        return np.array(seen)

    bar = np.append(1.0, np.asarray(process.alpha(np.arange(1, 21) / 20)) ** 2)
    variance = (1 - bar[1:] / bar[:-1]) * (1 - bar[:-1]) / (1 - bar[1:])
    start = np.asarray(jax.random.normal(jax.random.split(jax.random.key(0))[0], (1, 2)))
    np.testing.assert_allclose(go(steps=2)[0] - start, 2 * 0.1 * variance[-1] * goal[None], rtol=1e-3)
    # Released Diffuser zeroes the gradient at indices below t_stopgrad = 2, that is at t = 1/20 and 2/20.
    free, stopped = go(steps=2), go(steps=2, stop=3 / 20 - 1e-6)
    np.testing.assert_allclose(free[:18], stopped[:18], rtol=1e-6)
    assert np.abs(free[18:] - stopped[18:]).max() > 1e-4
    held = diffusion.inpaint(jnp.array([True, False]), 0.0)
    assert np.all(go(steps=2, project=held)[:, 0, 0] == 0)


def shifts(solver, nfe, *, counted, variance=1.0, stop=0.0):
    """How far a constant gradient of 1 moves samples of N(0, v) by a chain of 20 levels, and by how much in all steps'
    inputs are moved. All is linear, so that noise of 0 tells."""
    process = diffusion.vp_cosine(20)
    guide = diffusion.value_gradient(lambda x, t: x.sum(-1), 1.0, stop=stop, process=process if counted else None)
    moved = []

    def counting(x, row):
        after = guide(x, row)
        jax.debug.callback(lambda size: moved.append(float(size)), (after - x)[0, 0])
        return after

    def denoiser(x, t):
        alpha, sigma = process.alpha(t), process.sigma(t)
        return alpha * variance / (alpha**2 * variance + sigma**2) * x

    options = {"nfe": nfe, "solver": solver, "noise": jnp.zeros((1, 1)), "noise_temperature": 0.0}
    x = sample(process, denoiser, jax.random.key(0), (1, 1), guide=counting, **options)
    jax.effects_barrier()
    return float(x[0, 0]), sum(moved)


@pytest.mark.parametrize("stop", [0.0, 2.5 / 20])
@pytest.mark.parametrize("solver", ["ddpm", "ddim"])
def test_value_gradient_counts_the_levels_that_a_step_skips(solver, stop):
    """All levels: the same with and without, but for rounding. Fewer: inputs are moved as far in all as by the full
    chain, by the steps' own variances a third as far at an NFE of 5; and the sample 61 % (DDPM) or 82 % (DDIM) as far
    as by the full chain, by the steps' own variances 23 and 26 %."""
    full, moved = shifts(solver, 20, counted=True, stop=stop)
    assert (full, moved) == pytest.approx(shifts(solver, 20, counted=False, stop=stop), rel=1e-6)
    for nfe, least, most in ((10, 0.85, 0.65), (5, 0.6, 0.27)):
        counted, own = (shifts(solver, nfe, counted=each, stop=stop) for each in (True, False))
        assert counted[1] == pytest.approx(moved, rel=1e-4)
        assert own[1] < 0.7 * moved
        assert own[0] / full < most < least < counted[0] / full < 1


def test_value_gradient_of_zero_scale_changes_nothing_and_larger_ones_come_nearer():
    """With V = -|x - g|^2, the end's error falls monotonically with the scale (until the samples reach the goal)."""
    process = diffusion.vp_cosine(20)
    goal = jnp.array([0.6, 0.5])

    def error(scale):
        guide = diffusion.value_gradient(lambda x, t: -((x - goal) ** 2).sum(-1), scale, steps=2)
        x = run(process, TWO_MODES.denoiser(process), 1024, 20, solver="ddpm", schedule="uniform", guide=guide)
        return x, np.square(x - goal).sum(-1).mean()

    plain = run(process, TWO_MODES.denoiser(process), 1024, 20, solver="ddpm", schedule="uniform")
    np.testing.assert_array_equal(error(0.0)[0], plain)
    errors = [error(s)[1] for s in (0.0, 0.03, 0.1, 0.3)]
    assert np.all(np.diff(errors) < 0), errors
