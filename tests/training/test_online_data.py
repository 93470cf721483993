"""A data set beside the replay: its share of every batch, its units, and a run that goes on with it."""

import json
from dataclasses import dataclass, replace
from typing import ClassVar

import gymnasium
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_algorithm import TinyExplorer, synthetic

import reverie
from reverie.baselines import PPO
from reverie.data import Dataset
from reverie.data.replay import Replay, in_network_units, room, write
from reverie.errors import RunError
from reverie.policies import FQL, QC
from reverie.roles import PolyGRAD
from reverie.training import fit_online

SETTINGS = {"warmup": 10, "update_interval": 10, "log_every": 10, "utd_ratio": 0.2, "progress": False}


class Still(gymnasium.Env):
    """Episodes of 5 steps that pay 0."""

    observation_space = gymnasium.spaces.Box(-9, 9, (1,), np.float32)
    action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.steps += 1
        return np.zeros(1, np.float32), 0.0, self.steps == 5, False, {}


def paid(n=50, reward=1000.0) -> Dataset:
    rng = np.random.default_rng(0)
    return Dataset.from_arrays(rng.normal(3, 2, (n, 1)), rng.uniform(-1, 1, (n, 1)), np.full(n, reward), np.ones(n))


@dataclass(frozen=True)
class Watching(TinyExplorer):
    """Tells which part of its batch is of the data set."""

    name: ClassVar[str] = "watching"
    batch_size: int = 8

    def update(self, state, batch, key):
        return state, {"share": (batch["rewards"] > 500).mean(), "seen": batch["observations"].mean()}


@pytest.mark.parametrize("share", [0.25, 1.0])
def test_every_batch_has_its_share_of_the_data(share):
    run = fit_online(Watching(), Still, steps=40, seeds=2, data=paid(), data_share=share, **SETTINGS)
    np.testing.assert_array_equal(run.metrics()["share"], share)


def test_without_a_run_to_begin_from_the_units_are_the_data_s():
    kind = FQL(hidden=(8,), critic_hidden=(8,), batch_size=8, standardise=True)
    run = fit_online(kind, Still, steps=20, data=paid(), **SETTINGS)
    assert run.spec.normalisers["observations"].mean == pytest.approx(paid().observations.mean(), rel=1e-5)


def test_from_offline_to_online_and_on(tmp_path):
    """A run goes on with the data that it was given; without a source it has to be given again, and no other."""
    kind = FQL(hidden=(8,), critic_hidden=(8,), batch_size=8)
    offline = reverie.fit(kind, paid_in_pendulum(), steps=2, progress=False)
    options = SETTINGS | {"out": tmp_path / "run", "initial": offline}
    fit_online(kind, "Pendulum-v1", steps=20, data=paid_in_pendulum(), **options)
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["data"]["fingerprint"] == paid_in_pendulum().fingerprint
    with pytest.raises(RunError, match="does not say where its data came from"):
        reverie.resume(tmp_path / "run", steps=30, progress=False)
    with pytest.raises(RunError, match="was begun with data = "):
        reverie.resume(tmp_path / "run", paid_in_pendulum(60), steps=30, progress=False)
    assert reverie.resume(tmp_path / "run", paid_in_pendulum(), steps=30, progress=False).step == 30


def paid_in_pendulum(n=50) -> Dataset:
    rng = np.random.default_rng(0)
    bounds = {"action_low": np.full(1, -2.0), "action_high": np.full(1, 2.0)}
    return Dataset.from_arrays(rng.normal(size=(n, 3)), rng.uniform(-2, 2, (n, 1)), np.ones(n), np.ones(n), **bounds)


def test_a_data_set_and_what_excludes_it_are_refused():
    with pytest.raises(RunError, match="data= fills a part of each batch, and ppo learns from its present policy"):
        fit_online(PPO(), Still, steps=40, data=paid(), progress=False)
    with pytest.raises(RunError, match="data= fills a part of each batch, and synthesizer= as well"):
        made = reverie.synthesizers.SynthER()
        fit_online(FQL(), Still, steps=40, data=paid(), synthesizer=made, **SETTINGS)
    with pytest.raises(RunError, match="capacity=15 steps do not divide among envs=2, and qc learns from"):
        fit_online(QC(), Still, steps=40, data=paid(), envs=2, capacity=15, **SETTINGS)


