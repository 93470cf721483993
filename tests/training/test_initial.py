"""Trainings that begin from another run."""

import json
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

import gymnasium
import jax
import numpy as np
import pytest
from tiny_algorithm import TinyBC, TinyExplorer, leaves, synthetic

import reverie
from reverie.cli import main
from reverie.errors import RunError
from reverie.learning import Optimised, Stage, ema, optimiser
from reverie.training import beginning, fit_online
from reverie.training.store import Store

FIRST, OTHER = synthetic(), synthetic(200, seed=1)
OTHER = replace(OTHER, observations=3 * OTHER.observations + 1)
"""Other statistics than those that the first run knows."""
STILL = TinyBC(lr=0.0)
fit = partial(reverie.fit, progress=False)


@dataclass(frozen=True)
class Heir(TinyBC):
    """Begins with what another run averaged, in its own units."""

    name: ClassVar[str] = "heir"

    def init_from(self, key, spec, other, state):
        assert other.algorithm.name == "tiny-bc" and other.spec is not spec
        fresh = self.init(key, spec)
        return replace(fresh, actor=Optimised.create(state.ema, self.optimiser()))


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    return fit(TinyBC(), FIRST, steps=20, seeds=2, segment=20, out=tmp_path_factory.mktemp("first") / "run")


@pytest.fixture(scope="module")
def single():
    return fit(TinyBC(), FIRST, steps=20, segment=20)


