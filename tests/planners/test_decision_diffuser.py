"""Decision Diffuser: what holds whatever it has learned, and directions that are asked for, alone and together."""

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from carries import mixed_and_in_lockstep
from gaussian_windows import gaussian, state_of

import reverie
from reverie.data import Dataset
from reverie.errors import DataError, ReverieError
from reverie.planners import DecisionDiffuser
from reverie.planning import Plan
from reverie.wishes import resolve

SMALL = DecisionDiffuser(
    horizon=2,
    width=32,
    multipliers=(1,),
    diffusion_steps=10,
    hidden=(32,),
    labels=("right", "up"),
    discount=1.0,
    termination_penalty=0.0,
    temperature=1.0,
)
act = jax.jit(lambda algorithm, *arguments: algorithm.act(*arguments), static_argnums=0)


def directions(episodes=800, seed=0) -> Dataset:
    """A step of +-1 in x and in y from the origin, all four directions equally likely. The return is 1 in 80 % of the
    episodes to the right and 20 % of those to the left. Half the episodes say only whether they go right, the others
    only whether they go up: no window is ever told both."""
    rng = np.random.default_rng(seed)
    side = rng.choice([-1.0, 1.0], (episodes, 2))
    actions = np.stack([side + 0.15 * rng.normal(size=(episodes, 2)), np.zeros((episodes, 2))], 1)
    rewards = np.zeros((episodes, 2))
    rewards[:, 1] = rng.random(episodes) < np.where(side[:, 0] > 0, 0.8, 0.2)
    told = rng.random(episodes) < 0.5
    labels = {"right": np.where(told, side[:, 0] > 0, -1), "up": np.where(told, -1, side[:, 1] > 0)}
    return Dataset.from_arrays(
        (np.cumsum(actions, 1) - actions).reshape(-1, 2),
        actions.reshape(-1, 2),
        rewards.reshape(-1),
        timeouts=np.arange(2 * episodes) % 2,
        infos={name: np.repeat(label, 2) for name, label in labels.items()},
        action_low=-2,
        action_high=2,
    )


@pytest.fixture(scope="module")
def trained(optimised):
    algorithm = replace(SMALL, ema_start=500, ema_decay=0.9, learning_rate=2e-3)
    with optimised():
        return reverie.fit(algorithm, directions(), steps=3000, progress=False)


def steps(run, scale=1.0, **wishes):
    """Actions `[600, 2]` at the origin, asked for these things and no more; all their scales times `scale`, which is
    in the carry: nothing is compiled anew for another."""
    algorithm = replace(run.algorithm, guidance_scale=float("target_return" in wishes))
    plan, asked = algorithm.reset(run.spec, 600, resolve("it", run.wishes, wishes, 600))
    carry = plan, asked._replace(scales=scale * asked.scales)
    action, _ = act(run.algorithm, run.state(), run.spec, jnp.zeros((600, 2)), carry, {}, jax.random.key(0))
    return np.asarray(action)


def test_scale_one_samples_what_has_the_return_and_zero_the_marginal(trained):
    """80 % of what has the return 1 goes right and 20 % of what has the return 0, half of all; and a larger scale
    sharpens. (Scales that count from 0 would have 80 % at 0.) Within 15 points, of which 3 standard errors are
    5 and what is not learned yet the rest."""
    asked = ((1, 1), (1, 0), (0, 1), (3, 1))
    share = {(w, r): (steps(trained, w, target_return=r)[:, 0] > 0).mean() for w, r in asked}
    assert share[1, 1] == pytest.approx(0.8, abs=0.15)
    assert share[1, 0] == pytest.approx(0.2, abs=0.15)
    assert share[0, 1] == pytest.approx(0.5, abs=0.15)
    assert share[3, 1] > 0.93


def test_two_labels_that_were_never_told_together_hold_together(trained):
    """Each alone leaves the other at a half."""
    found = {name: steps(trained, **dict.fromkeys(name.split(), 1.0)) for name in ("right_1", "up_1", "right_1 up_1")}
    both = {name: (actions > 0).all(1).mean() for name, actions in found.items()}
    assert both["right_1 up_1"] > 0.75
    assert max(both["right_1"], both["up_1"]) < 0.68
    assert np.abs(np.abs(found["right_1 up_1"]) - 1).mean() < 0.2, "steps are as long as the data's"


