import math

import numpy as np
import pytest

from reverie.environments import make
from reverie.errors import ReverieError

pytest.importorskip("pymunk")
pytest.importorskip("shapely")

from reverie.environments.pusht import (
    COLOURS,
    ENOUGH,
    GOAL,
    LIMIT,
    OUTLINE,
    PushT,
    Simulation,
    coverage,
    draw,
    outline,
)

FAR = (20.0, 20.0)


def _at(pose, agent=FAR):
    env = PushT()
    return env, env.reset(options={"state": (*agent, *pose)})[0]


def _moved(along_bar=0.0, across_bar=0.0):
    """The goal's pose, moved in the block's own directions."""
    x, y, angle = GOAL
    cos, sin = math.cos(angle), math.sin(angle)
    return x + cos * along_bar - sin * across_bar, y + sin * along_bar + cos * across_bar, angle


def test_the_outline_has_the_blocks_area_and_its_walls_are_right_angles():
    x, y = OUTLINE.T
    assert (x * np.roll(y, -1) - np.roll(x, -1) * y).sum() / 2 == 120 * 30 + 30 * 90
    edges = np.roll(OUTLINE, -1, axis=0) - OUTLINE
    assert ((edges == 0).sum(axis=1) == 1).all()


@pytest.mark.parametrize(
    ("pose", "area"),
    [
        (GOAL, 6300),
        (_moved(along_bar=10), 110 * 30 + 20 * 90),
        (_moved(along_bar=-10), 110 * 30 + 20 * 90),
        # Bar on bar, bar on the stem's first 10, stem on the stem's last 80.
        (_moved(across_bar=10), 120 * 20 + 30 * 10 + 30 * 80),
        (_moved(along_bar=200), 0),
        ((*GOAL[:2], GOAL[2] + 2 * math.pi), 6300),
    ],
)
def test_the_reward_is_the_covered_share_over_0_95(pose, area):
    env, _ = _at(pose)
    _, reward, terminal, truncated, info = env.step(FAR)
    assert info["coverage"] == pytest.approx(area / 6300, abs=1e-6)
    assert reward == pytest.approx(min(1.0, area / 6300 / 0.95), abs=1e-6)
    assert terminal == info["success"] == (area / 6300 >= ENOUGH) and not truncated


def test_a_turned_block_covers_what_shapely_says():
    import shapely

    pose = (250.0, 262.0, 0.6)
    turned = shapely.affinity.rotate(shapely.Polygon(OUTLINE), 0.6, origin=(0, 0), use_radians=True)
    moved = shapely.affinity.translate(turned, 250, 262)
    goal = shapely.affinity.rotate(shapely.Polygon(OUTLINE), GOAL[2], origin=(0, 0), use_radians=True)
    goal = shapely.affinity.translate(goal, *GOAL[:2])
    assert coverage(pose) == pytest.approx(moved.intersection(goal).area / goal.area)


def test_success_begins_at_95_per_cent():
    """Along the bar, 120 of 6300 are lost for each unit."""
    limit = 0.05 * 6300 / 120
    assert coverage(_moved(along_bar=limit - 0.01)) > ENOUGH > coverage(_moved(along_bar=limit + 0.01))


def test_an_observation_says_where_things_are():
    _, seen = _at((200.0, 310.0, 2.5), agent=(100.0, 400.0))
    np.testing.assert_allclose(seen, [100, 400, 200, 310, math.cos(2.5), math.sin(2.5)], rtol=1e-6)
    assert seen.dtype == np.float32


def test_the_agent_follows_its_target_as_the_controller_says():
    """Ten steps of 0.01 s of x'' = 100 (target - x) - 20 x', by hand."""
    env, _ = _at(GOAL, agent=(30.0, 480.0))
    x, speed = np.array([30.0, 480.0]), np.zeros(2)
    for target in (np.array([60.0, 440.0]), np.array([20.0, 470.0])):
        for _ in range(10):
            speed = speed + 0.01 * (100 * (target - x) - 20 * speed)
            x = x + 0.01 * speed
        seen = env.step(target)[0]
        np.testing.assert_allclose(seen[:2], x, rtol=1e-6)