def same(a, b):
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def test_fine_tuning_goes_on_in_the_units_of_the_first_run(single):
    """One update by hand, of the first run's state, on the other data in the first run's units."""
    tuned = fit(TinyBC(), OTHER, steps=1, seed=5, initial=single)
    assert same(jax.tree.leaves(tuned.spec), jax.tree.leaves(single.spec))
    view, _ = TinyBC().prepare(OTHER, single.spec)
    draw, now = jax.random.split(jax.random.fold_in(jax.random.key(5), 1))
    known = single.state()
    begun = replace(known, actor=Optimised.create(known.actor.params, TinyBC().optimiser()), made=jax.numpy.int32(0))
    expected, _ = jax.jit(TinyBC().update)(begun, view.draw(draw, 32), now)
    for a, b in zip(jax.tree.leaves(expected), jax.tree.leaves(tuned.state()), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
    assert int(tuned.state().made) == tuned.step == 1


@dataclass(frozen=True)
class Decaying(TinyBC):
    """With a learning rate that falls to nothing."""

    name: ClassVar[str] = "decaying"
    decay: int = 0

    def optimiser(self):
        return optimiser(1e-2, clip=1.0, schedule="cosine", steps=self.decay) if self.decay else optimiser(1e-2)


def test_a_rate_that_has_decayed_begins_anew_whatever_the_schedules_are():
    method = Decaying(decay=10)
    first = fit(method, FIRST, steps=10, segment=5)
    tuned = fit(method, OTHER, steps=5, segment=5, initial=first)
    before, after = (jax.tree.leaves(run.state().actor.params) for run in (first, tuned))
    assert all(abs(a - b).max() > 1e-3 for a, b in zip(before, after, strict=True))
    assert int(tuned.state().made) == 5
    begun = beginning.states(Decaying(), first.spec, (0,), first)  # of moments of another structure
    assert same(jax.tree.leaves(begun.actor.params), jax.tree.leaves(first.states.actor.params))
    assert not any(leaf.any() for leaf in jax.tree.leaves(begun.actor.moments))


@dataclass(frozen=True)
class TwoStages(TinyBC):
    """One update of the actor, then the average's alone, which begins from nothing."""

    name: ClassVar[str] = "two-stages"

    @property
    def stages(self):
        def begin(state, key):
            return replace(state, ema=jax.tree.map(lambda leaf: 0 * leaf, state.ema))

        def follow(state, batch, key):
            average = ema(state.ema, state.actor.params, 0.5)
            return replace(state, ema=average, made=state.made + 1), {"made": state.made}

        return Stage(self.update, 1), Stage(follow, begin=begin)


def test_a_method_of_stages_goes_through_them_again_from_what_it_has_learned():
    first = fit(TwoStages(), FIRST, steps=2, segment=1)
    tuned = fit(TwoStages(), OTHER, steps=3, segment=1, initial=first)
    assert not same(jax.tree.leaves(first.states.actor.params), jax.tree.leaves(tuned.states.actor.params))
    for average, param in zip(*map(jax.tree.leaves, (tuned.states.ema, tuned.states.actor.params)), strict=True):
        np.testing.assert_allclose(average, 0.75 * param)
    assert np.isnan(tuned.metrics()["loss"]).tolist() == [False, True, True]
    np.testing.assert_array_equal(tuned.metrics()["made"], [np.nan, 1, 2])


def test_each_seed_begins_from_its_own_or_all_from_the_only_one(first, single):
    own = fit(STILL, OTHER, steps=3, seeds=2, seed=7, initial=first)
    assert same(jax.tree.leaves(own.states.actor.params), jax.tree.leaves(first.states.actor.params))
    shared = fit(STILL, OTHER, steps=3, seeds=3, initial=single)
    for seed in range(3):
        assert same(jax.tree.leaves(shared.state(seed).actor.params), jax.tree.leaves(single.state().actor.params))
    # The first run's arrays were not given away.
    assert all(np.isfinite(leaf).all() for leaf in leaves(first) + leaves(single))


@pytest.mark.parametrize(
    "algorithm, seeds, message",
    [
        (
            TinyBC(widths=(8,)),
            2,
            r"have other sizes than those of this tiny-bc \(.actor\[0\]\[0\] is \[3, 16\], not \[3, 8\]\); give it",
        ),
        (TinyBC(), 3, "has 2 seeds and this training 3; give 1 or as many"),
    ],
)
def test_what_does_not_fit_is_refused(first, algorithm, seeds, message):
    with pytest.raises(RunError, match=message):
        fit(algorithm, OTHER, steps=1, seeds=seeds, initial=first)


@pytest.mark.parametrize(
    "wider, message",
    [
        (
            "observations",
            r"observations that are vectors float32 \[3\], and those of the data are vectors float32 \[4\]",
        ),
        (
            "actions",
            r"actions that are vectors float32 \[2\], and those of the data are vectors float32 \[3\]; give one",
        ),
    ],
)
def test_data_of_other_sizes_are_refused(single, wider, message):
    arrays = {name: getattr(OTHER, name) for name in ("observations", "actions", "rewards", "timeouts")}
    arrays[wider] = np.pad(arrays[wider], ((0, 0), (0, 1)))
    with pytest.raises(RunError, match=f"The run to begin from has {message}"):
        fit(TinyBC(), reverie.Dataset.from_arrays(**arrays), steps=1, initial=single)


def test_another_method_must_know_how_to_begin(first):
    @dataclass(frozen=True)
    class Stranger(TinyBC):
        name: ClassVar[str] = "stranger"

    with pytest.raises(RunError, match="stranger cannot begin from a run of tiny-bc; give a run of stranger"):
        fit(Stranger(), OTHER, steps=1, seeds=2, initial=first)
    heir = fit(Heir(lr=0.0), OTHER, steps=2, seeds=2, initial=first)
    assert same(jax.tree.leaves(heir.states.actor.params), jax.tree.leaves(first.states.ema))
    assert not same(jax.tree.leaves(heir.spec), jax.tree.leaves(first.spec))  # its own data's units


def test_the_folder_says_where_from_and_a_resumed_run_is_the_uninterrupted_one(first, tmp_path, monkeypatch):
    options = {"seeds": 2, "segment": 5, "checkpoint_every": 5, "initial": first}
    whole = fit(TinyBC(), OTHER, steps=20, **options)
    out = tmp_path / "tuned"
    fit(TinyBC(), OTHER, steps=10, out=out, **options)
    expected = {"algorithm": "tiny-bc", "step": 20, "path": str(first.path)}
    assert json.loads((out / "config.json").read_text())["initial"] == expected
    assert same(leaves(reverie.resume(out, OTHER, steps=20, progress=False)), leaves(whole))
    assert json.loads((out / "config.json").read_text())["initial"] == expected
    assert json.loads((first.path / "config.json").read_text())["initial"] is None

    class Died(Exception):
        pass

    def die(*arguments):
        raise Died

    early = tmp_path / "early"
    with monkeypatch.context() as patch, pytest.raises(Died):  # before the first checkpoint
        patch.setattr(Store, "append", die)
        fit(TinyBC(), OTHER, steps=20, out=early, **options)
    assert same(leaves(reverie.resume(early, OTHER, progress=False)), leaves(whole))


def test_a_run_without_a_folder_cannot_be_begun_from_again(single, tmp_path, monkeypatch):
    monkeypatch.setattr(Store, "append", lambda *arguments: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        fit(TinyBC(), OTHER, steps=5, out=tmp_path / "run", initial=single)
    with pytest.raises(RunError, match="has no checkpoint yet and began from a run without a folder; train again with"):
        reverie.resume(tmp_path / "run", OTHER, progress=False)


class Empty(gymnasium.Env):
    """Nothing to see, one step an episode."""

    observation_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)
    action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        return np.zeros(1, np.float32), {}

    def step(self, action):
        return np.zeros(1, np.float32), 0.0, True, False, {}


def test_online_training_goes_on_from_a_run_on_data(tmp_path):
    data = reverie.Dataset.from_arrays(np.zeros((8, 1)), np.ones((8, 1)), np.zeros(8), terminals=np.ones(8))
    offline = fit(TinyExplorer(), data, steps=3, out=tmp_path / "offline")
    how = {"warmup": 10, "update_interval": 10, "log_every": 10, "utd_ratio": 0.1, "out": tmp_path / "online"}
    online = fit_online(TinyExplorer(), Empty, steps=20, initial=offline, progress=False, **how)
    assert (online.states >= offline.states).all() and online.states.sum() > offline.states.sum()
    assert (online.histories[0].dataset().actions >= 0).all()  # its own, not those of chance
    expected = {"algorithm": "tiny-explorer", "step": 3, "path": str(tmp_path / "offline")}
    assert json.loads((tmp_path / "online" / "config.json").read_text())["initial"] == expected
    fit_online(TinyExplorer(), Empty, steps=30, resume=True, progress=False, **how)
    assert json.loads((tmp_path / "online" / "config.json").read_text())["initial"] == expected


def test_the_command_line_begins_from_a_folder(first, tmp_path):
    OTHER.save(f"d4rl:{tmp_path}/other.hdf5")
    out = tmp_path / "tuned"
    arguments = ["train", "tiny-bc", "--data", f"d4rl:{tmp_path}/other.hdf5", "--steps", "3", "--seeds", "2"]
    assert main([*arguments, "--lr", "0.0", "--initial", str(first.path), "--out", str(out)]) == 0
    run = reverie.load(out)
    assert same(jax.tree.leaves(run.states.actor.params), jax.tree.leaves(first.states.actor.params))
    assert main([*arguments, "--initial", str(tmp_path / "nothing"), "--out", str(out) + "2"]) == 2
