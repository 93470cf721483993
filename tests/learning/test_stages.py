"""Trainings of several stages: in order, cut where they end, and resumed bit for bit."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_algorithm import TinyBC, leaves, synthetic

import reverie
from reverie.catalogue import ALGORITHMS
from reverie.learning.stages import Stage, stage_at


class State(eqx.Module):
    made: jax.Array
    """Updates of each stage."""
    total: jax.Array
    begun: jax.Array


@dataclass(frozen=True)
class Staged(TinyBC):
    """Counts its updates; the second stage sums a row that the first's result makes, and begins by doubling."""

    name: ClassVar[str] = "staged"
    first: int = 5
    second: int = 4

    @property
    def stages(self):
        return (
            Stage(self.count(0), self.first),
            Stage(self.count(1), self.second, begin=self.double, derive=self.scaled),
            Stage(self.count(2)),
        )

    def count(self, number):
        def update(state, batch, key):
            drawn = batch["scaled"].sum() if "scaled" in batch else jax.random.uniform(key)
            state = State(state.made.at[number].add(1), state.total + drawn, state.begun)
            return state, {f"loss_{number}": drawn, "shared": drawn}

        return update

    def double(self, state, key):
        return replace(state, begun=state.begun + 1 + 0 * jax.random.uniform(key))

    def scaled(self, state, view, key):
        return {"scaled": state.made[0] * view.rows["actions"] + jax.random.uniform(key)}

    def init(self, key, spec):
        return State(jnp.zeros(3, jnp.int32), jnp.zeros(()), jnp.zeros(()))

    def act(self, state, spec, observation, carry, feedback, key) -> Any:
        raise NotImplementedError


@pytest.fixture(autouse=True)
def known(monkeypatch):
    monkeypatch.setitem(ALGORITHMS, Staged.name, Staged)


def test_the_stage_of_an_update():
    algorithm = Staged()
    assert [stage_at(algorithm, done)[0] for done in (0, 4, 5, 8, 9, 100)] == [0, 0, 1, 1, 2, 2]
    assert stage_at(algorithm, 6) == (1, 5, 9)
    assert stage_at(TinyBC(), 7) == (0, 0, None)


@pytest.mark.parametrize("segment", [1, 3, 20])
def test_stages_follow_one_another_whatever_the_segments(segment):
    run = reverie.fit(Staged(), synthetic(), steps=12, seeds=2, segment=segment, progress=False)
    np.testing.assert_array_equal(run.states.made, [[5, 4, 3]] * 2)
    np.testing.assert_array_equal(run.states.begun, [1, 1])


@pytest.mark.parametrize("stop", [2, 5, 6, 9])
def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path, stop):
    data = synthetic()
    whole = reverie.fit(Staged(), data, steps=12, seeds=2, segment=2, progress=False)
    options = {"seeds": 2, "segment": 2, "out": tmp_path / "run", "progress": False}
    reverie.fit(Staged(), data, steps=stop, **options)
    resumed = reverie.fit(Staged(), data, steps=12, resume=True, **options)
    assert all(map(np.array_equal, leaves(whole), leaves(resumed)))


def test_it_is_said_when_a_stage_looks_at_all_rows_first(capsys):
    reverie.fit(Staged(), synthetic(), steps=12, segment=20)
    told = [line for line in capsys.readouterr().err.splitlines() if "for all rows" in line]
    assert told == [f"{Staged.name}: computing what this stage learns from, for all rows"]


def test_metrics_of_all_stages_share_a_table_and_survive_the_file(tmp_path):
    run = reverie.fit(Staged(), synthetic(), steps=12, segment=20, out=tmp_path / "run", progress=False)
    for columns in (run.metrics(), reverie.load(tmp_path / "run").metrics()):
        np.testing.assert_array_equal(columns["step"], [5, 9, 12])
        np.testing.assert_array_equal(np.isnan(columns["loss_1"]), [True, False, True])
        assert not np.isnan(columns["shared"]).any()
        assert list(columns)[-2:] == ["seconds", "updates_per_second"]
