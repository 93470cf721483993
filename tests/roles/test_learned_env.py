"""An environment around a learned model: its horizon, its ends, and Gymnasium's own checks."""

import warnings
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from reverie.data import Dataset, Spec
from reverie.errors import ReverieError
from reverie.roles import LatentDynamics, PolyGRAD
from reverie.roles.learned_env import LearnedEnv
from reverie.synthesizers import MBPO


class Adding:
    """The state and the action are added; beyond 2 the task ends, below -2 nothing is known."""

    name, horizon = "adding", 4

    def world(self, state, spec):
        return state

    def begin(self, world, spec, observations, key):
        return jnp.asarray(observations)

    def follow(self, world, spec, carry, actions, key):
        after = carry + world * actions
        told = {"next_observations": after, "rewards": 10 * actions[:, 0]}
        return after, told | {"terminals": after[:, 0] > 2, "valid": after[:, 0] > -2}


def around(**changed) -> LearnedEnv:
    spec = Spec(1, 1, jnp.full(1, -1.0), jnp.full(1, 1.0), {}, {"observations": jnp.zeros((3, 1))})
    run = SimpleNamespace(algorithm=Adding(), spec=spec, state=lambda seed: jnp.float32(1.0))
    return LearnedEnv(run, **changed)


def played(env: LearnedEnv, actions, **options) -> list:
    env.reset(seed=0, **options)
    return [env.step(np.float32([action])) for action in actions]


def test_episodes_are_cut_at_the_horizon_and_end_where_the_model_says():
    steps = played(around(), [0.5] * 4)
    assert [(ended, cut) for *_, ended, cut, _ in steps] == [(False, False)] * 3 + [(False, True)]
    assert [float(seen[0]) for seen, *_ in steps] == [0.5, 1, 1.5, 2]
    assert steps[0][1] == 5
    assert [step[2:4] for step in played(around(), [1, 1, 1])][-1] == (True, False)
    assert [step[2:4] for step in played(around(), [-1, -1])][-1] == (False, True)
    # An action beyond the bounds is the bounds'.
    assert played(around(), [7])[0][0] == 1


def test_episodes_begin_where_one_says():
    env = around(starts=np.full((2, 1), 1.5))
    assert env.reset(seed=0)[0] == 1.5
    assert env.reset(options={"observation": [0.25]})[0] == 0.25
    assert env.step(np.float32([0.5]))[0] == 0.75
    with pytest.raises(ReverieError, match="No episode has begun; call reset first"):
        around().step([0.0])


def data() -> Dataset:
    rng, n = np.random.default_rng(0), 60
    return Dataset.from_arrays(
        *(rng.normal(size=(n, 2)), rng.uniform(-2, 2, (n, 1)), rng.normal(size=n)), terminals=np.arange(n) % 20 == 9,
        timeouts=np.arange(n) % 20 == 19, next_observations=rng.normal(size=(n, 2)), action_low=-2, action_high=2,
    )  # fmt: skip


LATENT = LatentDynamics(
    horizon=3, steps_in_a_row=4, width=8, latent_size=2, model_hidden=(), hidden=(), critic_hidden=(),
    batch_size=4, imagined=4,
)  # fmt: skip


@pytest.mark.parametrize(
    "algorithm", [MBPO(members=2, elites=1, hidden=(), policy_hidden=(), horizon=3, batch_size=8), LATENT]
)
def test_a_model_passes_gymnasium_s_checks(algorithm):
    _, spec = algorithm.prepare(data())
    state = algorithm.init(jax.random.key(0), spec)
    run = SimpleNamespace(algorithm=algorithm, spec=spec, state=lambda seed: state)
    env = LearnedEnv(run)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of unbounded observations, and bounds that are not -1 and 1
        check_env(env, skip_render_check=True)
    assert env.action_space.high == 2
    steps = played(env, [0.0] * 3)
    assert steps[-1][2] or steps[-1][3]


def test_a_model_of_whole_trajectories_is_no_environment():
    with pytest.raises(ReverieError, match="polygrad has no model that goes a step at a time"):
        LearnedEnv(SimpleNamespace(algorithm=PolyGRAD()))
