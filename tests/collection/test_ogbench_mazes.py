"""OGBench's pointmaze and antmaze sets: the numbers of the recipe, and the same physics as in the package."""

import numpy as np
import pytest

pytest.importorskip("ogbench")

from tiny_algorithm import TinyBC

from reverie.collection.ogbench.course import NEIGHBOURS, Course
from reverie.collection.ogbench.mazes import AntMaze, Point, PointMaze, point_episode
from reverie.collection.recipe import Part
from reverie.environments import make

MAZES = ("medium", "large", "giant", "teleport")


@pytest.fixture(scope="module")
def point():
    return Point("pointmaze-medium-v0")


def episodes(point, kind, *, count=40, steps=60, noise=0.5, seed=0):
    rng = np.random.default_rng(seed)
    for _ in range(count):
        rows, goals = zip(*point_episode(point, kind, steps, noise, rng), strict=True)
        yield np.array(rows), np.array(goals)


@pytest.mark.parametrize("maze", MAZES)
def test_the_ways_are_those_of_the_packages_oracle(maze):
    env = make(f"pointmaze-{maze}-v0").unwrapped
    course = Course.of(env)
    rng = np.random.default_rng(0)
    goals = course.free if maze == "medium" else [course.free[i] for i in rng.choice(len(course.free), 5, False)]
    for goal in goals:
        assert course.centre(goal) == env.ij_to_xy(goal)
        # From walls too: noise may lead to where a wall's corner is.
        for start in np.ndindex(*course.walls.shape):
            expected, _ = env.get_oracle_subgoal(env.ij_to_xy(start), env.ij_to_xy(goal))
            assert course.ways[goal][start] == tuple(expected)
    for x, y in rng.uniform(-2, 20, (50, 2)):
        assert course.cell(x, y) == env.xy_to_ij((x, y))


def test_a_goal_of_navigate_is_in_no_corridor():
    walls = np.array([[c == "#" for c in row] for row in ("#######", "#     #", "### ###", "###  ##", "#######")])
    course = Course(walls)
    assert course.vertices == [(1, 1), (1, 3), (1, 5), (3, 3), (3, 4)]
    assert course.near((1, 1)) == [(1, 5), (3, 3)] and course.near((3, 4)) == [(1, 2), (1, 4)]
    alone = Course(np.array([[1, 1, 1], [1, 0, 1], [1, 1, 1]], bool))
    assert alone.near((1, 1)) == [(1, 1)] == alone.vertices


@pytest.mark.parametrize("maze", ["medium", "teleport"])
def test_the_point_moves_as_in_the_environment_bit_for_bit(maze):
    from reverie.environments import ogbench

    env = ogbench.make(f"pointmaze-{maze}-v0", terminate_at_goal=False)
    point, rng = Point(f"pointmaze-{maze}-v0"), np.random.default_rng(1)
    cells = (5, 1) if maze == "teleport" else (1, 1)
    env.reset(seed=0, options={"task_info": {"init_ij": cells, "goal_ij": (1, 1)}})
    inner, entered = env.unwrapped, 0
    point.reset(tuple(inner.data.qpos), tuple(inner.data.qvel))
    for action in np.clip(rng.normal([0.1, 0.3], 0.8, (300, 2)), -1, 1):
        before = point.velocity()
        seen, _, _, _, info = env.step(action)
        after = point.step(tuple(action.tolist()))
        np.testing.assert_array_equal(after, seen)
        np.testing.assert_array_equal(info["prev_qvel"], before)
        moved = bool(np.any(inner.data.qpos != seen))
        assert moved == point.enters(*after)
        if moved:
            entered += 1
            point.put(tuple(inner.data.qpos.tolist()))
    assert (entered > 0) == (maze == "teleport")


