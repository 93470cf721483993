"""Rollouts in learned dynamics: what each algorithm makes of uncertainty that is known, and the data that comes out."""

from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import reverie
from reverie.cli import main
from reverie.data import Dataset, transitions, windows
from reverie.errors import DataError, ReverieError, RunError
from reverie.loading import load_dataset
from reverie.models import pack
from reverie.synthesizers import MBPO, TATU, MOReL, chunked

TINY = {
    "members": 3,
    "elites": 2,
    "hidden": (),
    "policy_hidden": (4,),
    "batch_size": 8,
    "held_out": 10,
    "horizon": 6,
    "chunk": 60,
}
# One configuration of each, as every other is compiled anew.
KINDS = {MBPO: MBPO(**TINY), MOReL: MOReL(**TINY, threshold=3.0), TATU: TATU(**TINY, threshold=3.0)}
SLOPES = (0.05, -0.15)
"""Of the two elites' changes of the state, in its own units and standard deviations, which are the same."""


def data(n=200, terminals=0.0, **changed):
    """States of mean 0 and standard deviation 1, unit changes and rewards from -7."""
    draw = np.random.default_rng(0)
    states = draw.normal(size=(n, 2))
    states = (states - states.mean(0)) / states.std(0)
    changes = draw.permutation(np.repeat([-1.0, 1.0], n // 2))[:, None]
    given = {
        "observations": states,
        "actions": draw.uniform(-2, 2, (n, 1)),
        "rewards": np.append(-7, draw.normal(size=n - 1).clip(-6, 6)),
        "terminals": None if terminals is None else draw.random(n) < terminals,
        "timeouts": np.ones(n),
        "next_observations": states + changes,
        "action_low": -2,
        "action_high": 2,
    }
    return Dataset.from_arrays(**given | changed)


@pytest.fixture(scope="module")
def runs():
    """One update, of data in which every tenth step ends; what is learned is the same for all."""
    run = reverie.fit(KINDS[MBPO], data(terminals=0.1), steps=1, progress=False)
    return {kind: replace(run, algorithm=algorithm) for kind, algorithm in KINDS.items()}


@pytest.fixture(scope="module")
def known(runs):
    """A specification, and a state whose two elites move s by their slope times s, exactly, and never end."""
    _, spec = KINDS[MBPO].prepare(data())
    state = runs[MBPO].state()
    dynamics = state.best.model.ensemble
    slopes = jnp.array([*SLOPES, 9.0])[:, None, None]
    weight = jnp.zeros((3, 3, 6)).at[:, :2, :2].set(slopes * jnp.eye(2))
    layer = replace_(dynamics.nets.layers[0], weight=weight, bias=jnp.zeros((3, 6)).at[:, 3:].set(-60.0))
    dynamics = replace_(dynamics, lowest=jnp.full((3, 3), -40.0))
    dynamics = eqx.tree_at(lambda each: each.nets.layers[0], dynamics, layer)
    state = eqx.tree_at(lambda each: each.best.model.ensemble, state, dynamics)
    return spec, eqx.tree_at(lambda each: each.best.least["ensemble"], state, jnp.arange(3.0))


def replace_(module, **changed):
    return eqx.tree_at(lambda each: [getattr(each, key) for key in changed], module, list(changed.values()))


def rolled(kind, known, bound=np.inf):
    """Rollouts `[starts, horizon, ...]` with that bound of the uncertainty."""
    spec, state = known
    ready = KINDS[kind].ready(state, spec)._replace(bound=jnp.float32(bound))
    return jax.device_get(KINDS[kind].rollouts(ready, spec, jax.random.key(1)))


# What uncertainty does


def test_the_dynamics_are_the_elites_and_every_step_is_kept(known):
    spec, _ = known
    rows = rolled(MBPO, known)
    assert rows["valid"].all()
    assert rows["observations"].shape == (10, 6, 2)
    ratio = rows["next_observations"] / rows["observations"] - 1
    assert {*np.unique(np.round(ratio, 4))} == {np.float32(slope) for slope in SLOPES}
    np.testing.assert_array_equal(rows["next_observations"][:, :-1], rows["observations"][:, 1:])
    starts = rows["observations"][:, 0]
    assert (starts[:, None] == np.asarray(spec.kept["observations"])).all(-1).any(1).all()
    assert not rows["terminals"].any()
    assert (np.abs(rows["actions"]) <= 2).all()


def uncertainty(rows):
    """TATU's: half the distance between the two, which is a fifth of the state; MOReL's is the whole."""
    return 0.1 * np.linalg.norm(rows["observations"], axis=-1)


def test_tatu_cuts_a_rollout_where_the_sum_of_its_uncertainty_passes_the_bound(known):
    rows = rolled(TATU, known, bound=0.5)
    spent = np.cumsum(uncertainty(rows), 1)
    np.testing.assert_array_equal(rows["valid"], spent <= 0.5)
    lengths = rows["valid"].sum(1)
    assert len(set(lengths)) >= 3
    assert not rows["terminals"].any()


def test_tatu_takes_the_uncertainty_from_the_reward(known):
    plain, paid = rolled(MBPO, known), rolled(TATU, known)
    np.testing.assert_array_equal(plain["next_observations"], paid["next_observations"])
    np.testing.assert_allclose(plain["rewards"] - paid["rewards"], uncertainty(plain), atol=1e-5)
    assert uncertainty(plain).min() > 1e-3


def test_morel_halts_with_its_penalty_where_the_members_disagree(known):
    plain, rows = rolled(MBPO, known), rolled(MOReL, known, bound=0.15)
    unknown = 2 * uncertainty(plain) > 0.15
    assert 0.2 < unknown.mean() < 0.9
    before = np.pad(np.cumsum(unknown, 1)[:, :-1] > 0, ((0, 0), (1, 0)))
    np.testing.assert_array_equal(rows["valid"], ~before)
    np.testing.assert_array_equal(rows["terminals"], unknown)
    np.testing.assert_array_equal(rows["rewards"], np.where(unknown, np.float32(-7 - 30), plain["rewards"]))


def test_predictions_are_the_elites_mean_and_want_no_bound(known):
    """Which would be measured on all the rows kept."""

    class Boundless(TATU):
        def bound(self, ensemble, spec):
            raise AssertionError("measured")

    spec, state = known
    states = np.float32([[1.0, -2.0], [0.5, 0.0]])
    after, rewards = Boundless(**TINY).predict(state, spec, states, np.zeros((2, 1), np.float32))
    np.testing.assert_allclose(after, states * (1 + np.mean(SLOPES)), atol=1e-5)
    assert rewards.shape == (2,)


@pytest.mark.parametrize("kind, factor", [(TATU, 0.1), (MOReL, 0.2)])
def test_the_bound_is_the_threshold_times_the_datas_largest(known, kind, factor):
    spec, state = known
    found = KINDS[kind].ready(state, spec)
    largest = np.linalg.norm(spec.kept["observations"], axis=-1).max()
    np.testing.assert_allclose(found.bound, 3 * factor * largest, rtol=1e-5)
    assert found.lowest_reward == -7


def test_a_bound_that_every_step_passes_is_refused_in_a_sentence(known, monkeypatch):
    spec, state = known
    monkeypatch.setattr(chunked, "PASSES", 3)
    ready = KINDS[TATU].ready(state, spec)._replace(bound=jnp.float32(0))
    with pytest.raises(ReverieError, match=r"30 rollouts came to 0 steps, and a chunk has 60.* raise the threshold"):
        KINDS[TATU].packed(ready, spec, jax.random.key(0))


# From rollouts to data


def test_what_is_packed_are_the_valid_steps_with_an_end_to_every_rollout():
    valid = np.array([[1, 1, 0], [0, 0, 0], [1, 1, 1], [1, 0, 0]], bool)
    terminals = np.array([[0, 0, 1], [1, 0, 0], [0, 0, 0], [1, 1, 1]], bool)
    packed = pack({"actions": np.arange(12).reshape(4, 3), "terminals": terminals, "valid": valid})
    np.testing.assert_array_equal(packed["actions"], [0, 1, 6, 7, 8, 9])
    np.testing.assert_array_equal(packed["terminals"], [0, 0, 0, 0, 0, 1])
    np.testing.assert_array_equal(packed["timeouts"], [0, 1, 0, 0, 1, 0])


@pytest.mark.parametrize("kind", [MBPO, MOReL, TATU])
def test_as_many_rows_as_asked_in_consistent_episodes(runs, kind):
    made = runs[kind].generate(150, progress=False)
    assert len(made) == 150
    ends = made.terminals | made.timeouts
    assert not (made.terminals & made.timeouts).any()
    np.testing.assert_array_equal(made.next_observations[:-1][~ends[:-1]], made.observations[1:][~ends[:-1]])
    lengths = made.episodes[:, 1] - made.episodes[:, 0]
    assert lengths.max() == TINY["horizon"]
    assert 0 < made.terminals.mean() < 1
    full = lengths == TINY["horizon"]
    assert made.timeouts[made.episodes[full, 1] - 1].any()
    assert made.attributes["algorithm"] == kind.name
    assert (made.action_low, made.action_high) == (-2, 2)
    assert len(transitions(made, runs[kind].spec)) == 150
    assert len(windows(made, runs[kind].spec, 4)) > 0


def test_rows_are_reproducible_and_those_of_fewer_are_the_first_of_more(runs):
    run = runs[TATU]
    first, again = (run.generate(150, progress=False) for _ in range(2))
    assert first.fingerprint == again.fingerprint
    other = run.generate(150, key=1, progress=False)
    assert (first.observations != other.observations).any()
    fewer = run.generate(100, progress=False)
    for name in ("observations", "actions", "rewards", "terminals", "next_observations"):
        np.testing.assert_array_equal(getattr(fewer, name), getattr(first, name)[:100])
    spec, state = run.spec, run.state()
    rest = [*run.algorithm.chunks(state, spec, jax.random.key(0), 150, start=60)]
    assert [len(each) for each in rest] == [60, 30]
    np.testing.assert_array_equal(np.concatenate([each.rewards for each in rest]), first.rewards[60:])


@pytest.mark.parametrize("value", [False, True])
def test_ends_that_never_or_always_occur_do_so_in_what_is_generated(runs, value):
    _, spec = KINDS[MBPO].prepare(data(terminals=float(value)))
    made = KINDS[MBPO].generate(runs[MBPO].state(), spec, jax.random.key(0), 60)
    assert (made.terminals == value).all()


def test_the_start_states_are_the_rows_kept_and_no_more_than_asked_for():
    algorithm = MBPO(**TINY, kept_rows=20)
    view, spec = algorithm.prepare(data())
    assert spec.kept["observations"].shape == (20, 2)
    assert algorithm.count_held_out(spec) == 4
    assert len(view) == 196


# Refusals


def test_data_that_cannot_do_are_refused_in_a_sentence():
    with pytest.raises(DataError, match="no rewards"):
        MBPO().prepare(data(rewards=None))
    with pytest.raises(DataError, match="no terminals"):
        TATU().prepare(data(terminals=None))
    with pytest.raises(DataError, match="4 transitions are too few to hold one out"):
        MOReL().prepare(data(4))
    ended = np.arange(200) % 10 == 9
    with pytest.raises(DataError, match=r"20 terminals and no 'next_observations'.*or choose synther"):
        MBPO().prepare(data(terminals=ended, timeouts=np.zeros(200), next_observations=None))
    cut = MBPO().prepare(data(timeouts=ended, next_observations=None))[1]
    assert len(cut.kept["actions"]) == 180


@pytest.mark.parametrize(
    ("kind", "changed", "sentence"),
    [
        (MBPO, {"elites": 8}, "elites = 8 exceeds members = 7"),
        (MBPO, {"horizon": 0}, "horizon = 0, but it must be a whole number of at least 1"),
        (TATU, {"threshold": -1.0}, "threshold = -1.0, but it must be"),
        (MOReL, {"penalty": -1.0}, "penalty = -1.0, but it must be"),
        (MOReL, {"elites": 1}, "elites = 1, but it must be a whole number of at least 2"),
        (TATU, {"elites": 1}, "elites = 1, but it must be a whole number of at least 2"),
    ],
)
def test_fields_that_cannot_work_are_refused(kind, changed, sentence):
    with pytest.raises(ReverieError, match=sentence):
        kind(**changed)


def test_rollouts_without_a_threshold_have_none_to_change(runs):
    with pytest.raises(RunError, match="'threshold' is nothing that mbpo can change in acting"):
        runs[MBPO].acting(threshold=1.0)


def test_train_and_generate_on_the_command_line(tmp_path):
    """The run's folder is all that is needed: in it are the states to start from."""
    source, target, run = f"d4rl:{tmp_path}/real.hdf5", f"d4rl:{tmp_path}/made.hdf5", str(tmp_path / "run")
    data(terminals=0.1).save(source)
    sizes = [*(f"--{name.replace('_', '-')}={value}" for name, value in TINY.items() if "hidden" not in name)]
    sizes += ["--hidden", "--policy-hidden", "4", "--threshold", "3.0"]
    assert main(["train", "tatu", "--data", source, "--steps", "2", "--out", run, *sizes]) == 0
    assert main(["generate", run, "-n", "40", "--out", target]) == 0
    written, made = load_dataset(target), reverie.load(run).generate(40, progress=False)
    for name in ("observations", "actions", "rewards", "terminals", "timeouts", "next_observations"):
        np.testing.assert_array_equal(getattr(written, name), getattr(made, name))
    assert len(load_dataset(f"{source}+{target}")) == 240
