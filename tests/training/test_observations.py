"""Observations that are dictionaries, with an image: data, training, saving, loading and acting."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import equinox as eqx
import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict
from tiny_algorithm import TinyBC, synthetic

import reverie
from reverie.catalogue import ALGORITHMS
from reverie.data import Dataset, Gaussian, Spec, pairs
from reverie.errors import ReverieError
from reverie.learning import Optimised, optimiser
from reverie.networks import Encoding, Linear, ObservationEncoder

ENCODING = Encoding(image_features=8, image_widths=(8,), image_depth=1, keypoints=4)
SIZE = 8


def picture(place: float) -> np.ndarray:
    """A bright column at `place`, from -1 to 1."""
    image = np.zeros((SIZE, SIZE, 3), np.uint8)
    image[:, round((place + 1) / 2 * (SIZE - 1))] = 255
    return image


class Network(eqx.Module):
    encoder: ObservationEncoder
    head: Linear

    def __call__(self, observation):
        return jnp.tanh(self.head(self.encoder(observation)))


class State(eqx.Module):
    net: Optimised


@dataclass(frozen=True)
class Looking:
    """Behaviour cloning of what is seen."""

    name: ClassVar[str] = "looking"
    role: ClassVar[str] = "policy"
    paper: ClassVar[str] = "none"
    needs: ClassVar[tuple[str, ...]] = ()

    batch_size: int = 32

    def prepare(self, data: Dataset, spec: Spec | None = None):
        spec = spec or Spec.fit(data, observations=Gaussian)
        return pairs(data, spec), spec

    def init(self, key, spec):
        keys = jax.random.split(key)
        parts = {name: (field.kind, field.shape) for name, field in spec.observation_space.items()}
        encoder = ObservationEncoder(keys[0], parts, ENCODING)
        net = Network(encoder, Linear(keys[1], encoder.dim, spec.action_dim))
        return State(Optimised.create(net, optimiser(3e-3)))

    def update(self, state, batch, key):
        def loss(net):
            return jnp.mean((net(batch["observations"]) - batch["actions"]) ** 2)

        net, value = state.net.minimise(loss, optimiser(3e-3))
        return State(net), {"loss": value}

    def reset(self, spec, n, wishes):
        return ()

    def act(self, state, spec, observation, carry, feedback, key) -> Any:
        return state.net.params(spec.normalise("observations", observation)), carry


class Places(gymnasium.Env):
    """A column in a picture, at whose place the first action should be, the second at half of a number beside it."""

    observation_space = Dict({"state": Box(-10, 10, (3,), np.float32), "image": Box(0, 255, (SIZE, SIZE, 3), np.uint8)})
    action_space = Box(-1, 1, (2,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return self._look(), {}

    def step(self, action):
        error = np.abs(action - [self.place, self.state[1] / 2]).mean()
        self.steps += 1
        return self._look(), -float(error), False, self.steps == 3, {}

    def _look(self):
        self.place = self.np_random.uniform(-1, 1)
        self.state = self.np_random.uniform([2, -1, 5], [4, 1, 9]).astype(np.float32)
        # In another order than that of the data.
        return {"state": self.state, "image": picture(self.place)}


def data(n=300) -> Dataset:
    rng = np.random.default_rng(0)
    places, state = rng.uniform(-1, 1, n), rng.uniform([2, -1, 5], [4, 1, 9], (n, 3))
    observations = {"image": np.stack([picture(place) for place in places]), "state": state}
    return Dataset.from_arrays(
        observations, np.stack([places, state[:, 1] / 2], 1), np.zeros(n), timeouts=np.arange(n) % 30 == 29
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory, optimised):
    path = tmp_path_factory.mktemp("looking")
    data().save(f"d4rl:{path}/data.hdf5")
    loaded = reverie.load_dataset(f"d4rl:{path}/data.hdf5")
    assert loaded.fingerprint == data().fingerprint
    with optimised(), pytest.MonkeyPatch.context() as patch:
        patch.setitem(ALGORITHMS, "looking", Looking)
        yield reverie.fit(Looking(), loaded, steps=200, seeds=1, out=path / "run", progress=False)


def test_the_parts_are_what_they_were(run):
    spec = reverie.load(run.path).spec
    assert {name: field.kind for name, field in spec.observation_space.items()} == {"image": "image", "state": "vector"}
    assert spec.normalisers.keys() == {"observations/state"}


def test_it_learns_from_the_picture_and_the_number_and_acts_in_its_environment(run):
    scores = reverie.evaluate(run, Places, episodes=10, progress=False)
    assert scores.returns.mean() > -3 * 0.15  # at rest it would be -3 * 0.375


def test_a_loaded_policy_acts_alike_whatever_the_types_of_what_it_is_shown(run):
    policy, loaded = run.policy(), reverie.load(run.path).policy()
    seen = {"state": [3.0, 0.5, 7.0], "image": picture(0.4)}
    action, _ = policy.act(seen, policy.reset())
    again, _ = loaded.act({"image": seen["image"].tolist(), "state": np.array(seen["state"])}, loaded.reset())
    np.testing.assert_array_equal(action, again)
    other, _ = policy.act({**seen, "image": picture(-0.9)}, policy.reset())
    assert abs(other[0] - action[0]) > 0.3
    with pytest.raises(ReverieError, match="The observation lacks 'image'; the run was trained on image, state"):
        policy.act({"state": seen["state"]}, policy.reset())
    with pytest.raises(ReverieError, match="The observation is no dictionary; the run was trained on image, state"):
        policy.act(np.zeros(3), policy.reset())


def test_an_environment_of_another_kind_is_refused(run):
    class Blind(Places):
        observation_space = Dict({"state": Box(-10, 10, (3,), np.float32)})

        def _look(self):
            return {"state": super()._look()["state"]}

    with pytest.raises(ReverieError, match=r"a dictionary of image .* and those of Blind are a dictionary of state \("):
        reverie.evaluate(run, Blind, episodes=1, progress=False)


class Reaching(gymnasium.Env):
    """A goal environment: where it is, where it should be, and where it was. Pays what the first action is."""

    observation_space = Dict({key: Box(-99, 99, (2,), np.float32) for key in ("observation", "desired_goal")})
    action_space = Box(-99, 99, (2,), np.float32)

    def __init__(self):
        self.observation_space = Dict({**Reaching.observation_space, "achieved_goal": Box(-99, 99, (1,), np.float32)})

    def reset(self, *, seed=None, options=None):
        seen = {"observation": np.ones(2), "desired_goal": 2 * np.ones(2), "achieved_goal": 4 * np.ones(1)}
        return {name: part.astype(np.float32) for name, part in seen.items()}, {}

    def step(self, action):
        return self.reset()[0], float(action[0]), True, False, {}


@dataclass(frozen=True)
class Summing(Looking):
    """Acts by the sum of all that it sees."""

    def init(self, key, spec):
        return jnp.zeros(())

    def update(self, state, batch, key):
        return state, {"loss": state}

    def act(self, state, spec, observation, carry, feedback, key):
        total = sum(part.sum(-1) for part in observation.values())
        return jnp.stack([total, total], -1), carry


@pytest.mark.parametrize("told", [False, True])
def test_a_dictionary_with_a_goal_is_one_of_data_and_of_a_goal_environment(told):
    parts = {"observation": 2, "desired_goal": 2} | ({"achieved_goal": 1} if told else {})
    observations = {name: np.zeros((6, size), np.float32) for name, size in parts.items()}
    trained = Dataset.from_arrays(observations, np.zeros((6, 2)), np.zeros(6), timeouts=np.arange(6) % 3 == 2)
    run = reverie.fit(Summing(batch_size=2), trained, steps=1, progress=False)
    scores = reverie.evaluate(run, Reaching, episodes=2, progress=False)
    assert scores.returns.tolist() == [[2 + 4 + 4 * told] * 2]


def test_a_goal_environment_that_lacks_a_part_is_refused():
    observations = {name: np.zeros((6, 2), np.float32) for name in ("observation", "desired_goal", "wind")}
    trained = Dataset.from_arrays(observations, np.zeros((6, 2)), np.zeros(6), timeouts=np.arange(6) % 3 == 2)
    run = reverie.fit(Summing(batch_size=2), trained, steps=1, progress=False)
    with pytest.raises(
        ReverieError, match=r"wind \(vectors .* and those of Reaching are a dictionary of desired_goal \("
    ):
        reverie.evaluate(run, Reaching, episodes=1, progress=False)


@dataclass(frozen=True)
class Aiming(TinyBC):
    """Acts on a goal too, which it adds to the action."""

    goals: ClassVar[bool] = True

    def act(self, state, spec, observation, carry, feedback, key):
        action, carry = super().act(state, spec, observation["observation"], carry, feedback, key)
        return action + observation["desired_goal"], carry


@pytest.fixture(scope="module")
def vectors():
    return reverie.fit(TinyBC(), synthetic(), steps=1, progress=False)


def test_a_list_is_the_array_that_it_says(vectors):
    policy = vectors.policy()
    as_list, _ = policy.act([1.0, 0.5, 0.0], policy.reset())
    as_array, _ = policy.act(np.array([1.0, 0.5, 0.0]), policy.reset())
    assert as_list.shape == (2,)
    np.testing.assert_array_equal(as_list, as_array)
    # A goal beside it too, and what else the environment tells is not looked at.
    aiming = replace(policy, algorithm=Aiming())
    seen = {"observation": [1.0, 0.5, 0.0], "desired_goal": [3.0, 4.0], "achieved_goal": [9.0]}
    np.testing.assert_allclose(aiming.act(seen, aiming.reset())[0], as_array + np.array([3, 4]), rtol=1e-6)


@pytest.mark.parametrize(
    "observation, sentence",
    [
        ([1.0, 2.0], r"The observation has shape \[2\]; the run was trained on vectors float32 \[3\]"),
        (np.zeros((1, 3)), r"The observation has shape \[1, 3\]; the run was trained on vectors"),
        ({"state": np.zeros(3)}, "The observation is a dictionary of state; the run was trained on vectors"),
        ([1.0, [2.0], 3.0], "The observation is list that is no array; the run was trained on vectors"),
    ],
)
def test_what_is_not_as_in_training_is_refused(vectors, observation, sentence):
    policy = vectors.policy()
    with pytest.raises(ReverieError, match=sentence):
        policy.act(observation, policy.reset())


def test_a_goal_must_be_given_where_the_method_acts_on_one(vectors):
    policy = replace(vectors.policy(), algorithm=Aiming())
    acts_on = "tiny-bc acts on observation, desired_goal"
    for observation, sentence in [
        (np.zeros(3), f"The observation is no dictionary; {acts_on}"),
        ({"observation": np.zeros(3)}, f"The observation lacks 'desired_goal'; {acts_on}"),
        (
            {"observation": np.zeros(4), "desired_goal": 0.0},
            r"The observation's 'observation' has shape \[4\]; the run",
        ),
    ]:
        with pytest.raises(ReverieError, match=sentence):
            policy.act(observation, policy.reset())


@dataclass(frozen=True)
class AimingAtTwo(Aiming):
    def goal_dim(self, spec):
        return 2


def test_goals_of_another_size_and_goals_in_walls_are_refused(vectors):
    """Where a method says how large its goals are: of that size, or a whole observation of 3."""
    policy = replace(vectors.policy(), algorithm=AimingAtTwo(), environment="pointmaze-umaze")

    def act(goal):
        return policy.act({"observation": np.zeros(3), "desired_goal": goal}, policy.reset())

    act([1.0, 1.0])
    sentence = r"'desired_goal' has shape \[4\]; tiny-bc takes goals of 2 numbers, or whole observations of 3\."
    with pytest.raises(ReverieError, match=sentence):
        act(np.ones(4))
    with pytest.raises(ReverieError, match=r"The goal \(0.00, 0.00\) is in a wall of pointmaze-umaze"):
        act([0.0, 0.0])


def test_a_part_of_another_size_is_named(run):
    policy = run.policy()
    with pytest.raises(ReverieError, match=r"observation's 'state' has shape \[2\]; the run was .* float32 \[3\]"):
        policy.act({"state": [1.0, 2.0], "image": picture(0.0)}, policy.reset())