def test_a_portal_leads_out_at_the_exits_and_the_observation_comes_a_step_later():
    point = Point("pointmaze-teleport-v0")
    found = 0
    for rows, _ in episodes(point, "navigate", count=15, steps=300):
        seen, places = rows[:, :2], rows[:, 6:8]
        np.testing.assert_array_equal(rows[:-1, 4:6], seen[1:])
        out = np.flatnonzero(np.any(seen != places, axis=1))
        exits = np.array(point._exits)
        for row in out:
            assert point.enters(*seen[row])
            assert np.any(np.all(exits == places[row], axis=1))
        found += len(out)
    assert found > 3


def test_an_action_is_the_oracles_direction_and_noise_and_clipped(point):
    course, noises, clipped = point.course, [], 0
    for rows, goals in episodes(point, "navigate", count=10, noise=0.1):
        for row, goal in zip(rows, goals, strict=True):
            direction = np.array(course.direction(*row[6:8], tuple(goal)))
            assert np.linalg.norm(direction) == pytest.approx(1, abs=0.01)
            # Up to 4 deviations nothing is clipped.
            noises += list((row[2:4] - direction)[np.abs(direction) < 0.6])
            clipped += int((np.abs(row[2:4]) == 1).sum())
    assert clipped > 50
    assert np.std(noises) == pytest.approx(0.1, abs=4 * 0.1 / np.sqrt(2 * len(noises)))
    assert abs(np.mean(noises)) < 4 * 0.1 / np.sqrt(len(noises))
    assert (PointMaze("pointmaze-large-stitch", 200).noise, AntMaze("antmaze-large-stitch", 200).noise) == (0.5, 0.2)


def test_stitch_goes_to_a_cell_four_steps_away_and_stays(point):
    course, starts = point.course, set()
    for rows, goals in episodes(point, "stitch", steps=200):
        start = course.cell(*rows[0, :2])
        goal = course.cell(*goals[0])
        starts.add(start)
        assert course.distances(goal)[start] == 4
        assert len(np.unique(goals, axis=0)) == 1
        # 4 cells are 16 m, at 1 m in 5 steps; then about the cell's centre.
        assert np.linalg.norm(rows[150:, :2] - course.centre(goal), axis=1).max() < 2
        assert np.abs(rows[0, :2] - course.centre(start)).max() <= 1
        assert np.abs(goals[0] - course.centre(goal)).max() <= 1
    assert len(starts) > 15


def test_navigate_draws_a_goal_at_a_vertex_when_it_is_at_one(point):
    course, changes = point.course, 0
    for rows, goals in episodes(point, "navigate", count=10, steps=400):
        reached = np.linalg.norm(rows[:-1, 4:6] - goals[:-1], axis=1) <= 1.0
        changed = np.any(goals[1:] != goals[:-1], axis=1)
        np.testing.assert_array_equal(changed, reached)
        assert {course.cell(*goal) for goal in goals} <= set(course.vertices)
        changes += int(changed.sum())
    assert changes > 20


def test_parts_are_of_whole_episodes_and_the_set_has_its_ends():
    recipe = PointMaze("pointmaze-medium-stitch", 200)
    parts = recipe.parts(1_000_000, 0)
    assert len(parts) == 50 and {part.steps for part in parts} == {20_000}
    assert {part.steps for part in PointMaze("pointmaze-giant-navigate", 2000).parts(1_000_000, 0)} == {20_000}
    data = recipe.dataset(recipe.collect(Part(0, 500, 0)), 500, 0)
    assert np.diff(data.episodes).ravel().tolist() == [200, 200, 100]
    assert not data.terminals.any() and data.timeouts.sum() == 3
    assert data.attributes["name"] == "pointmaze-medium-stitch (regenerated by OGBench's recipe, seed 0)"
    assert data.attributes["environment"] == "pointmaze-medium-v0"
    assert data.infos["qpos"].shape == data.infos["qvel"].shape == (500, 2)
    np.testing.assert_array_equal(data.infos["qpos"], data.observations)
    inside = ~data.last
    np.testing.assert_array_equal(data.next_observations[inside], data.observations[1:][inside[:-1]])


