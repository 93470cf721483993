"""MPE's worlds: who is in the team, and what the rules do."""

import numpy as np
import pytest

from reverie.collection.particles import SHARES, Particles
from reverie.collection.parts import digest
from reverie.collection.recipe import Part
from reverie.data.agents import team_of
from reverie.environments import make
from reverie.environments.particles import NAMES, STEPS, cover, flee

mpe2 = pytest.importorskip("mpe2")
from reverie.environments.forces import as_action  # noqa: E402


@pytest.mark.parametrize(
    ("name", "observed", "acted"),
    [("mpe-spread", [18] * 3, [2] * 3), ("mpe-tag", [16] * 3, [2] * 3), ("mpe-world", [34] * 4, [6, 2, 2, 2])],
)
def test_sizes_of_the_teams_and_of_an_episode(name, observed, acted):
    env = make(name)
    assert (env.observation_sizes, env.action_sizes) == (observed, acted)
    first, again = (env.reset(seed=3)[0] for _ in range(2))
    np.testing.assert_array_equal(first, again)
    ends = [env.step(env.action_space.sample())[2:4] for _ in range(STEPS)]
    assert ends == [(False, False)] * (STEPS - 1) + [(False, True)] and env.spec.max_episode_steps == STEPS


def test_an_action_is_a_force_to_either_side_and_what_is_said():
    np.testing.assert_allclose(as_action(np.array([0.5, -2.0])), [0, 0, 0.5, 1, 0])
    np.testing.assert_allclose(as_action(np.array([-0.5, 0.25, 0.1, 1.0])), [0, 0.5, 0, 0, 0.25, 0.1, 1])
    space = make("mpe-world").action_space
    np.testing.assert_array_equal(space.low[0], [-1, -1, 0, 0, 0, 0])
    np.testing.assert_array_equal([*space.low[1, :2], *space.high.ravel()], [-1, -1, *[1] * 24])


def test_a_team_is_moved_as_by_the_worlds_own_actions():
    """Spread, where 5 numbers an agent push it to the right less left, and up less down."""
    env, plain = make("mpe-spread"), mpe2.simple_spread_v3.parallel_env(max_cycles=STEPS, continuous_actions=True)
    rng, (_, _) = np.random.default_rng(0), (env.reset(seed=3), plain.reset(seed=3))
    for _ in range(5):
        force = rng.uniform(-1, 1, (3, 2)).astype(np.float32)
        nothing = np.zeros(3, np.float32)
        five = np.stack([nothing, (force[:, 0] < 0) * -force[:, 0], (force[:, 0] > 0) * force[:, 0]], 1)
        five = np.concatenate(
            [five, np.stack([(force[:, 1] < 0) * -force[:, 1], (force[:, 1] > 0) * force[:, 1]], 1)], 1
        )
        seen = env.step(force)[0]
        others = plain.step(dict(zip(plain.agents, five, strict=True)))[0]
        np.testing.assert_array_equal(seen, np.stack(list(others.values())))


def test_the_data_have_the_forces_and_no_older_set_is_taken_for_them():
    recipe = Particles("mpe-world", "expert")
    rows = recipe.collect(Part(0, STEPS, 0))
    data = recipe.dataset(rows, STEPS, 0)
    assert data.actions.shape == (STEPS, 4, 6) and data.attributes["action_sizes"] == [6, 2, 2, 2]
    assert (data.actions[:, :, 2:] == 0).all() and (data.actions[:, :, :2].min(), data.actions.max()) < (-0.5, 1.0001)
    older = type("Particles", (), {"__repr__": lambda self: "Particles(environment='mpe-world', quality='expert')"})
    assert digest(recipe) != digest(older())


def test_the_cover_is_the_shortest_together():
    env = make("mpe-spread")
    env.reset(seed=0)
    world = env.env.unwrapped.world
    for i, (agent, mark) in enumerate(zip(world.agents, world.landmarks, strict=True)):
        agent.state.p_pos, agent.state.p_vel = np.array([i / 2, 0.0]), np.zeros(2)
        mark.state.p_pos = np.array([i / 2, 0.5])
    forces = cover(env.env)
    assert (forces[:, 1] == 1).all() and np.abs(forces[:, 0]).max() < 1e-9


def test_the_prey_goes_away_from_the_pursuers_and_back_from_the_edge():
    env = make("mpe-tag")
    env.reset(seed=0)
    world = env.env.unwrapped.world
    prey = world.agents[-1]
    for agent in world.agents:
        agent.state.p_pos = np.array([0.5, 0.0])
    prey.state.p_pos = np.array([0.0, 0.0])
    np.testing.assert_allclose(flee(env.env, prey.name), [-1, 0], atol=1e-6)
    prey.state.p_pos = np.array([-0.95, 0.0])
    np.testing.assert_allclose(flee(env.env, prey.name)[:1], [1], atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_experts_are_better_than_the_half_random_and_these_than_the_random(name):
    """Over 12 episodes; what an agent has not is 0."""
    returns = {}
    for quality in SHARES:
        rows = Particles(name, quality).collect(Part(0, 12 * STEPS, 0))
        returns[quality] = rows["rewards"].reshape(12, STEPS).sum(1).mean()
        np.testing.assert_allclose(rows["infos/rewards"].sum(1), rows["rewards"], rtol=1e-4, atol=1e-4)
    assert returns["expert"] > returns["medium"] > returns["random"]
    team_of(Particles(name, "random").dataset(rows, 12 * STEPS, 0))
