"""Learning from one's own plans: which are kept, what they become, and what a planner learns of them."""

from dataclasses import dataclass, replace
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import reverie
from reverie.configs import Adam
from reverie.data import Dataset, Spec, windows
from reverie.data.blocks import Blocks
from reverie.errors import RunError
from reverie.planners import Diffuser, DiffuserMaze
from reverie.planning import Plan
from reverie.synthesizers import MBPO
from reverie.training import Run
from reverie.training.adapting import Imagined, _model, chosen, imagine, judge
from reverie.training.loop import each_seed, initial_states

H = 5
SMALL = {"horizon": 4, "width": 32, "multipliers": (1,), "diffusion_steps": 2, "batch_size": 8}


def untrained(algorithm, data):
    spec = algorithm.prepare(data)[1]
    return Run(algorithm, spec, initial_states(algorithm, each_seed((0,)), spec), 0, (0,))


class Mean(eqx.Module):
    action: jax.Array


@dataclass(frozen=True)
class Guess(Adam):
    """Learns the mean action of the data. Its plans are constant actions around it, from where it is; every other plan
    is of another world, in which the state moves twice as far."""

    name: ClassVar = "guess"
    role: ClassVar = "planner"
    paper: ClassVar = "none"
    needs: ClassVar = ()
    parts: ClassVar = ("actions", "observations")
    stride: ClassVar = 1

    def blocks(self, spec):
        return Blocks.of(actions=1, observations=1)

    def prepare(self, data, spec=None):
        spec = spec or Spec.fit(data)
        return windows(data, spec, H), spec

    def init(self, key, spec):
        return Mean(jnp.zeros(()))

    def update(self, state, batch, key):
        action = state.action + 0.1 * (batch["actions"].mean() - state.action)
        return Mean(action), {"action": action}

    def reset(self, spec, n, wishes):
        return Plan.none(n, H, 2)

    def act(self, state, spec, observation, carry, feedback, key):
        return jnp.full((len(observation), 1), state.action), carry

    def plan(self, state, spec, observation, carry, key):
        n = len(observation)
        action = state.action + 0.3 * jax.random.normal(key, (n, 1, 1)) + jnp.zeros((n, H, 1))
        speed = 0.1 * (1 + jnp.arange(n)[:, None] % 2)
        states = observation + speed * jnp.arange(H) * action[:, :1, 0]
        return jnp.concatenate([action, states[..., None]], -1)


def moves(observations, actions):
    """The world: the state moves by a tenth of the action. Rewarded are large states."""
    return observations + 0.1 * actions, observations[:, 0]


def data(episodes=40) -> Dataset:
    """From the origin at actions around 0."""
    rng = np.random.default_rng(0)
    actions = 0.3 * rng.normal(size=(episodes, 1)) + np.zeros((episodes, H))
    states = 0.1 * np.cumsum(actions, 1) - 0.1 * actions
    last = np.tile(np.arange(H) == H - 1, episodes)
    return Dataset.from_arrays(
        states.reshape(-1, 1), actions.reshape(-1, 1), states.ravel(), None, last, action_low=-3, action_high=3
    )


def fitted(steps=60):
    return reverie.fit(Guess(batch_size=32), data(), steps=steps, progress=False)


def test_kept_are_the_best_of_those_that_are_near():
    error, quality = np.array([0.1, 0.2, 0.3, 0.4, 9.0, 9.0, 9.0, 9.0]), np.array([3.0, 1, 4, 2, 9, 9, 9, 9])
    np.testing.assert_array_equal(np.flatnonzero(chosen(error, quality, 3 / 7, 0.6)), [0, 2])
    assert chosen(error, quality, 1.0, 0.0).all()
    assert chosen(np.full(8, 7.0), np.full(8, -1e9), 0.5, 0.99).all(), "where all are alike all are kept"


