"""Sets in D4RL's recipe, from an agent that learns a small task in place of a locomotion one."""

import shutil

import gymnasium
import numpy as np
import pytest

import reverie
from reverie.baselines import SAC
from reverie.collection import DATASETS, make_dataset
from reverie.collection.locomotion import ENVIRONMENTS, EXPERT, MEDIUM, Replay, Rollouts, return_of, shipped
from reverie.collection.parts import collecting, digest
from reverie.errors import DataError, ReverieError
from reverie.training import fit_online


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
LEVELS = {MEDIUM: -2.4, EXPERT: -0.9}


@pytest.fixture(scope="module")
def agents(tmp_path_factory):
    """A folder with the agents of each level."""
    folder = tmp_path_factory.mktemp("agents")
    for percent, level in LEVELS.items():
        run = fit_online(AGENT, "ReverieAim-v0", steps=2000, until=level, progress=False, **dict(SETTINGS))
        run.export(folder / f"aim-{percent}.safetensors")
    return folder


def made(recipe, steps=400, seed=0):
    with collecting(recipe, recipe.name, steps=steps, seed=seed) as data:
        return data


def rollouts(folder, *percents, **fields):
    return Rollouts("aim-set", "ReverieAim-v0", percents, folder, **fields)


def test_each_agent_returns_what_its_name_says(agents):
    for percent, level in LEVELS.items():
        data = made(rollouts(agents, percent))
        assert data.returns.mean() > level - 0.3
        np.testing.assert_allclose(data.rewards, -np.abs(data.actions[:, 0] - 0.5), atol=1e-6)


def test_the_agents_of_a_set_make_equally_many_steps(agents):
    data = made(rollouts(agents, MEDIUM, EXPERT), steps=401)
    assert len(data) == 401
    # The first agent's are those of a set of its own, and end an episode whatever their number.
    alone = made(rollouts(agents, MEDIUM), steps=201)
    np.testing.assert_array_equal(data.actions[:201], alone.actions)
    np.testing.assert_array_equal(data.episodes[: len(alone.episodes)], alone.episodes)
    assert data.returns[len(alone.episodes) :].mean() > alone.returns.mean() + 0.3


def test_the_set_is_cut_into_parts_of_their_own(agents):
    recipe = rollouts(agents, MEDIUM, EXPERT, size=100)
    parts = [(part.index, part.steps, part.percent) for part in recipe.parts(350, 0)]
    assert parts == [(0, 100, MEDIUM), (1, 75, MEDIUM), (2, 100, EXPERT), (3, 75, EXPERT)]
    data = made(recipe, steps=350)
    halves = np.split(data.actions[:150], [75])
    assert not np.array_equal(halves[0], halves[1])
    assert {100, 175, 275, 350} <= set(data.episodes[:, 1])


def test_same_seed_same_data(agents):
    first, again, other = (made(rollouts(agents, MEDIUM), 100, seed) for seed in (0, 0, 1))
    assert first.fingerprint == again.fingerprint != other.fingerprint
    assert first.attributes["name"] == "aim-set (regenerated)"
    assert first.attributes["regenerated"] is True and first.attributes["agents"] == [MEDIUM]


def test_another_agent_makes_other_data(agents, tmp_path):
    recipes = []
    for percent in (MEDIUM, EXPERT):
        folder = tmp_path / str(percent)
        folder.mkdir()
        shutil.copy(agents / f"aim-{percent}.safetensors", folder / f"aim-{MEDIUM}.safetensors")
        recipes.append(rollouts(folder, MEDIUM))
    assert digest(recipes[0]) == digest(rollouts(agents, MEDIUM)) != digest(recipes[1])


def test_a_replay_is_of_an_agent_until_it_is_medium():
    replay = Replay("aim-medium-replay", "ReverieAim-v0", -2.0, AGENT, SETTINGS)
    data = made(replay, steps=2000)
    assert len(data) == data.attributes["agent_steps"] < 2000
    assert np.mean(data.returns[-20:]) >= -2.0 > data.returns[:20].mean() + 0.3


def test_an_agent_below_its_level_is_told_of():
    never = Replay("aim-medium-replay", "ReverieAim-v0", 1.0, AGENT, SETTINGS)
    with pytest.raises(DataError, match=r"After 200 steps the agent's return is -\d, below 1"):
        made(never, steps=200, seed=2)


def test_every_task_has_the_sets_that_its_agents_make():
    assert return_of("hopper", 50) == pytest.approx((3234.3 - 20.272305) / 2)
    for task, environment in ENVIRONMENTS.items():
        found = {name.removeprefix(f"{task}-"): each.recipe for name, each in DATASETS.items() if name.startswith(task)}
        assert {"random", "medium-replay"} <= found.keys()
        costly = found.pop("velocity-mixture")
        assert all(recipe.environment == environment for recipe in found.values())
        agents = shipped(task)
        assert (costly.environment, costly.agents) == (f"{task}-velocity", agents)
        assert found["mixture"].agents == agents and found["medium"].agents == (MEDIUM,)
        top = "expert" if agents[-1] == EXPERT else f"level-{agents[-1]}"
        assert found[top].agents == agents[-1:]
        assert found[f"medium-{top}"].agents == (MEDIUM, agents[-1])
    with pytest.raises(ReverieError, match="steps must be at least 1, but is 0"):
        make_dataset("hopper-random", steps=0)


def test_a_shipped_agent_runs_as_it_says():
    """10 episodes of at most 1000 steps begin together: those that end first are the shortest."""
    data = make_dataset("hopper-medium", steps=4000)
    agent = reverie.load(DATASETS["hopper-medium"].recipe.folder / f"hopper-{MEDIUM}.safetensors")
    complete = data.returns[data.terminals[data.episodes[:, 1] - 1]]
    assert agent.about["percent"] == MEDIUM
    assert 0.3 * agent.about["mean_return"] < complete.mean() < 2 * agent.about["mean_return"]


def test_a_random_set_of_the_simulator_and_the_command_line(tmp_path):
    from reverie.cli import main

    target = f"d4rl:{tmp_path / 'random.hdf5'}"
    assert main(["data", "make", "hopper-random", "--steps", "200", "--out", target]) == 0
    data = reverie.load_dataset(target)
    assert (len(data), data.observation_dim, data.action_dim) == (200, 11, 3)
    assert data.terminals.any()
    assert "regenerated" in data.attributes["name"]


def test_a_velocity_set_is_the_same_steps_with_their_costs():
    plain, costly = (
        made(Rollouts(f"hopper-{kind}", env, (MEDIUM,)), steps=300)
        for kind, env in (("medium", "Hopper-v5"), ("velocity-medium", "hopper-velocity"))
    )
    np.testing.assert_array_equal(costly.observations, plain.observations)
    np.testing.assert_array_equal(costly.rewards, plain.rewards)
    assert plain.costs is None and set(np.unique(costly.costs)) == {0, 1}