def test_rows_of_the_data_have_the_space_of_the_environment():
    with pytest.raises(RunError, match="The data set has observations that are"):
        fit_online(Watching(), Still, steps=40, data=synthetic(), **SETTINGS)
    narrow = replace(paid(), action_low=np.full(1, -0.5, np.float32))
    with pytest.raises(RunError, match=r"The least action of the data set is \[-0.5\], and that of Still \[-1.0\]"):
        fit_online(Watching(), Still, steps=40, data=narrow, **SETTINGS)


def lived(n: int = 30, seed: int = 0) -> Dataset:
    """So many steps, of episodes of which some end and some are cut."""
    rng = np.random.default_rng(seed)
    ends = np.isin(np.arange(n), [4, 11, 12, 20, n - 1])
    observations = rng.normal(size=(n + 1, 2))
    following = np.where(ends[:, None], rng.normal(size=(n, 2)), observations[1:])
    terminals = ends & (np.arange(n) % 2 == 0)
    return Dataset.from_arrays(
        *(observations[:-1], rng.uniform(-1, 1, (n, 1)), rng.normal(size=n)), terminals=terminals,
        timeouts=ends & ~terminals, next_observations=following,
    )  # fmt: skip


def replayed(spec, capacity: int, *lives: Dataset) -> Replay:
    """The steps of each environment, as many, as they come in turn, six at a time, where there is room for so many."""
    arrays = [data.arrays() | {"timeouts": data.timeouts} for data in lives]
    turns = {name: np.stack([each[name] for each in arrays], 1) for name in arrays[0]}
    turns = {name: x.reshape(1, -1, *x.shape[2:]) for name, x in turns.items()}
    rows = in_network_units({name: x for name, x in turns.items() if name != "timeouts"}, spec)
    rows |= {"timeouts": jnp.asarray(turns["timeouts"], jnp.float32)}
    kept, n = room(rows, capacity), turns["rewards"].shape[1]
    for first in range(0, n, 6):
        part = {name: x[:, first : first + 6] for name, x in rows.items()}
        kept = write(kept, jnp.asarray(first), part)
    return Replay({name: x[0] for name, x in kept.items()}, jnp.asarray(n), len(lives))


@pytest.mark.parametrize("capacity", [None, 12])
def test_chunks_of_a_replay_are_those_of_the_same_data(capacity):
    """Row by row, of 30 steps of which, where there is room for 12, the last 12 are left."""
    data, algorithm = lived(), QC(chunk_size=3, discount=0.9)
    view, spec = algorithm.prepare(data)
    replay = algorithm.online_view(replayed(spec, capacity or 40, data))
    steps = np.arange(len(data) - (capacity or len(data)), len(data))
    found, expected = replay.take(jnp.asarray(steps % (capacity or len(data)))), view.take(jnp.asarray(steps))
    valid = np.asarray(expected["valid"])
    assert 0 < valid.sum() < len(steps)
    for name in expected.keys() - {"index"}:
        chosen = valid > 0 if name in ("rewards", "next_observations", "terminals") else slice(None)
        np.testing.assert_allclose(found[name][chosen], expected[name][chosen], atol=1e-5, err_msg=name)
    assert found.keys() == expected.keys()


