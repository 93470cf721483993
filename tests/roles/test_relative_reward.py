"""Relative rewards of planners whose windows are Gaussian, or of two kinds, so that their networks are known."""

from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import reverie
from reverie.baselines import BC
from reverie.data import Dataset
from reverie.diffusion.process import expand
from reverie.errors import RunError
from reverie.learning import Optimised
from reverie.planners import Diffuser, DiffuserMaze
from reverie.roles import RelativeReward
from reverie.roles.relative_reward import Led, Pair, State, pair_runs, posterior, steer_run
from reverie.training import Run

H, LEVELS = 4, 5
SIZES = {"horizon": H, "width": 8, "multipliers": (1,), "diffusion_steps": LEVELS, "value_updates": 0}
PLANNER = Diffuser(**SIZES, candidates=1, guidance_scale=0.0)
REWARD = RelativeReward.like(PLANNER, batch_size=32, learning_rate=0.03, hidden=(32,))
PROCESS = REWARD.process
MASK = np.zeros((H, 2), bool)
MASK[0, 1] = True
MU = np.arange(1.0, 2 * H + 1).reshape(H, 2) / 8


class Windows(eqx.Module):
    """In the place of a planner's network: windows of N(mean, v) for one of several means, each as likely."""

    means: jax.Array
    """`[K, H, D]`."""
    variance: jax.Array

    def __call__(self, x, feature, cond=None):
        t = (feature + 1) / LEVELS
        alpha, sigma = (expand(each(t), x[..., None, :, :]) for each in (PROCESS.alpha, PROCESS.sigma))
        marginal = alpha**2 * self.variance + sigma**2
        away = x[..., None, :, :] - alpha * self.means
        share = jax.nn.softmax(-(away**2 / (2 * marginal)).sum((-2, -1)))
        return (share[..., None, None] * (self.means + alpha * self.variance / marginal * away)).sum(-3)


class Linear(eqx.Module):
    """A reward whose gradient is `weight` `[LEVELS, H, D]` of the level."""

    weight: jax.Array

    def __call__(self, x, feature):
        return (self.weight[jnp.round(feature).astype(int)] * x).sum((-2, -1))


def windows(*means, variance=1.0):
    return Windows(jnp.stack([jnp.asarray(each, jnp.float32) for each in means]), jnp.float32(variance))


def exact(mu):
    """The gradients of the relative reward of N(mu, 1) to N(0, 1): the posterior means are so far apart, anywhere."""
    t = jnp.arange(1, LEVELS + 1) / LEVELS
    return (posterior(PROCESS, t)[1] * PROCESS.sigma(t) ** 2)[:, None, None] * jnp.where(MASK, 0, mu)


def begun(base, expert, net, algorithm=REWARD):
    return State(Optimised.create(net, algorithm.optimiser), net, base, expert, jnp.zeros((), jnp.int32))


@pytest.mark.parametrize("mu", [MU, 0 * MU], ids=["an expert", "the base itself"])
def test_the_gradient_of_gaussians_is_the_difference_of_their_means(mu):
    """Least squares from anywhere; where both are the same it is 0."""
    algorithm = replace(REWARD, penalty=0.0)
    state = begun(windows(0 * MU), windows(mu), Linear(jax.random.normal(jax.random.key(0), (LEVELS, H, 2))))

    def update(state, key):
        x = jax.random.normal(key, (32, H, 2))
        return algorithm.update(state, {"actions": x[..., :1], "observations": x[..., 1:]}, key)

    run = jax.jit(lambda state, keys: jax.lax.scan(update, state, keys))
    state, metrics = run(state, jax.random.split(jax.random.key(1), 500))
    found = np.where(MASK, 0, state.reward.params.weight)
    np.testing.assert_allclose(found, exact(mu), atol=2e-3)
    assert (metrics["unexplained"][-1] < 1e-3) or not mu.any()


def test_the_gradient_is_asked_for_where_the_base_s_chain_goes():
    """At its posterior mean, with the first observation as it is, whose gradient is not asked for."""
    x = jnp.ones((3, H, 2))
    ask = jax.jit(lambda key: REWARD.aims(begun(windows(0 * MU), windows(MU), None), x, MASK, key))
    at, t, wanted = ask(jax.random.key(0))
    np.testing.assert_allclose(at[:, 0, 1], 1.0)
    level = np.round(np.asarray(t) * LEVELS).astype(int) - 1
    np.testing.assert_allclose(wanted, np.asarray(exact(MU))[level], atol=1e-5)
    kept, clean = (np.asarray(each)[:, None, None] for each in posterior(PROCESS, t))
    alpha = np.asarray(PROCESS.alpha(t))[:, None, None]
    noisy = jax.random.normal(jax.random.split(jax.random.key(0))[1], x.shape)
    noisy = np.where(MASK, 1.0, PROCESS.perturb(x, t, noisy))
    np.testing.assert_allclose(at, np.where(MASK, 1.0, (kept + clean * alpha) * noisy), atol=1e-5)


