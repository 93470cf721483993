"""The controller that looks ahead."""

import math

import numpy as np
import pytest

from reverie.collection.pusht import Settings

pytest.importorskip("pymunk")
pytest.importorskip("shapely")

import shapely

from reverie.collection.pushing import (
    Pusher,
    covered,
    distance,
    paced,
    steps_left,
    sweep,
    turned,
    way_round,
)
from reverie.environments.pusht import CENTRE, ENOUGH, GOAL, LIMIT, OUTLINE, RADIUS, PushT, Simulation, coverage

BLOCK = shapely.Polygon(OUTLINE)


def _pusher(style=1, seed=0, **settings):
    return Pusher(style, np.random.default_rng(seed), Settings(**settings))


def test_points_are_turned_as_angles_grow():
    np.testing.assert_allclose(turned(np.array([[1.0, 0.0], [0.0, 2.0]]), math.pi / 2), [[0, 1], [-2, 0]], atol=1e-12)


def test_a_sweep_is_the_angle_around_the_origin():
    angles = np.linspace(0.3, 0.3 + 5, 50)
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    assert sweep(circle) == pytest.approx(5) and sweep(circle[::-1]) == pytest.approx(-5)


def test_a_paced_line_has_even_steps_and_its_own_ends():
    line = np.array([[0.0, 0.0], [10.0, 0.0], [10.0, 5.0]])
    points = paced(line, 4.0)
    np.testing.assert_allclose(np.linalg.norm(np.diff(points, axis=0), axis=1)[:2], 15 / 4)
    np.testing.assert_array_equal(points[[0, -1]], line[[0, -1]])
    assert len(points) == 5


def test_the_distance_is_the_way_of_a_shift_and_the_chord_of_a_turn():
    poses = np.array([GOAL, (GOAL[0] + 3, GOAL[1] + 4, GOAL[2]), (*GOAL[:2], GOAL[2] + 0.2)])
    radii = np.linalg.norm(OUTLINE, axis=1)
    chord = 2 * math.sin(0.1) * np.sqrt((radii**2).mean())
    np.testing.assert_allclose(distance(poses), [0, 5, chord], atol=1e-9)


def test_many_coverages_are_those_of_one_and_enough_leaves_no_steps():
    poses = np.array([GOAL, (258, 255, 0.8), (262, 250, 0.7), (300, 200, 2)])
    np.testing.assert_allclose(covered(poses), [coverage(pose) for pose in poses], atol=1e-12)
    left = steps_left(poses)
    np.testing.assert_array_equal(left == 0, covered(poses) > ENOUGH)
    assert (np.diff(left) >= 0).all()


@pytest.mark.parametrize("turn", [1, -1])
@pytest.mark.parametrize("bearing", [0.3, 1.2, 2.5, 4.0])
def test_a_way_round_keeps_off_the_block_and_goes_the_way_it_should(turn, bearing):
    here, there = (
        np.array([0.0, 45.0]) + 120 * np.array([math.cos(a), math.sin(a)]) for a in (bearing, bearing + math.pi)
    )
    way = way_round(here, there, turn)
    assert shapely.LineString(way).distance(BLOCK) > RADIUS + 2.9
    assert np.sign(sweep(way - [0, 45])) == turn
    np.testing.assert_array_equal(way[[0, -1]], [here, there])


def test_where_nothing_is_between_the_way_is_straight():
    here, there = np.array([-100.0, -60.0]), np.array([100.0, -50.0])
    np.testing.assert_array_equal(way_round(here, there, 1), [here, there])


def test_the_disc_goes_where_the_hand_leads_it():
    """Through the start of the push to its end, without touching anything on the way, and not far behind the hand."""
    pusher, simulation = _pusher(), Simulation()
    simulation.place((60.0, 60.0), (400.0, 400.0, 0.0))
    walk = np.array([[60.0, 60.0], [60.0, 200.0], [150.0, 200.0]])
    heading, way = np.array([0.0, 1.0]), 50.0
    seen = []
    for target in pusher._targets(walk, heading, way):
        assert math.dist(target, simulation.position) < 60
        simulation.step(target)
        seen.append(simulation.position)
    drawn = shapely.LineString([*walk, walk[-1] + heading * (way + pusher.settings.run_up)])
    assert max(drawn.distance(shapely.Point(place)) for place in seen) < 8
    np.testing.assert_allclose(seen[-1], drawn.coords[-1], atol=3)  # a step of the push is 9


def test_what_it_foresees_is_what_comes():
    """Without noise: the steps of the last push are as many as were foreseen, and the goal is covered after them."""
    env = PushT()
    env.reset(options={"state": (200.0, 150.0, 250.0, 240.0, GOAL[2])})
    pusher = _pusher(noise=0.0)
    while True:
        targets = pusher.decide(env.simulation)
        foreseen = pusher._try(env.simulation, targets)
        for step, target in enumerate(targets, 1):
            info = env.step(target)[4]
            if info["success"]:
                assert step == foreseen
                return
        assert env.steps < LIMIT and foreseen > len(targets)


def test_a_trial_begins_with_the_discs_speed():
    """It is carried into the block by it, past a target that touches nothing."""
    simulation, pose = Simulation(), (256.0, 200.0, 0.0)
    simulation.place((256.0, 180.0), pose)
    simulation.agent.velocity = 0.0, 300.0
    targets = np.full((5, 2), (256.0, 180.0))
    foreseen = _pusher()._try(simulation, targets)
    for target in targets:
        simulation.step(target)
    assert foreseen == pytest.approx(5 + steps_left(np.array([simulation.pose]))[0])
    assert simulation.pose[1] > pose[1] + 3


@pytest.mark.parametrize("style", [1, -1])
def test_it_covers_the_goal_and_goes_round_in_its_style(style):
    for seed in (0, 1):
        env, pusher = PushT(), _pusher(style, seed, drawn=200, tried=6)
        env.reset(seed=seed)
        places, ended = [], False
        while not ended:
            places.append(turned(np.array(env.simulation.position) - _middle(env), -env.simulation.pose[2]))
            target = pusher.act(env.simulation)
            assert math.dist(target, env.simulation.position) < 60
            _, _, done, cut, info = env.step(target)
            ended = done or cut
        assert info["success"] and style * sweep(np.array(places)) > 1


def _middle(env):
    return np.array(env.simulation.block.local_to_world(CENTRE))
