"""Goals in walls are refused, in the mazes whose walls are known."""

import pytest

from reverie.environments.goals import check_goal
from reverie.errors import ReverieError


@pytest.mark.parametrize("environment", ["pointmaze-umaze", "PointMaze_UMaze-v3"])
def test_a_goal_in_a_wall_or_outside_is_refused(environment):
    check_goal(environment, (1.0, 1.0))
    for x, y in ((0.0, 0.0), (-1.0, 0.0), (9.0, 0.0)):
        with pytest.raises(ReverieError, match=rf"The goal \({x:.2f}, {y:.2f}\) is in a wall of {environment}"):
            check_goal(environment, (x, y))


def test_ogbench_s_mazes_know_their_own_walls():
    pytest.importorskip("ogbench")
    check_goal("pointmaze-medium-v0", (0.0, 0.0))
    for x, y in ((-4.0, 0.0), (8.0, 0.0), (100.0, 0.0)):
        with pytest.raises(ReverieError, match="give one in a free cell"):
            check_goal("pointmaze-medium-v0", (x, y))


@pytest.mark.parametrize("environment", ["", "Hopper-v5", "pointmaze-nowhere-v0"])
def test_where_no_walls_are_known_any_goal_will_do(environment):
    check_goal(environment, (0.0, 0.0))
