"""A body that two agents move: the same as one's, seen and paid."""

import numpy as np
import pytest

from reverie.collection.mamujoco import Split
from reverie.environments import make
from reverie.environments.mamujoco import whose

pytest.importorskip("gymnasium_robotics")
NAME = "mamujoco-halfcheetah"


@pytest.fixture(scope="module")
def columns():
    return whose(NAME)


def test_the_team_moves_the_body_as_one_agent_would(columns):
    """What each sees are columns of the whole observation; the reward is the body's, once."""
    seen, done = columns
    assert seen.shape == (2, 12) and sorted(done.ravel().tolist()) == list(range(6))
    team, alone, rng = make(NAME), make("HalfCheetah-v5"), np.random.default_rng(0)
    (mine, _), (whole, _) = team.reset(seed=3), alone.reset(seed=3)
    for _ in range(3):
        np.testing.assert_allclose(mine, whole[seen], atol=1e-6)
        action = rng.uniform(-1, 1, 6).astype(np.float32)
        mine, reward, *_ = team.step(action[done])
        whole, same, *_ = alone.step(action)
        assert reward == pytest.approx(same, abs=1e-6)


def test_what_one_agent_did_is_cut_up_for_the_team(columns):
    seen, done = columns
    rng = np.random.default_rng(0)
    rows = {name: rng.normal(size=(4, 17)).astype(np.float32) for name in ("observations", "next_observations")}
    rows |= {"actions": rng.uniform(-1, 1, (4, 6)).astype(np.float32), "rewards": np.arange(4.0)}
    rows |= {"terminals": np.zeros(4, bool), "timeouts": np.arange(4) == 3}
    rows |= {"action_low": -np.ones((1, 6), np.float32), "action_high": np.ones((1, 6), np.float32)}
    data = Split(f"{NAME}-medium", "HalfCheetah-v5", (33,)).dataset(rows, 4, 0)
    np.testing.assert_array_equal(data.observations, rows["observations"][:, seen])
    np.testing.assert_array_equal(data.actions, rows["actions"][:, done])
    assert data.attributes["environment"] == NAME and data.returns.tolist() == [6.0]
    assert Split(f"{NAME}-medium", "HalfCheetah-v5", (33,)).file(33).exists()