def test_plans_are_judged_by_the_model_step_by_step():
    """Every other plan moves twice as far as the world: it is wrong by a tenth of its action in every step."""
    run = fitted()
    plans = imagine(run, data(), 300, np.random.default_rng(0))
    assert plans.shape == (300, H, 2)
    imagined = judge(run, plans, moves)
    np.testing.assert_allclose(imagined.error[::2], 0, atol=1e-5)
    np.testing.assert_allclose(imagined.error[1::2], np.abs(0.1 * imagined.actions[1::2, 0, 0]), rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(imagined.rewards, imagined.observations[..., 0])
    broken = plans.copy()
    broken[0, 3, 1] += 5
    assert judge(run, broken, moves).error[0] == pytest.approx(5, rel=1e-4), "one wrong step is enough"


def test_kept_plans_are_episodes():
    observations, actions = np.arange(12.0).reshape(2, 3, 2), np.zeros((2, 3, 1))
    imagined = Imagined(observations, actions, observations + 100, np.ones((2, 3)), np.zeros(2))
    made = imagined.dataset(np.array([False, True]), replace(data(), attributes={"environment": "somewhere"}))
    np.testing.assert_array_equal(made.episodes, [[0, 3]])
    np.testing.assert_array_equal(made.observations, observations[1])
    np.testing.assert_array_equal(made.next_observations, [[8, 9], [10, 11], [110, 111]])
    np.testing.assert_array_equal(made.timeouts, [False, False, True])
    assert made.attributes["environment"] == "somewhere"
    assert not made.terminals_known


def learned(**options):
    run = reverie.adapt(fitted(), data(), moves, steps=60, rounds=3, plans=400, progress=False, **options)
    return float(run.state().action)


def test_a_planner_gets_better_by_its_best_plans_and_not_by_just_any():
    assert learned(quality_quantile=0.8) > 0.4
    assert abs(learned(quality_quantile=0.0)) < 0.15


def test_what_the_model_contradicts_is_not_learned():
    """Plans of the other world earn twice as much. With all errors allowed most of what is kept is theirs."""
    run = fitted()
    imagined = judge(run, imagine(run, data(), 400, np.random.default_rng(0)), moves)
    quality = imagined.rewards.sum(1)
    other = np.arange(400) % 2 == 1
    assert other[chosen(imagined.error, quality, 1.0, 0.9)].mean() > 0.65
    assert other[chosen(imagined.error, quality, 0.5, 0.9)].mean() < 0.2


def test_quality_may_be_one_s_own_and_every_round_has_a_folder(tmp_path):
    def leftmost(imagined):
        return -imagined.observations[:, -1, 0]

    assert learned(quality=leftmost, out=tmp_path) < -0.4
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["round-1", "round-2", "round-3"]
    assert reverie.load(tmp_path / "round-3").step == 60


def test_a_run_of_learned_dynamics_is_a_model():
    """Of an ensemble that says the mean everywhere: the state moves by the mean change, for the mean reward."""
    given = replace(data(), terminals_known=True)
    algorithm = MBPO(hidden=(8,), policy_hidden=(8,))
    spec = algorithm.prepare(given)[1]
    state = jax.tree.map(lambda x: jnp.zeros((1, *x.shape)), jax.eval_shape(algorithm.init, jax.random.key(0), spec))
    after, rewards = _model(Run(algorithm, spec, state, 0, (0,)), spec)(given.observations[:7], given.actions[:7])
    complete = given.with_next_observations()
    change = (complete.next_observations - complete.observations).mean()
    np.testing.assert_allclose(after, given.observations[:7] + change, atol=1e-5)
    np.testing.assert_allclose(rewards, np.full(7, complete.rewards.mean()), atol=1e-5)


def test_dynamics_of_other_observations_or_actions_are_refused():
    rng, run = np.random.default_rng(0), fitted(1)
    for sizes, what in (((2, 1), r"observations that are .*\[2\]"), ((1, 3), r"actions that are .*\[3\]")):
        shaped = [rng.normal(size=(20, size)) for size in sizes]
        other = Dataset.from_arrays(*shaped, np.zeros(20), np.zeros(20), np.arange(20) % 5 == 4)
        dynamics = untrained(MBPO(hidden=(4,), policy_hidden=(4,)), other)
        with pytest.raises(RunError, match=rf"run of the dynamics has {what}, and those of the planner's run are"):
            reverie.adapt(run, data(), dynamics, steps=1, progress=False)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [Diffuser, DiffuserMaze])
def test_plans_begin_in_states_of_the_data_and_lead_to_their_places(kind):
    algorithm = kind(**SMALL | ({"candidates": 1} if kind is Diffuser else {}))
    rng = np.random.default_rng(0)
    given = Dataset.from_arrays(rng.normal(size=(40, 4)), np.zeros((40, 2)), np.zeros(40), None, np.arange(40) % 8 == 7)
    run = untrained(algorithm, given)
    plans = imagine(run, given, 10, rng)
    states = np.asarray(run.spec.denormalise("observations", jnp.asarray(plans[..., 2:])))

    def away(states):
        return np.abs(states[:, None] - given.observations[:, : states.shape[1]]).max(-1).min(1)

    np.testing.assert_allclose(away(states[:, 0]), 0, atol=1e-4)
    if algorithm.name == "diffuser-maze":
        np.testing.assert_allclose(away(states[:, -1, :2]), 0, atol=1e-4)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"quality_quantile": 80}, "quality_quantile=80 must be from 0 to 1"),
        ({"plans": 0}, "plans=0 must be at least 1"),
        ({"algorithm": "of-states"}, "guess makes no plans of actions and observations"),
        ({"algorithm": "strided"}, "stride=2 leaves steps out of guess's plans"),
        ({"dynamics": "planner"}, "guess does not predict what follows a step"),
    ],
)
def test_what_cannot_be_is_said(change, sentence):
    class OfStates(Guess):
        parts = ("observations",)

    class Strided(Guess):
        stride = 2

    run = fitted(1)
    kind = {"of-states": OfStates, "strided": Strided}.get(change.get("algorithm"), Guess)
    options = {key: value for key, value in change.items() if key not in ("algorithm", "dynamics")}
    with pytest.raises(RunError, match=sentence):
        reverie.adapt(
            replace(run, algorithm=kind()), data(), run if "dynamics" in change else moves, steps=1, **options
        )