def test_a_part_is_the_same_whenever_it_is_made_and_no_other():
    recipe = PointMaze("pointmaze-teleport-navigate", 50)
    np.random.seed(3)
    outside = np.random.get_state()[1].copy()
    first = recipe.collect(Part(0, 100, 0))["observations"]
    np.testing.assert_array_equal(np.random.get_state()[1], outside)
    np.testing.assert_array_equal(recipe.collect(Part(0, 100, 0))["observations"], first)
    validation = PointMaze("pointmaze-teleport-navigate", 50, stream=1)
    for other, part in ((recipe, Part(1, 100, 0)), (recipe, Part(0, 100, 1)), (validation, Part(0, 100, 0))):
        assert np.abs(other.collect(part)["observations"] - first).max() > 1


@pytest.fixture(scope="module")
def follower(tmp_path_factory):
    """A policy that has the ant's spec and no training worth the name."""
    import reverie

    rng = np.random.default_rng(0)
    seen, acted = rng.normal(size=(60, 29)), rng.uniform(-0.5, 0.5, (60, 8))
    data = reverie.Dataset.from_arrays(
        seen, acted, rewards=np.zeros(60), terminals=np.zeros(60), timeouts=np.arange(60) % 20 == 19,
        action_low=-1.0, action_high=1.0,
    )  # fmt: skip
    file = tmp_path_factory.mktemp("agents") / "ant-xy.safetensors"
    reverie.fit(TinyBC(), data, steps=1, progress=False).export(file)
    return file


def test_the_ant_is_led_by_a_policy_in_a_file(follower):
    recipe = AntMaze("antmaze-medium-stitch", 20, agent=follower)
    rows = recipe.collect(Part(0, 50, 0))
    data = recipe.dataset(dict(rows), 50, 0)
    assert data.observations.shape == (50, 29) and data.actions.shape == (50, 8)
    assert np.diff(data.episodes).ravel().tolist() == [20, 20, 10]
    np.testing.assert_array_equal(data.observations, np.hstack([rows["qpos"], rows["qvel"]]))
    inside = ~data.last
    np.testing.assert_array_equal(data.next_observations[inside], data.observations[1:][inside[:-1]])
    again = recipe.collect(Part(0, 50, 0))
    assert all(np.array_equal(rows[key], again[key]) for key in rows)
    assert data.attributes["agent"] == "ant-xy" and data.attributes["action_noise"] == 0.2


def test_the_ants_actions_are_the_policys_with_noise(follower):
    from reverie.evaluation.acting import RunPolicy
    from reverie.training import load

    course = Course.of(make("antmaze-medium-v0"))
    quiet = AntMaze("antmaze-medium-stitch", 30, noise=0.0, agent=follower).collect(Part(0, 30, 0))
    loud = AntMaze("antmaze-medium-stitch", 30, agent=follower).collect(Part(0, 30, 0))
    start = quiet["observations"][0]
    np.testing.assert_array_equal(loud["observations"][0], start)  # the same start, the same goal
    seed = int(Part(0, 30, 0).rng().integers(2**31))
    policy, near = RunPolicy(load(follower), seed), course.nearby[course.cell(*start[:2])]
    acted = []
    for goal in near:
        policy.reset(1)
        direction = course.direction(*start[:2].tolist(), course.centre(goal))
        acted.append(policy.act(np.concatenate([start[2:], direction]).astype(np.float32)[None])[0])
    assert min(np.abs(actions - quiet["actions"][0]).max() for actions in acted) < 1e-4
    assert np.std(loud["actions"][0] - quiet["actions"][0]) == pytest.approx(0.2, rel=0.6)


def test_the_neighbours_are_looked_at_in_the_oracles_order():
    assert NEIGHBOURS == ((-1, 0), (0, -1), (1, 0), (0, 1))
