"""Diffusion of tokens against transition matrices, Bayes' rule by enumeration, and a known joint distribution."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from reverie.diffusion import (
    Categorical,
    absorbing,
    classifier_free,
    inpaint,
    mask_and_replace,
    sample_tokens,
    uniform,
)
from reverie.diffusion.categorical import kl_divergence
from reverie.errors import ReverieError

K, T = 5, 6
PROCESSES = {
    "absorbing": absorbing(K, T),
    "uniform": uniform(K, T),
    "both": mask_and_replace(K, T, kept=(0.9, 0.1), masked=(0.05, 0.6)),
    "paper": mask_and_replace(K, T),
}


@pytest.fixture(params=PROCESSES)
def process(request):
    return PROCESSES[request.param]


def matrix(process, s, t):
    """q(x_t | x_s) for states of all tokens and the mask, dense, from the schedules' definition: rows are x_s."""
    kept = process.kept[t] / process.kept[s]
    unmasked = (1 - process.masked[t]) / (1 - process.masked[s])
    dense = np.zeros((K + 1, K + 1))
    dense[:K, :K] = kept * np.eye(K) + max(unmasked - kept, 0) / K
    dense[:K, K], dense[K, K] = 1 - unmasked, 1
    return dense


def whole(process, t, s=0):
    """The product of single steps' matrices, from s to t."""
    product = np.eye(K + 1)
    for step in range(s, t):
        product = product @ matrix(process, step, step + 1)
    return product


def dense_posterior(process, s, t):
    """q(x_s | x_t, x0) by Bayes' rule: `[x0, x_t, x_s]`, NaN where x0 cannot become x_t."""
    joint = whole(process, s)[:K, None, :] * whole(process, t, s).T[None]
    with np.errstate(invalid="ignore"):
        return joint / joint.sum(-1, keepdims=True)


def test_marginals_are_those_of_the_product_of_transition_matrices(process):
    t = np.arange(1, T + 1)
    shares = process.between(np.zeros(T, int), t).noisy
    x0, x = np.tile(np.arange(K), (T, 1)), np.tile(np.arange(K + 1), (T, 1))
    log_q = jax.jit(lambda x0: process.marginal(process.one_hot(x0), shares))(x0)
    likelihood = jax.jit(lambda x: process.likelihood(x, shares))(x)
    expected = np.stack([whole(process, each)[:K] for each in t])
    np.testing.assert_allclose(np.exp(log_q), expected, atol=1e-6)
    np.testing.assert_allclose(np.exp(likelihood).swapaxes(1, 2), expected, atol=1e-6)


STEPS = np.array([(0, 1), (2, 3), (5, 6), (1, 5), (0, 6)])


def test_the_posterior_is_bayes_rule_by_enumeration_and_sums_to_one(process):
    x0, x = (np.tile(each.ravel(), (len(STEPS), 1)) for each in np.meshgrid(range(K), range(K + 1), indexing="ij"))
    at = process.between(*STEPS.T)
    got = np.exp(jax.jit(lambda x, x0: process.reverse(x, process.one_hot(x0), at))(x, x0))
    expected = np.stack([dense_posterior(process, s, t).reshape(-1, K + 1) for s, t in STEPS])
    possible = np.isfinite(expected).all(-1)
    np.testing.assert_allclose(got[possible], expected[possible], rtol=2e-4, atol=1e-6)
    np.testing.assert_allclose(got.sum(-1), 1, atol=1e-5)
    np.testing.assert_array_equal(got[~possible].argmax(-1), x[~possible])


