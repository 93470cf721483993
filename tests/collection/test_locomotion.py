"""Sets in D4RL's recipe, from an agent that learns a small task in place of a locomotion one."""

import gymnasium
import numpy as np
import pytest

import reverie
from reverie.baselines import SAC
from reverie.collection import DATASETS, make_dataset
from reverie.collection.locomotion import Recipe, collect, usual
from reverie.errors import DataError, ReverieError


class Aim(gymnasium.Env):
    """Episodes of 5 steps, cut; the reward is how near to 0.5 the action is: -2.7 an episode at random, 0 at best."""

    observation_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)
    action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        self.steps = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.steps += 1
        return np.zeros(1, np.float32), -abs(float(action[0]) - 0.5), False, self.steps == 5, {}


gymnasium.register("ReverieAim-v0", Aim)
SETTINGS = tuple({"warmup": 100, "update_interval": 20, "log_every": 100}.items())
AGENT = SAC(hidden=(16,), critic_hidden=(16,), batch_size=32, learning_rate=1e-2, discount=0.0)
RECIPE = Recipe(AGENT, "ReverieAim-v0", -3.1, -0.9, longest=2000, settings=SETTINGS)


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REVERIE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def made():
    """Every kind, 400 steps each (the replay as long as it takes)."""
    return {
        kind: collect(f"hopper-{kind}", steps=2000 if kind == "medium-replay" else 400, recipe=RECIPE)
        for kind in ("random", "medium-replay", "medium", "expert", "medium-expert")
    }


def test_each_set_is_of_the_level_that_its_name_says(made):
    mean = {kind: data.returns.mean() for kind, data in made.items()}
    assert mean["random"] < RECIPE.level("medium") - 0.3
    assert abs(mean["medium"] - RECIPE.level("medium")) < 0.4
    assert mean["expert"] > RECIPE.level("expert") - 0.2
    assert np.mean(made["medium-replay"].returns[-20:]) >= RECIPE.level("medium")
    halves = np.array_split(made["medium-expert"].returns, 2)
    np.testing.assert_allclose([half.mean() for half in halves], [mean["medium"], mean["expert"]], atol=0.3)


def test_sizes_and_names(made):
    assert {kind: len(data) for kind, data in made.items() if kind != "medium-replay"} == {
        "random": 400,
        "medium": 400,
        "expert": 400,
        "medium-expert": 400,
    }
    assert len(made["medium-replay"]) == made["medium"].attributes["agent_steps"]
    for kind, data in made.items():
        assert data.attributes["name"] == f"hopper-{kind} (regenerated)"
        assert data.attributes["regenerated"] is True
        assert data.attributes["environment"] == "ReverieAim-v0"
        np.testing.assert_allclose(data.rewards, -np.abs(data.actions[:, 0] - 0.5), atol=1e-6)


def test_the_agents_are_trained_once_and_the_same_call_gives_the_same_data(made):
    again = collect("hopper-medium", steps=400, recipe=RECIPE)
    assert again.fingerprint == made["medium"].fingerprint
    other = collect("hopper-random", steps=400, seed=1, recipe=RECIPE)
    assert other.fingerprint != made["random"].fingerprint


def test_an_agent_below_its_level_is_told_of():
    never = Recipe(AGENT, "ReverieAim-v0", 0.0, 1.0, longest=200, settings=SETTINGS)
    with pytest.raises(DataError, match=r"After 200 steps the medium agent's return is -\d, below 0"):
        collect("hopper-medium", steps=10, seed=2, recipe=never)


def test_every_task_and_kind_has_a_name():
    assert {"hopper-medium-replay", "halfcheetah-expert", "walker2d-medium-expert"} <= DATASETS.keys()
    assert usual("hopper").level("medium") == pytest.approx(-20.272305 + (3234.3 + 20.272305) / 3)
    with pytest.raises(ReverieError, match="steps must be at least 1, but is 0"):
        make_dataset("hopper-random", steps=0)


def test_a_random_set_of_the_simulator_and_the_command_line(tmp_path, capsys):
    from reverie.cli import main

    target = f"d4rl:{tmp_path / 'random.hdf5'}"
    assert main(["data", "make", "hopper-random", "--steps", "200", "--out", target]) == 0
    data = reverie.load_dataset(target)
    assert (len(data), data.observation_dim, data.action_dim) == (200, 11, 3)
    assert data.terminals.any()
    assert "regenerated" in data.attributes["name"]