@pytest.mark.parametrize("scale", [0.5, 1.0])
def test_the_base_led_by_the_exact_reward_plans_as_the_expert_does(scale):
    """And half as far from itself by half of it: sample by sample, in-painting and all."""
    values, key = jnp.full((16, H, 2), 0.7), jax.random.key(0)
    led = Led(windows(0 * MU), Linear(exact(MU)), MASK, PROCESS, scale)

    @jax.jit
    def plans(net):
        return REWARD.denoise(PROCESS.denoiser(net), key, values, MASK)

    np.testing.assert_allclose(plans(led), plans(windows(scale * MU)), atol=1e-4)


@pytest.mark.parametrize("shape", [(), (LEVELS,)], ids=["a level for all", "a level each"])
def test_below_the_stop_the_led_network_is_the_base_s_bit_for_bit(shape):
    base, x = windows(0 * MU, MU), jax.random.normal(jax.random.key(0), (LEVELS, H, 2))
    led = Led(base, Linear(exact(MU)), MASK, PROCESS, 1.0, 2)
    for level in range(LEVELS) if shape == () else [np.arange(LEVELS)]:
        feature = jnp.asarray(level, jnp.float32)
        same = np.asarray(led(x, feature) == base(x, feature)).all((1, 2))
        np.testing.assert_array_equal(same, np.broadcast_to(np.asarray(level) < 2, LEVELS))
    assert steer_run(BASE, reward_run(2)).acting(reward_stop=3).algorithm.reward_stop == 3


def reward_run(seeds) -> Run:
    state = begun(None, None, Linear(exact(MU)))
    return Run(REWARD, BASE.spec, jax.tree.map(lambda x: jnp.stack([x] * seeds), state), 0, tuple(range(seeds)))


def data(size=1, seed=0, episodes=20, **arrays) -> Dataset:
    rng, n = np.random.default_rng(seed), episodes * 6
    given = {
        "observations": rng.normal(size=(n, size)),
        "actions": rng.uniform(-1, 1, (n, 1)),
        "rewards": np.zeros(n),
        "timeouts": np.arange(n) % 6 == 5,
    }
    return Dataset.from_arrays(**given | arrays)


class Planned(eqx.Module):
    """What a diffuser's state has of what is asked here."""

    denoiser_ema: Windows
    value_ema: Linear


def run_of(mu=MU, planner=PLANNER, source=data(), seeds=(0, 1), spec=None) -> Run:
    spec = planner.prepare(source, spec)[1]
    state = Planned(windows(mu, variance=0.04), Linear(jnp.zeros((LEVELS, H, 2))))
    return Run(planner, spec, jax.tree.map(lambda leaf: jnp.stack([leaf] * len(seeds)), state), 0, seeds)


BASE = run_of(0 * MU)
EXPERT = run_of(spec=BASE.spec)


class Known(RelativeReward):
    """Of planners whose networks are `Windows` of one mean."""

    def network(self, key, spec):
        return windows(0 * MU)


def test_it_is_trained_from_two_runs_in_the_units_of_the_base():
    """Whose networks it leaves alone."""
    algorithm = Known.like(PLANNER, batch_size=4, hidden=(32,))
    other = data(seed=1)
    run = reverie.fit(algorithm, other, steps=2, segment=2, seeds=2, initial=pair_runs(BASE, EXPERT), progress=False)
    for mine, theirs in ((run.spec, BASE.spec), (run.states.base, BASE.states.denoiser_ema)):
        for a, b in zip(jax.tree.leaves(mine), jax.tree.leaves(theirs), strict=True):
            np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(run.states.expert.means, EXPERT.states.denoiser_ema.means)
    assert run.step == 2 and run.metrics()["unexplained"].shape == (2,)
    steered = steer_run(BASE, run, 0.0)
    policies = [each.policy(1) for each in (BASE, steered)]
    seen = np.full(1, 0.3, np.float32)
    base, still = (policy.act(seen, policy.reset(seed=3))[0] for policy in policies)
    np.testing.assert_allclose(still, base, atol=1e-5)
    assert steered.acting(reward_scale=2.0).name == "steered (reward_scale=2.0)"