def test_the_reverse_step_is_the_posterior_s_mean_over_x0(process):
    p, x = np.random.default_rng(0).dirichlet(np.ones(K)), np.tile(np.arange(K + 1), (len(STEPS), 1))
    at = process.between(*STEPS.T)
    got = np.exp(jax.jit(lambda x: process.reverse(x, jnp.log(p), at))(x))
    for found, (s, t) in zip(got, STEPS, strict=True):
        possible = whole(process, t)[:K] > 1e-12
        posterior = np.where(possible[..., None], np.nan_to_num(dense_posterior(process, s, t)), 0)
        some = possible.any(0)
        np.testing.assert_allclose(found[some], np.einsum("i,ijk->jk", p, posterior)[some], rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("name", ["absorbing", "both"])
def test_what_is_perturbed_has_the_marginal(name):
    process, n = PROCESSES[name], 40_000
    x = process.perturb(jnp.full((n, 1), 3), 3, jax.random.key(0))
    found = np.bincount(np.asarray(x).ravel(), minlength=K + 1) / n
    np.testing.assert_allclose(found, whole(process, 3)[3], atol=4 * np.sqrt(0.25 / n))


@pytest.mark.parametrize("name", ["absorbing", "both"])
def test_the_loss_s_sum_over_steps_is_the_bound(name):
    """Which is tight for one token and its exact denoiser: T E[loss] = H(x0) less what x_T still says of x0."""
    process, n = PROCESSES[name], 20_000
    p = np.array([0.1, 0.2, 0.3, 0.25, 0.15])
    ways = process.between(np.zeros(T, int), np.arange(1, T + 1)).noisy

    def exact(x, t):
        return jnp.log(p) + process.likelihood(x, jax.tree.map(lambda row: jnp.asarray(row)[t - 1], ways))

    x0 = jnp.asarray(np.random.default_rng(0).choice(K, (n, 1), p=p))
    losses = T * np.asarray(jax.jit(lambda x0: process.loss(exact, x0, jax.random.key(1)))(x0))
    joint = p[:, None] * whole(process, T)[:K]
    ratio = np.where(joint > 0, joint, 1) / np.where(joint > 0, p[:, None] * joint.sum(0), 1)
    expected = -(p * np.log(p)).sum() - (joint * np.log(ratio)).sum()
    assert losses.mean() == pytest.approx(expected, abs=4 * losses.std() / np.sqrt(n))


@pytest.mark.parametrize("name", ["absorbing", "both"])
def test_who_knows_x0_loses_nothing_and_gradients_are_finite(name):
    process, x0 = PROCESSES[name], jnp.tile(jnp.arange(K), (16, 1))

    @jax.jit
    @jax.value_and_grad
    def loss(logits):
        return process.loss(lambda x, t: logits, x0, jax.random.key(0), auxiliary=0.1).sum()

    assert float(loss(jnp.where(process.one_hot(x0) == 0, 50.0, 0.0))[0]) == pytest.approx(0, abs=1e-4)
    gradient = loss(jax.random.normal(jax.random.key(1), (16, K, K)))[1]
    assert np.isfinite(gradient).all()
    assert np.abs(gradient).max() > 0


def test_the_auxiliary_term_is_the_cross_entropy():
    process, x0 = PROCESSES["both"], jnp.array([[1, 2], [0, 0]])
    logits = jax.random.normal(jax.random.key(0), (2, 2, K))
    losses = [process.token_losses(lambda x, t: logits, x0, jax.random.key(1), auxiliary=w) for w in (0.0, 0.5)]
    expected = -jnp.take_along_axis(jax.nn.log_softmax(logits), x0[..., None], -1)[..., 0]
    np.testing.assert_allclose(2 * (losses[1] - losses[0]), expected, rtol=1e-5)


JOINT = np.array([[0.3, 0.0, 0.1], [0.0, 0.25, 0.05], [0.05, 0.05, 0.2]])
"""Of two tokens, each of three."""


def denoiser_of(process, joint):
    """The exact p(x0_i | x_t) of both positions, by enumeration."""
    ways = process.between(np.zeros(process.steps, int), np.arange(1, process.steps + 1)).noisy

    def denoiser(x, t):
        seen = jnp.exp(process.likelihood(x, jax.tree.map(lambda row: jnp.asarray(row)[t - 1], ways)))
        weight = joint * seen[..., 0, :, None] * seen[..., 1, None, :]
        return jnp.log(jnp.stack([weight.sum(-1), weight.sum(-2)], -2) + 1e-30)

    return denoiser


@pytest.mark.parametrize(
    "process", [absorbing(3, 300), uniform(3, 300), mask_and_replace(3, 300, kept=(0.999, 1e-3), masked=(5e-4, 0.6))]
)
def test_the_exact_denoiser_draws_the_joint_distribution(process):
    """Whose tokens belong together, though each step draws them apart: with T = 300 the two rarely move at once."""
    n = 4000
    drawn = jax.jit(lambda key: sample_tokens(process, denoiser_of(process, JOINT), key, (n, 2), nfe=300))(
        jax.random.key(0)
    )
    assert drawn.dtype == jnp.int32
    found = np.bincount(np.asarray(drawn[:, 0] * 3 + drawn[:, 1]), minlength=9)
    expected = n * JOINT.ravel()
    likely = expected > 0
    assert found[~likely].sum() <= 0.01 * n
    assert stats.chisquare(found[likely], expected[likely] * found[likely].sum() / n).pvalue > 0.01


def test_fewer_evaluations_keep_each_token_s_distribution():
    process, n = absorbing(3, 100), 4000
    drawn = sample_tokens(process, denoiser_of(process, JOINT), jax.random.key(0), (n, 2), nfe=4)
    for position in range(2):
        found = np.bincount(np.asarray(drawn[:, position]), minlength=3)
        assert stats.chisquare(found, n * JOINT.sum(1 - position)).pvalue > 0.01
    one = sample_tokens(process, denoiser_of(process, JOINT), jax.random.key(0), (n, 2), nfe=1)
    independent = np.outer(JOINT.sum(1), JOINT.sum(0)).ravel()
    assert (
        stats.chisquare(np.bincount(np.asarray(one[:, 0] * 3 + one[:, 1]), minlength=9), n * independent).pvalue > 0.01
    )


def test_sampling_starts_at_masks_or_uniformly():
    assert (absorbing(K, T).prior(jax.random.key(0), (100, 7)) == K).all()
    start = np.bincount(np.asarray(uniform(K, T).prior(jax.random.key(0), (1000, 5))).ravel(), minlength=K + 1)
    assert start[K] == 0
    assert stats.chisquare(start[:K]).pvalue > 0.01


def test_held_tokens_stay_what_they_are_and_draw_the_others_along():
    process = absorbing(3, 100)
    hold = inpaint(jnp.array([True, False]), jnp.array([2, 0]))
    drawn = sample_tokens(process, denoiser_of(process, JOINT), jax.random.key(0), (4000, 2), nfe=100, project=hold)
    np.testing.assert_array_equal(drawn[:, 0], 2)
    found = np.bincount(np.asarray(drawn[:, 1]), minlength=3)
    assert stats.chisquare(found, 4000 * JOINT[2] / JOINT[2].sum()).pvalue > 0.01


def test_guidance_of_scale_one_is_the_conditional_and_of_two_the_sharpened_ratio():
    """In log-probabilities: log u + s (log c - log u), normalised."""
    process, logits = absorbing(4, 8), jax.random.normal(jax.random.key(0), (2, 6, 4))

    def predict(x, t, condition):
        which = jnp.broadcast_to(condition, x.shape)[..., None]
        return jnp.where(which == 1, logits[1], logits[0])

    x, one, zero = jnp.full((3, 6), 4), jnp.ones((3, 6)), jnp.zeros((3, 6))
    conditional = process.log_probabilities(predict(x, 1, one))
    guided = {s: process.log_probabilities(classifier_free(predict, one, zero, s)(x, 1)) for s in (0.0, 1.0, 2.0)}
    np.testing.assert_allclose(guided[1.0], conditional, atol=1e-6)
    np.testing.assert_allclose(guided[0.0], process.log_probabilities(predict(x, 1, zero)), atol=1e-6)
    p, q = (np.exp(jax.nn.log_softmax(each)) for each in (logits[1], logits[0]))
    expected = p**2 / q / (p**2 / q).sum(-1, keepdims=True)
    np.testing.assert_allclose(np.exp(guided[2.0][0]), expected, rtol=1e-4)


def test_without_temperature_the_likeliest_is_drawn():
    process, logits = mask_and_replace(4, 8, kept=(0.9, 0.1), masked=(0.05, 0.6)), jnp.array([0.0, 1.0, 1.5, -1.0])
    drawn = sample_tokens(
        process, lambda x, t: jnp.broadcast_to(logits, (*x.shape, 4)), jax.random.key(0), (500, 3), nfe=8, temperature=0
    )
    np.testing.assert_array_equal(drawn, 2)


def test_kinds_of_tokens_share_a_sequence_and_keep_apart():
    """Positions of 2 and of 5 tokens: no token is drawn that its position does not have, forward or back."""
    mix = {"kept": (0.9, 0.1), "masked": (0.05, 0.6)}
    process = mask_and_replace(np.array([2, 5]), 8, **mix)
    x = process.perturb(jnp.zeros((5000, 2), int), 8, jax.random.key(0))
    assert set(np.unique(x[:, 0])) == {0, 1, 5}
    assert set(np.unique(x[:, 1])) == {0, 1, 2, 3, 4, 5}
    logits = jnp.broadcast_to(jnp.log(jnp.arange(1.0, 6.0)), (50, 2, 5))

    def step(process, x, logits):
        return jax.jit(lambda: process.reverse(x, process.log_probabilities(logits), process.between(3, 4)))()

    got = step(process, x[:50], logits)
    for position, size in enumerate((2, 5)):
        alone = mask_and_replace(size, 8, **mix)
        own = jnp.where(x == process.mask, alone.mask, x)[:50, position]
        expected = step(alone, own, logits[:, position, :size])
        np.testing.assert_allclose(got[:, position, :size], expected[:, :size], rtol=1e-4)
        np.testing.assert_allclose(got[:, position, -1], expected[:, -1], rtol=1e-4)
        assert (got[:, position, size:-1] < -1e8).all()
    drawn = sample_tokens(process, lambda x, t: jnp.zeros((*x.shape, 5)), jax.random.key(0), (500, 2), nfe=8)
    assert drawn.max(0).tolist() == [1, 4]


def test_divergences_where_something_is_impossible():
    p, q = jnp.log(jnp.array([0.5, 0.5, 0.0])), jnp.log(jnp.array([0.25, 0.5, 0.25]))
    assert float(kl_divergence(p, q)) == pytest.approx(0.5 * np.log(2))


@pytest.mark.parametrize(
    "build, message",
    [
        (lambda: absorbing(3, 0), "a process of 0 steps"),
        (lambda: Categorical(3, np.array([1, 0.5, 0.6]), np.zeros(3)), "goes back towards the data"),
        (lambda: Categorical(3, np.array([1, 0.8, 0.6]), np.array([0, 0.5, 0.6])), "leave less than 0"),
        (lambda: Categorical(3, np.array([0.9, 0.5]), np.zeros(2)), "are no process of tokens"),
        (lambda: draw(nfe=9), "nfe = 9 is none of 1 to 8"),
        (lambda: draw(nfe=2, temperature=-1), "temperature = -1 is below 0"),
    ],
)
def test_what_cannot_be_is_refused(build, message):
    with pytest.raises(ReverieError, match=message):
        build()


def draw(**options):
    return sample_tokens(absorbing(3, 8), lambda x, t: jnp.zeros((*x.shape, 3)), jax.random.key(0), (1, 2), **options)
