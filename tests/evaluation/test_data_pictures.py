import numpy as np
import pytest

from reverie.data import Dataset
from reverie.environments import MAZES
from reverie.evaluation import data_pictures, plots
from reverie.evaluation.data_pictures import components, draw_data, frequent, sample, standardised

RNG = np.random.default_rng(0)
N = 400
ENDS = np.arange(N) % 50 == 49


def _data(observations=None, actions=None, **given):
    observations = RNG.normal(size=(N, 4)) if observations is None else observations
    actions = RNG.uniform(-1, 1, (N, 2)) if actions is None else actions
    return Dataset.from_arrays(observations, actions, **{"timeouts": ENDS} | given)


def _titles(figure):
    return [ax.get_title(loc="left") for ax in figure.axes if ax.get_title(loc="left")]


def test_components_are_the_directions_of_most_variance():
    """Variances 9, 4 and 1 in turned axes: coordinates along the first two, and shares 9/14 and 4/14."""
    turn, _ = np.linalg.qr(RNG.normal(size=(3, 3)))
    around, _ = np.linalg.qr(RNG.normal(size=(500, 3)) - 0.0)
    around -= around.mean(axis=0)
    exact = np.linalg.svd(around, full_matrices=False)[0] * [3, 2, 1]
    found, shares = components(exact @ turn.T)
    np.testing.assert_allclose(np.abs(found), np.abs(exact[:, :2]), atol=1e-9)
    np.testing.assert_allclose(shares, [9 / 14, 4 / 14])


def test_a_constant_column_is_no_infinite_one():
    x = np.stack([np.arange(5.0), np.full(5, 0.1)], axis=1)
    np.testing.assert_allclose(standardised(x).std(axis=0), [1, 0])


def test_frequent_states_are_in_the_crowds_and_apart():
    """Three crowds of which the first is the largest and densest, and lone rows around."""
    crowds = [RNG.normal(centre, 0.05, (size, 2)) for centre, size in (((0, 0), 300), ((5, 0), 200), ((0, 5), 200))]
    states = standardised(np.concatenate([*crowds, RNG.uniform(-2, 7, (50, 2))]))
    chosen = frequent(states, states)
    assert sorted(np.searchsorted([300, 500, 700], chosen, side="right").tolist()) == [0, 1, 2]
    assert chosen[0] < 300
    assert len(frequent(np.zeros((10, 2)), np.zeros((10, 2)))) == 1


def test_a_maze_is_drawn_with_its_walls_and_positions():
    maze = MAZES["pointmaze-umaze"]
    data = _data(rewards=np.ones(N), attributes={"environment": maze.environment})
    figure = draw_data(data)
    assert _titles(figure)[:3] == ["positions", "returns", "episode lengths"]
    ax = figure.axes[0]
    assert len(ax.patches) == maze.walls.sum()
    np.testing.assert_allclose(ax.collections[0].get_offsets(), data.observations[:, :2], rtol=1e-6)


def test_states_are_coloured_by_their_episodes_return():
    rewards = RNG.normal(size=N)
    figure = draw_data(_data(rewards=rewards), "a title")
    drawn = figure.axes[0].collections[0].get_array()
    np.testing.assert_allclose(drawn, np.sort(np.repeat(rewards.reshape(-1, 50).sum(axis=1), 50)), atol=1e-4)
    assert figure.get_suptitle() == "a title"


def test_the_actions_at_a_state_are_those_of_the_rows_nearest_to_it(monkeypatch):
    """Two places; in one the actions are all 0.5, in the other they are 0.2 or -0.2 in the second dimension."""
    monkeypatch.setattr(data_pictures, "NEAR", 100)
    second = np.arange(N) >= N // 2
    actions = np.where(second[:, None], np.stack([np.zeros(N), np.where(np.arange(N) % 2, 0.2, -0.2)], 1), 0.5)
    places = np.stack([10.0 * second, np.zeros(N), np.zeros(N)], 1) + RNG.normal(0, 0.01, (N, 3))
    figure = draw_data(_data(places, actions))
    shown = [ax for ax in figure.axes if ax.get_title(loc="left").startswith("state ")]
    clouds = [set(map(tuple, np.round(ax.collections[0].get_offsets(), 3))) for ax in shown]
    assert {(0.5, 0.5)} in clouds and {(0.0, 0.2), (0.0, -0.2)} in clouds


@pytest.mark.parametrize(
    ("data", "titles"),
    [
        (
            lambda: _data({"camera": np.zeros((N, 8, 8, 3), np.uint8), "arm": RNG.normal(size=(N, 3))}),
            {"states", "episode lengths", "step 0", "state 1", "action 1"},
        ),
        (lambda: _data(np.zeros((N, 8, 8, 1), np.uint8)), {"episode lengths", "step 399", "action 0"}),
        (
            lambda: _data(RNG.normal(size=(N, 3, 2)), RNG.normal(size=(N, 3, 5))),
            {"states", "state 3", "agent 2, action 1"},
        ),
        (lambda: _data(np.zeros((N, 1)), np.zeros((N, 1)), rewards=np.zeros(N)), {"states", "returns", "state 1"}),
    ],
    ids=["dictionary", "images", "agents", "nothing varies"],
)
def test_any_data_has_a_picture(data, titles, tmp_path):
    figure = draw_data(data())
    assert titles <= set(_titles(figure))
    assert plots.save(figure, tmp_path / "picture.png").stat().st_size > 5000


def test_large_data_are_sampled_evenly(monkeypatch):
    monkeypatch.setattr(data_pictures, "ROWS", 5)
    assert sample(_data()).rows.tolist() == [0, 100, 200, 299, 399]
