"""The frame of policies of one step: units of actions and observations, and what is refused."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from reverie.baselines import OneStepRL, ReBRAC
from reverie.data import Dataset
from reverie.errors import DataError, ReverieError
from reverie.rl import ActorCritic, StepPolicy

LOW, HIGH = np.array([-2.0, 0.1]), np.array([6.0, 0.7])


def data(**changed) -> Dataset:
    """Two episodes, of 3 steps to a terminal and of 2 to a cut; returns 6 and 2."""
    arrays = {
        "observations": np.arange(10.0).reshape(5, 2),
        "actions": np.array([[-2, 0.1], [6, 0.7], [2, 0.4], [0, 0.4], [4, 0.25]]),
        "rewards": np.array([1.0, 2, 3, 0, 2]),
        "terminals": [0, 0, 1, 0, 0],
        "action_low": LOW,
        "action_high": HIGH,
    }
    return Dataset.from_arrays(**arrays | changed)


@dataclass(frozen=True)
class Fixed(StepPolicy):
    """Answers a constant, or what it sees."""

    answer: float | None = None

    def choose(self, state, spec, observation, key):
        return observation if self.answer is None else jnp.full((len(observation), 2), self.answer)


def act(policy, observation, **changed):
    _, spec = policy.prepare(data(**changed))
    assert policy.reset(spec, len(observation), {}) == ()
    return np.asarray(policy.act(None, spec, observation, (), {}, jax.random.key(0))[0])


@pytest.mark.parametrize(
    "answer, expected", [(-1, LOW), (1, HIGH), (0, (LOW + HIGH) / 2), (-7, LOW), (1e6, HIGH), (0.5, [4, 0.55])]
)
def test_actions_come_back_in_the_environment_s_units_and_bounds(answer, expected):
    np.testing.assert_allclose(act(Fixed(answer=answer), np.zeros((3, 2))), [expected] * 3, rtol=1e-6)


def test_networks_see_actions_between_minus_one_and_one():
    policy = Fixed()
    view, _ = policy.prepare(data(next_observations=np.zeros((5, 2))))
    expected = [[-1, -1], [1, 1], [0, 0], [-0.5, 0], [0.5, -0.5]]
    np.testing.assert_allclose(view.rows["actions"], expected, atol=1e-6)


def test_observations_are_standardised_only_where_asked():
    """Each column is an arithmetic progression of 5 with step 2: mean 4 or 5, variance 8."""
    seen = np.array([[4.0, 5.0], [4 + 8**0.5 / 2, 5]])
    units = (HIGH - LOW) / 2
    np.testing.assert_allclose(
        act(Fixed(standardise=True), seen), np.array([[0, 0], [0.5, 0]]) * units + (LOW + HIGH) / 2, rtol=1e-5
    )
    np.testing.assert_allclose(act(Fixed(), seen), [HIGH] * 2, rtol=1e-6)  # 4 and 5, clipped to 1


def test_data_without_what_a_critic_needs_are_refused_and_a_policy_alone_takes_them():
    for missing in ("rewards", "terminals"):
        lacking = data(**{missing: None}, next_observations=np.zeros((5, 2)), timeouts=[0, 0, 0, 0, 1])
        with pytest.raises(DataError, match=f"has no {missing}"):
            ActorCritic().prepare(lacking)
        assert len(StepPolicy().prepare(lacking)[0]) == 5


@pytest.mark.parametrize(
    "field, value",
    [("batch_size", 0), ("learning_rate", 0.0), ("learning_rate", 2.0), ("decay_updates", -1), ("batch_size", 8.0)],
)
def test_fields_are_checked(field, value):
    with pytest.raises(ReverieError, match=f"{field} = {value!r}, but it must be a"):
        StepPolicy(**{field: value})


@pytest.mark.parametrize("method", [OneStepRL, ReBRAC])
def test_data_are_refused_where_the_units_are_known_too(method):
    """As those of a run that training begins from are."""
    _, spec = method().prepare(data())
    lacking = data(terminals=None, timeouts=[0, 0, 1, 0, 1])
    with pytest.raises(DataError, match="has no terminals"):
        method().prepare(lacking, spec)