def test_not(trained):
    """Right AND NOT up, where NOT is no label of the data but a negative scale; and NOT right alone."""
    plain, found = (steps(trained, right_1=1.0, up_1=scale) for scale in (0.0, -1.0))
    assert (found[:, 0] > 0).mean() > 0.8
    assert (found[:, 1] < 0).mean() > (plain[:, 1] < 0).mean() + 0.2
    away = steps(trained, right_1=-1.0)
    assert (away[:, 0] > 0).mean() < 0.3


def test_the_observation_is_held_and_the_action_leads_to_the_next_state(trained):
    algorithm, spec, state = trained.algorithm, trained.spec, trained.state(0)
    seen = jnp.stack([jnp.linspace(-0.5, 0.5, 600), jnp.zeros(600)], 1)
    carry = algorithm.reset(spec, 600, resolve("it", trained.wishes, {}, 600))
    action, (plan, _) = act(algorithm, state, spec, seen, carry, {}, jax.random.key(0))
    now, then = spec.normalise("observations", seen), plan.rows[:, 0]
    np.testing.assert_allclose(
        action, jnp.clip(spec.denormalise("actions", state.inverse_ema(now, then)), -2, 2), atol=1e-5
    )
    free = lambda x, t: jnp.zeros_like(x)  # noqa: E731
    rows = algorithm.plan(free, spec, seen[:4], jax.tree.map(lambda leaf: leaf[:4], carry[0]), jax.random.key(0))
    np.testing.assert_array_equal(rows[:, 0], now[:4])


def test_half_the_temperature_is_half_the_standard_deviation():
    """The exact denoiser of N(0, v) is linear, so every sample is half of what it was; but for what is in-painted."""
    spec = SMALL.prepare(directions(20))[1]

    def exact(x, t):
        alpha, sigma = SMALL.process.alpha(t), SMALL.process.sigma(t)
        return alpha * 0.01 / (alpha**2 * 0.01 + sigma**2) * x

    def rows(temperature):
        algorithm = replace(SMALL, temperature=temperature)
        return algorithm.plan(exact, spec, jnp.zeros((512, 2)), Plan.none(512, 2, 2), jax.random.key(0))

    whole, half = np.asarray(rows(1.0)), np.asarray(rows(0.5))
    np.testing.assert_allclose(half[:, 1], whole[:, 1] / 2, atol=1e-6)
    np.testing.assert_array_equal(half[:, 0], whole[:, 0])
    assert whole[:, 1].std() > 0.03


def test_windows_have_discounted_returns_from_lowest_to_highest():
    """Rewards of 1 and 2, the end a terminal that takes 3: 1 + 0.5 (2 - 3) and 2 - 3."""
    algorithm = replace(SMALL, discount=0.5, termination_penalty=-3.0, labels=())
    arrays = {"observations": np.eye(2), "actions": np.zeros((2, 1)), "rewards": [1.0, 2.0], "terminals": [0, 1]}
    view, spec = algorithm.prepare(Dataset.from_arrays(**arrays))
    np.testing.assert_array_equal(view.take(jnp.arange(2))["returns"], [1, -1])
    wish = algorithm.wishes(spec)["target_return"]
    assert (wish.low, wish.high, wish.default) == pytest.approx((0.5, 0.5, 0.5))


def test_windows_reach_beyond_a_terminal_and_not_beyond_a_timeout():
    """Two episodes of four steps, the first of which is cut: rows of the second are followed by zeros."""
    algorithm = replace(SMALL, horizon=3, labels=())
    last = np.arange(8) % 4 == 3
    rows = np.arange(1.0, 9.0)[:, None]
    source = Dataset.from_arrays(rows, rows, np.ones(8), last & (rows[:, 0] > 4), last & (rows[:, 0] < 5))
    view, spec = algorithm.prepare(source)
    np.testing.assert_array_equal(view.starts, [0, 1, 4, 5, 6, 7])
    batch = view.take(jnp.arange(6))
    blank = spec.normalise("observations", np.zeros((1, 1)))[0, 0]
    np.testing.assert_array_equal(batch["mask"].sum(1), [3, 3, 3, 3, 2, 1])
    np.testing.assert_array_equal(batch["observations"][4:, 2], np.full((2, 1), blank))


