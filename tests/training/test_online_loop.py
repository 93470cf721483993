"""What online training begins with, and what of a step it keeps."""

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_algorithm import TinyExplorer

from reverie.data import Dataset, Gaussian, Spec, transitions
from reverie.data.replay import Replay, WindowReplay
from reverie.errors import RunError
from reverie.training import Synthesis, fit_online, loop

SHORT = {"warmup": 20, "update_interval": 10, "log_every": 10, "utd_ratio": 0.1, "progress": False}


class Walk(gymnasium.Env):
    """Sees the sum of its actions; episodes of 4 steps, cut."""

    observation_space = gymnasium.spaces.Box(-10, 10, (1,), np.float32)
    action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.at, self.steps = np.zeros(1, np.float32), 0
        return self.at, {}

    def step(self, action):
        self.at, self.steps = self.at + action, self.steps + 1
        return self.at, float(action[0]), False, self.steps == 4, {}


@dataclass(frozen=True)
class Standardised(TinyExplorer):
    name: ClassVar[str] = "standardised"

    def prepare(self, data, spec=None):
        spec = spec or Spec.fit(data, observations=Gaussian)
        return transitions(data, spec), spec


@dataclass(frozen=True)
class Heir(Standardised):
    """Begins 1000 above what another run counted."""

    name: ClassVar[str] = "heir"

    def init_from(self, key, spec, other, state):
        return state + 1000


def same(one, other) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True))


@pytest.fixture(scope="module")
def first():
    return fit_online(TinyExplorer(), Walk, steps=30, **SHORT)


def test_from_a_run_of_another_method_training_begins_after_a_random_warm_up_in_units_of_its_own(first):
    alone = fit_online(Heir(), Walk, steps=30, **SHORT)
    heir = fit_online(Heir(), Walk, steps=30, initial=first, **SHORT)
    assert same(heir.spec, alone.spec) and "observations" in heir.spec.normalisers
    by_chance = np.random.default_rng(0).uniform(-1, 1, (20, 1)).astype(np.float32)
    np.testing.assert_array_equal(heir.histories[0].dataset().actions[:20], by_chance)
    assert (heir.states >= 1000 + first.states).all()


def test_a_run_of_the_same_method_acts_in_the_warm_up_and_its_units_stay(first):
    before = fit_online(Standardised(), Walk, steps=30, seed=7, **SHORT)
    run = fit_online(Standardised(), Walk, steps=30, initial=before, **SHORT)
    assert same(run.spec, before.spec)
    assert (run.histories[0].dataset().actions >= 0).all()  # of the method, not of chance


@dataclass(frozen=True)
class Still(Standardised):
    def act(self, state, spec, observation, carry, feedback, key):
        return jnp.zeros((len(observation), 1)), carry


@dataclass(frozen=True)
class Waiting(Heir):
    """Does nothing until it has learned."""

    name: ClassVar[str] = "waiting"
    begins_from: ClassVar[str] = "any run"

    @property
    def warming(self):
        return Still()


def test_a_tuner_that_acts_in_a_way_of_its_own_before_it_has_learned_does_so_in_the_warm_up(first):
    """And not where it goes on from a run of its own."""
    run = fit_online(Waiting(), Walk, steps=30, initial=first, **SHORT)
    acted = run.histories[0].dataset().actions
    assert not acted[:20].any() and acted[20:].all()
    again = fit_online(Waiting(), Walk, steps=30, initial=run, **SHORT)
    assert again.histories[0].dataset().actions.all()


@pytest.mark.parametrize("view", [Replay, partial(WindowReplay, length=2)])
def test_a_seed_of_several_reads_its_rows_where_they_are_and_no_copy_of_them(view):
    """The program for two has room for less than one's rows, and reads those of each."""
    rows = {name: jnp.zeros((2, 4096, 8)) for name in ("observations", "actions", "next_observations")}
    rows |= {name: jnp.zeros((2, 4096)) for name in ("rewards", "terminals", "timeouts")}
    rows["actions"] = rows["actions"].at[1].set(1)
    first = Replay({}, jnp.asarray(4096))
    first = first if view is Replay else view(first)
    each, numbers = loop.each_seed((0, 1)), np.uint32(0)
    states = jnp.zeros((2, 8))
    program = loop.advance.lower(Last(), states, each, numbers, first, rows, length=3).compile()
    assert program.memory_analysis().temp_size_in_bytes < sum(x[0].nbytes for x in rows.values()) / 4
    found, *_ = loop.advance(Last(), states, each, numbers, first, rows, length=3)
    np.testing.assert_array_equal(found, np.repeat([[0], [1]], 8, 1))