def test_without_two_runs_there_is_nothing_to_learn():
    for initial, sentence in (
        (None, r"relative-reward begins from pair_runs\(base, expert\), two runs of diffuser; give it by initial="),
        (BASE, r"relative-reward begins from pair_runs\(.*\), two runs of diffuser, and this one is of diffuser"),
    ):
        with pytest.raises(RunError, match=sentence):
            reverie.fit(REWARD, data(), steps=1, seeds=2, initial=initial, progress=False)
    with pytest.raises(RunError, match=r"diffusion_steps = 7 of relative-reward is 5 in the runs"):
        reverie.fit(replace(REWARD, diffusion_steps=7), data(), steps=1, seeds=2, initial=pair_runs(BASE, EXPERT))


@pytest.mark.parametrize(
    ("expert", "sentence"),
    [
        (lambda: run_of(source=data(2)), r"The base has observations that are vectors float32 \[1\], and the expert's"),
        (lambda: run_of(source=data(actions=np.zeros((120, 2)))), r"The base has actions that are"),
        (lambda: run_of(source=data(seed=1)), r"observations of the two runs are in other units \(column 0 is\)"),
        (lambda: run_of(planner=replace(PLANNER, diffusion_steps=6), spec=BASE.spec), "diffusion_steps = 5 and the"),
        (lambda: run_of(seeds=(0,), spec=BASE.spec), "The base has 2 seeds and the expert 1"),
        (lambda: replace(BASE, algorithm=BC()), "bc plans no windows from an observation alone"),
        (lambda: replace(BASE, algorithm=DiffuserMaze(horizon=4, multipliers=(1,))), "diffuser-maze plans no windows"),
    ],
)
def test_runs_that_have_no_windows_in_common_are_refused(expert, sentence):
    with pytest.raises(RunError, match=sentence):
        pair_runs(BASE, expert())


def test_a_reward_of_other_windows_leads_nothing():
    reward = reward_run(1)
    one = run_of(0 * MU, seeds=(0,))
    assert steer_run(one, reward).algorithm.reward_scale == 1
    for base, other, sentence in (
        (one, BASE, "diffuser is no relative reward"),
        (one, replace(reward, spec=run_of(source=data(seed=1)).spec), "in other units"),
        (one, replace(reward, algorithm=replace(REWARD, horizon=8)), "horizon = 4 and the reward 8"),
        (BASE, reward, "The base has 2 seeds and the reward 1"),
        (run_of(source=data(2), seeds=(0,)), reward, "The base has observations"),
    ):
        with pytest.raises(RunError, match=sentence):
            steer_run(base, other)
    assert isinstance(pair_runs(BASE, EXPERT).algorithm, Pair)


@pytest.mark.slow
def test_a_base_of_two_ways_is_led_to_the_expert_s():
    """The network learns where the ways part, and of finished windows tells the expert's from the other's."""
    side = np.linspace(0, 1, H)[:, None] * np.ones(2)
    base, expert = (windows(*means, variance=0.01) for means in ((side, -side), (side, side)))
    algorithm = replace(REWARD, batch_size=64, learning_rate=3e-3, hidden=(64, 64), ema_start=500, ema_decay=0.9)
    state = begun(base, expert, algorithm.reward_network(jax.random.key(0), BASE.spec), algorithm)

    def update(state, key):
        way = jnp.where(jax.random.bernoulli(key, 0.5, (64, 1, 1)), side, -side)
        x = way + 0.1 * jax.random.normal(key, way.shape)
        return algorithm.update(state, {"actions": x[..., :1], "observations": x[..., 1:]}, key)

    run = jax.jit(lambda state, keys: jax.lax.scan(update, state, keys))
    state, _ = run(state, jax.random.split(jax.random.key(1), 1000))
    start, key = jnp.zeros((400, H, 2)), jax.random.key(2)
    plans = jax.jit(lambda net: REWARD.denoise(PROCESS.denoiser(net), key, start, MASK))
    free, led = ((plans(Led(base, state.reward_ema, MASK, PROCESS, s))[:, -1] > 0).mean() for s in (0.0, 1.0))
    assert abs(free - 0.5) < 0.1
    assert led > 0.9
    right, left = algorithm.rewards(state, jnp.stack([side, -side]).astype(jnp.float32))
    assert right > left
