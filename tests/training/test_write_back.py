"""Updates that change the replay they learn from."""

from dataclasses import dataclass
from typing import ClassVar

import gymnasium
import numpy as np
import pytest
from tiny_algorithm import TinyExplorer, synthetic

import reverie
from reverie.errors import RunError
from reverie.training import fit_online


class Echo(gymnasium.Env):
    """Pays the action itself, so that a row tells what its action was at first. Episodes of 3 steps."""

    observation_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)
    action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.steps += 1
        return np.zeros(1, np.float32), float(action[0]), self.steps == 3, False, {}


@dataclass(frozen=True)
class Nudging(TinyExplorer):
    """Adds 1 to the actions that it draws."""

    name: ClassVar[str] = "nudging"
    writes: ClassVar = ("actions",)

    def update(self, state, batch, key):
        return *super().update(state, batch, key), {"actions": batch["actions"] + 1}


@dataclass(frozen=True)
class Beside(TinyExplorer):
    """Adds 1 to copies of the actions that it draws."""

    name: ClassVar[str] = "beside"
    copies: ClassVar = {"moved": "actions"}
    writes: ClassVar = ("moved",)

    def update(self, state, batch, key):
        return *super().update(state, batch, key), {"moved": batch["moved"] + 1}


def test_a_column_begins_as_a_copy_of_another_and_changes_alone(tmp_path):
    """Room for 20 of 40 rows: what is new begins anew, also after a stop."""
    settings = SETTINGS | {"out": tmp_path, "capacity": 20}
    for steps in (40, 60):
        run = fit_online(Beside(rows=20), Echo, steps=steps, resume=steps > 40, **settings)
        (kept,) = (tmp_path / "replay").iterdir()
        with np.load(kept / "rows.npz") as rows:
            np.testing.assert_allclose(rows["actions"][..., 0], rows["rewards"], atol=1e-6)
            added = (rows["moved"] - rows["actions"])[0, :, 0]
        np.testing.assert_allclose(added, np.round(added), atol=1e-5)
        newest = slice(10, 20)  # after the last update
        np.testing.assert_allclose(added[newest], 0, atol=1e-6)
        assert added[:10].max() > 0
    assert run.step == 60


def changes(path, seeds=1):
    """What was added to each row's action in the replay kept with the last checkpoint, `[S, rows]`."""
    (kept,) = (path / "replay").iterdir()
    with np.load(kept / "rows.npz") as rows:
        return (rows["actions"][..., 0] - rows["rewards"])[:seeds]


SETTINGS = {"warmup": 10, "update_interval": 10, "log_every": 10, "utd_ratio": 0.2, "progress": False}


@pytest.mark.parametrize("envs", [1, 2])
def test_rows_change_where_they_were_drawn_and_stay_so_in_a_resumed_run(tmp_path, envs):
    settings = SETTINGS | {"envs": envs, "seeds": 2, "out": tmp_path}
    first = fit_online(Nudging(), Echo, steps=40, **settings)
    np.testing.assert_allclose(changes(tmp_path, 2), first.states[:, :40], atol=1e-5)
    assert {0, 1, 2} <= set(np.asarray(first.states).ravel().tolist())
    later = fit_online(Nudging(), Echo, steps=60, resume=True, **settings)
    np.testing.assert_allclose(changes(tmp_path, 2), later.states[:, :60], atol=1e-5)
    assert (later.states[:, :40] >= first.states[:, :40]).all() and (later.states > first.states).any()
    # The history has what was done.
    for history in later.histories:
        np.testing.assert_array_equal(history.dataset().actions[:, 0], history.dataset().rewards)


def test_a_full_replay_forgets_the_changes_with_the_row(tmp_path):
    """Room for 10, all of which are new after each round of steps."""
    fit_online(Nudging(rows=10), Echo, steps=40, out=tmp_path, capacity=10, **SETTINGS)
    np.testing.assert_allclose(changes(tmp_path), 0, atol=1e-6)
    fit_online(Nudging(rows=10), Echo, steps=60, out=tmp_path, capacity=10, resume=True, **SETTINGS)
    np.testing.assert_allclose(changes(tmp_path), 0, atol=1e-6)


def test_a_full_replay_of_several_environments_holds_the_newest_steps_of_each_after_a_resume(tmp_path):
    """Room for 20: at step 50 the last 5 of each environment before the stop at 40, and the 5 of each after it."""
    settings = SETTINGS | {"envs": 2, "capacity": 20, "out": tmp_path}
    fit_online(TinyExplorer(rows=20), Echo, steps=40, **settings)
    run = fit_online(TinyExplorer(rows=20), Echo, steps=50, resume=True, **settings)
    done = run.histories[0].dataset().rewards
    with np.load(tmp_path / "replay" / "50" / "rows.npz") as rows:
        expected = np.concatenate([done[15:20], done[35:40], done[40:]])
        np.testing.assert_array_equal(np.sort(rows["rewards"][0]), np.sort(expected))


def test_a_replay_that_was_not_full_at_the_stop_forgets_the_oldest_steps_of_each_environment_later(tmp_path):
    """Room for 40, which 30 steps do not fill: at step 50 the first 5 of each of 2 environments are gone."""
    settings = SETTINGS | {"envs": 2, "capacity": 40, "out": tmp_path}
    fit_online(TinyExplorer(rows=40), Echo, steps=30, **settings)
    run = fit_online(TinyExplorer(rows=40), Echo, steps=50, resume=True, **settings)
    done = run.histories[0].dataset().rewards
    with np.load(tmp_path / "replay" / "50" / "rows.npz") as rows:
        expected = np.concatenate([done[5:15], done[20:]])
        np.testing.assert_array_equal(np.sort(rows["rewards"][0]), np.sort(expected))


@pytest.mark.parametrize("host_data", [False, True])
def test_a_data_set_is_not_changed(tmp_path, host_data):
    with pytest.raises(RunError, match="nudging changes actions of the data it learns from, which only a replay keeps"):
        reverie.fit(Nudging(), synthetic(), steps=5, out=tmp_path / "run", host_data=host_data, progress=False)
    assert not (tmp_path / "run").exists()