@dataclass(frozen=True)
class Last(TinyExplorer):
    """Its state is the last action that it was shown."""

    name: ClassVar[str] = "last"

    def update(self, state, batch, key):
        action = batch["actions"].reshape(-1, 8)[0]
        return action, {"drawn": action.mean()}


def test_a_run_with_other_observations_is_not_begun_from(first):
    with pytest.raises(RunError, match=r"observations that are .*1.*, and those of Pendulum-v1 are .*3"):
        fit_online(TinyExplorer(), "Pendulum-v1", steps=30, initial=first, **SHORT)


class Tiring(Walk):
    """Costs half of what it pays."""

    def step(self, action):
        found = super().step(action)
        return *found[:4], {"cost": found[1] / 2}


@dataclass(frozen=True)
class Thrifty(TinyExplorer):
    """Tells how far a batch's costs are from half its rewards; writes, so that its replay is kept as it is."""

    name: ClassVar[str] = "thrifty"
    needs: ClassVar = ("costs",)
    writes: ClassVar = ("terminals",)

    def update(self, state, batch, key):
        wrong = jnp.abs(batch["costs"] - batch["rewards"] / 2).max() + (batch["costs"] == 0).any()
        return state, {"wrong": wrong}, {"terminals": batch["terminals"]}


def test_costs_come_into_batches_and_stay_with_a_resumed_run(tmp_path):
    how = SHORT | {"out": tmp_path, "seeds": 2}
    fit_online(Thrifty(), Tiring, steps=40, **how)
    run = fit_online(Thrifty(), Tiring, steps=60, resume=True, **how)
    np.testing.assert_array_equal(run.metrics()["wrong"], 0)
    for history in run.histories:
        data = history.dataset()
        np.testing.assert_array_equal(data.costs, data.rewards / 2)
    with np.load(tmp_path / "replay" / "60" / "rows.npz") as rows:
        np.testing.assert_array_equal(rows["costs"], rows["rewards"] / 2)
        assert rows["costs"].shape == (2, 60) and rows["costs"].all()


@dataclass(frozen=True)
class Copying:
    """Makes rows of zeros, without costs."""

    name: ClassVar[str] = "copying"
    role: ClassVar[str] = "synthesizer"
    batch_size: int = 4

    def prepare(self, data, spec=None):
        return TinyExplorer().prepare(data, spec)

    def init(self, key, spec):
        return jnp.zeros(())

    def update(self, state, batch, key):
        return state, {"nothing": state}

    def chunks(self, state, spec, key, n, start=0):
        yield Dataset.from_arrays(*np.zeros((2, n, 1)), np.zeros(n), np.ones(n), next_observations=np.zeros((n, 1)))


@dataclass(frozen=True)
class Drawing(Copying):
    """Keeps what its last update, the second, has drawn, and checks that its rows are drawn by another key."""

    def update(self, state, batch, key):
        return jax.random.uniform(key), {"drawn": state}

    def chunks(self, state, spec, key, n, start=0):
        again = jax.random.split(jax.random.fold_in(key, 2))[1]
        assert jax.random.uniform(again) != state != 0
        yield from super().chunks(state, spec, key, n, start)


def test_what_a_synthesizer_makes_is_drawn_by_other_keys_than_its_training_was():
    synthesis = Synthesis(interval=20, updates=2, rows=4)
    assert fit_online(TinyExplorer(), Walk, steps=30, synthesizer=Drawing(), synthesis=synthesis, **SHORT).step == 30


def test_a_synthesizer_that_makes_no_costs_helps_whoever_needs_none():
    how = SHORT | {"steps": 30, "synthesizer": Copying(), "synthesis": Synthesis(interval=20, updates=1, rows=4)}
    assert fit_online(TinyExplorer(), Tiring, **how).step == 30
    with pytest.raises(RunError, match="copying makes no costs, from which thrifty learns"):
        fit_online(Thrifty(), Tiring, **how)