@pytest.mark.parametrize("capacity", [None, 12])
def test_chunks_of_two_environments_are_each_one_s_own(capacity):
    """Row by row those of either environment's steps alone, also where only the last 12 are left."""
    lives, algorithm = [lived(15), lived(15, seed=1)], QC(chunk_size=3, discount=0.9)
    spec = algorithm.spec(lives[0])
    replay = algorithm.online_view(replayed(spec, capacity or 40, *lives))
    for env, data in enumerate(lives):
        view, _ = algorithm.prepare(data, spec)
        steps = np.arange(15 - (capacity or 30) // 2, 15)
        found = replay.take(jnp.asarray((2 * steps + env) % (capacity or 40)))
        expected = view.take(jnp.asarray(steps))
        valid = np.asarray(expected["valid"])
        assert 0 < valid.sum() < len(steps)
        np.testing.assert_array_equal(found["valid"], valid)
        for name in expected.keys() - {"index"}:
            chosen = valid > 0 if name in ("rewards", "next_observations", "terminals") else slice(None)
            np.testing.assert_allclose(found[name][chosen], expected[name][chosen], atol=1e-5, err_msg=name)


class Counting(Still):
    """Observations are the number of the step, rewards that of the environment; every other is a second one."""

    made = 0

    def __init__(self):
        self.number, Counting.made = float(Counting.made % 2), Counting.made + 1

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.steps += 1
        return np.float32([self.steps]), self.number, self.steps == 7, False, {}


def test_a_replay_of_two_environments_goes_on_in_its_order_and_cuts_what_was_under_way(tmp_path):
    """Every chunk that counts, of a run that was stopped in the middle of episodes of 7 steps and gone on with, is of
    one environment, whose number it is paid."""
    kind = QC(hidden=(8,), critic_hidden=(8,), batch_size=8, chunk_size=3, candidates=2, flow_steps=2, discount=1.0)
    options = SETTINGS | {"envs": 2, "out": tmp_path / "run"}
    fit_online(kind, Counting, steps=20, **options)
    run = fit_online(kind, Counting, steps=60, resume=True, **options)
    with np.load(tmp_path / "run" / "replay" / "60" / "rows.npz") as rows:
        kept = {name: jnp.asarray(rows[name][0]) for name in rows.files}
    batch = kind.online_view(Replay(kept, jnp.asarray(60), 2)).take(jnp.arange(60))
    whole = np.asarray(batch["valid"]) > 0
    paid, seen = np.asarray(batch["rewards"]), np.asarray(run.spec.denormalise("observations", batch["observations"]))
    mean = np.asarray(run.spec.denormalise("rewards", (paid / 3)[:, None]))[:, 0]
    assert set(np.round(mean[whole], 3)) == {0.0, 1.0}
    after = np.asarray(run.spec.denormalise("observations", batch["next_observations"]))
    np.testing.assert_allclose((after - seen)[whole], 3, atol=1e-4)
    # Of each environment's 30 steps: cut after the 5 of the warm-up and, when stopped, after 10.
    assert whole.sum() == 2 * (3 + 1 + 5 + 5 + 4)


@pytest.mark.parametrize("capacity", [None, 12])
def test_windows_of_a_replay_are_those_of_the_same_data(capacity):
    """In all rows, those beyond the episode's end as well, where its last stands."""
    data, algorithm = lived(), PolyGRAD(horizon=4)
    view, spec = algorithm.prepare(data)
    replay = algorithm.online_view(replayed(spec, capacity or 40, data))
    steps = np.arange(len(data) - (capacity or len(data)), len(data))
    found, expected = replay.take(jnp.asarray(steps % (capacity or len(data)))), view.take(jnp.asarray(steps))
    assert found.keys() == expected.keys()
    assert 0 < expected["mask"].mean() < 1
    for name in expected.keys() - {"index"}:
        np.testing.assert_allclose(found[name], expected[name], atol=1e-5, err_msg=name)


def test_q_chunking_goes_on_online():
    kind = QC(hidden=(8,), critic_hidden=(8,), batch_size=8, chunk_size=3, candidates=2, flow_steps=2)
    data = Dataset.from_arrays(
        np.zeros((50, 1)), np.zeros((50, 1)), np.ones(50), np.zeros(50), timeouts=np.arange(50) % 5 == 4
    )
    offline = reverie.fit(kind, data, steps=2, progress=False)
    run = fit_online(kind, Still, steps=30, initial=offline, data=data, **SETTINGS)
    assert np.isfinite(run.metrics()["flow_loss"]).all() and run.step == 30


def test_a_model_of_windows_learns_online_beside_data():
    kind = PolyGRAD(
        horizon=3, diffusion_steps=2, width=8, blocks=1, hidden=(), critic_hidden=(), batch_size=8, imagined=4
    )
    data = Dataset.from_arrays(
        np.zeros((50, 1)), np.zeros((50, 1)), np.ones(50), np.zeros(50), timeouts=np.arange(50) % 5 == 4
    )
    run = fit_online(kind, Still, steps=30, data=data, **SETTINGS)
    assert np.isfinite(run.metrics()["diffusion_loss"]).all()
    assert run.step == 30