def test_what_is_asked_for_is_a_return_that_an_episode_has_from_its_start():
    """Two episodes of three steps, paid -1 and -2 a step: -3 and -6 from the start, whatever the last steps have."""
    algorithm = replace(SMALL, horizon=1, discount=1.0, labels=())
    arrays = {"observations": np.eye(6), "actions": np.zeros((6, 1)), "timeouts": np.arange(6) % 3 == 2}
    view, spec = algorithm.prepare(Dataset.from_arrays(**arrays, rewards=np.repeat([-1.0, -2.0], 3)))
    returns = spec.denormalise("returns", view.take(jnp.arange(6))["returns"][:, None])[:, 0]
    np.testing.assert_allclose(returns, [-3, -2, -1, -6, -4, -2], atol=1e-5)
    wish = algorithm.wishes(spec)["target_return"]
    assert (wish.low, wish.high, wish.default) == pytest.approx((-6, -3, -3.3))


def test_wishes_change_in_an_episode_and_the_plan_stays():
    spec = SMALL.prepare(directions(20))[1]
    wishes = SMALL.wishes(spec)
    carry = SMALL.reset(spec, 3, resolve("it", wishes, {"right_1": 1.0}, 3))
    plan = Plan(jnp.ones((3, 2, 2)), jnp.full(3, 4))
    plan, asked = SMALL.rewish(
        (plan, carry[1]), {"right_1": np.zeros(3, np.float32), "up_0": np.full(3, 2, np.float32)}
    )
    np.testing.assert_array_equal(plan.step, [4, 4, 4])
    fresh = SMALL.reset(spec, 3, resolve("it", wishes, {"up_0": 2.0}, 3))[1]
    for mine, theirs in zip(jax.tree.leaves(asked), jax.tree.leaves(fresh), strict=True):
        np.testing.assert_array_equal(mine, theirs)


@dataclass(frozen=True)
class Wished(DecisionDiffuser):
    """Asked for something without being told so, as the helper does."""

    def reset(self, spec, n, wishes):
        return super().reset(spec, n, resolve("it", self.wishes(spec), {"up_1": np.arange(n) / n}, n))


def test_environments_at_different_steps_act_as_in_lockstep():
    algorithm = Wished(horizon=2, multipliers=(1,), diffusion_steps=5, hidden=(8,), labels=("up",), warm_start_steps=2)
    spec = algorithm.prepare(directions(20))[1]
    state = gaussian(state_of(algorithm, spec))

    def observe(step):
        return jnp.stack([jnp.arange(4.0) / 10, jnp.full(4, 0.1 * step)], 1)

    mixed, lockstep, _ = mixed_and_in_lockstep(algorithm, state, spec, observe, steps=(0, 1, 2, 5))
    for found, expected in zip(jax.tree.leaves(mixed), jax.tree.leaves(lockstep), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_without_rewards_labels_alone_are_asked_for():
    data = replace(directions(20), rewards=None)
    view, spec = SMALL.prepare(data)
    assert set(SMALL.wishes(spec)) == {"right_0", "right_1", "up_0", "up_1"}
    assert "returns" not in view.take(jnp.arange(2))
    with pytest.raises(DataError, match="no rewards, so that nothing can be asked for"):
        replace(SMALL, labels=()).prepare(data)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"labels": ("left",)}, "no label 'left'; their infos are right, up"),
        ({"labels": ("up", "up")}, "name one of them twice"),
        ({"warm_start_steps": 2, "stride": 2}, "stride = 2"),
        ({"temperature": -1.0}, "temperature = -1"),
    ],
)
def test_impossible_fields_are_refused_before_training(change, sentence):
    with pytest.raises(ReverieError, match=sentence):
        reverie.fit(replace(SMALL, **change), directions(20), steps=1, progress=False)