def test_a_push_moves_the_block_and_it_stops_when_the_agent_does():
    env, before = _at((256.0, 200.0, 0.0), agent=(256.0, 170.0))
    for _ in range(15):
        pushed = env.step((256.0, 230.0))[0]
    # The agent's edge is at 230 + 15, on the middle of the bar's top.
    np.testing.assert_allclose(pushed[2:], [256, 245, 1, 0], atol=0.5)
    assert before[3] == 200
    env.step((256.0, 150.0))
    rest = env.step((256.0, 150.0))[0]
    np.testing.assert_allclose(rest[2:], pushed[2:], atol=0.2)


def test_walls_hold_the_block():
    simulation = Simulation()
    simulation.place((256.0, 300.0), (256.0, 350.0, 0.0))
    for y in range(300, 512, 5):
        simulation.step((256.0, float(y)))
    assert outline(simulation.pose)[:, 1].max() < 512


def test_a_seed_fixes_the_episode_and_what_comes_after_it():
    env, other = make("pusht"), make("pusht")
    other.reset(seed=4)
    starts = [env.reset(seed=3)[0], env.reset()[0]]
    np.testing.assert_array_equal([other.reset(seed=3)[0], other.reset()[0]], starts)
    assert (starts[0] != starts[1]).all()
    rng = np.random.default_rng(0)
    actions = rng.uniform(0, 512, (20, 2)).astype(np.float32)
    first, again = ([env.reset(seed=3)[0], *(env.step(action)[0] for action in actions)] for _ in range(2))
    np.testing.assert_array_equal(first, again)


def test_starts_are_those_of_the_published_task():
    """Seed 0 of gym-pusht 0.1.8, as that package shows it."""
    angle = 3.3990368971690628
    published = [390, 304, 241.54255640895335, 268.5169735431818, math.cos(angle), math.sin(angle)]
    np.testing.assert_allclose(make("pusht").reset(seed=0)[0], published, rtol=1e-6)


def test_an_episode_has_its_limit():
    env = make("pusht")
    env.reset(seed=0)
    assert env.spec.max_episode_steps == LIMIT == 300
    ends = [env.step(FAR)[2:4] for _ in range(LIMIT)]
    assert ends == [(False, False)] * (LIMIT - 1) + [(False, True)]


def test_images_show_goal_block_and_agent():
    env = make("pusht-images")
    seen, _ = env.reset(options={"state": (400.0, 100.0, *_moved(along_bar=150))})
    assert env.observation_space.contains(seen) and env.action_space.shape == (2,)
    np.testing.assert_array_equal(seen["agent"], [400, 100])
    image = seen["image"]

    def colour(x, y):
        return tuple(image[int(y / 8), int(x / 8)])

    # Two corners of the bar, with its middle between them.
    goal, block = (outline(pose)[[0, 2]].mean(axis=0) for pose in (GOAL, _moved(along_bar=150)))
    assert colour(*goal) == COLOURS["goal"] and colour(*block) == COLOURS["block"]
    assert colour(400, 100) == COLOURS["agent"] and colour(30, 30) == (255, 255, 255)


def test_a_pixel_is_the_mean_of_finer_ones():
    coarse, fine = draw((100, 100), GOAL, 64, 4), draw((100, 100), GOAL, 256, 1)
    np.testing.assert_allclose(coarse, fine.reshape(64, 4, 64, 4, 3).mean(axis=(1, 3)), atol=0.51)


def test_without_the_physics_engine_the_extra_is_named(monkeypatch):
    modules = __import__("sys").modules
    monkeypatch.delitem(modules, "reverie.environments.pusht")
    monkeypatch.setitem(modules, "pymunk", None)
    with pytest.raises(ReverieError, match=r"'pusht' needs pymunk.*'reverie\[pusht\]'"):
        make("pusht")
