"""Data read in a stream: what training in memory makes of them, a block at a time."""

from collections import Counter
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_algorithm import TinyBC, TinyExplorer, assert_same, leaves

import reverie
from reverie.catalogue import ALGORITHMS
from reverie.data import CDF, Dataset, Gaussian, MinMax, Spec, rewards_to_go, windows
from reverie.data.shard_writer import ShardWriter
from reverie.data.streaming import Streamed
from reverie.errors import DataError, RunError
from reverie.learning.stages import Stage
from reverie.training import streaming

fit = partial(reverie.fit, segment=10, progress=False)


@dataclass(frozen=True)
class TinyWindows(TinyBC):
    """The same for every step of a window."""

    name: ClassVar[str] = "tiny-windows"

    def prepare(self, data, spec=None):
        spec = spec or Spec.fit(data, observations=Gaussian, actions=MinMax)
        return windows(data, spec, 4, columns=("observations", "actions", "returns")), spec


def episodes(seed=0):
    """Of many lengths, some too short for a window; most are cut, some end in a terminal."""
    draw = np.random.default_rng(seed)
    stops = np.cumsum(draw.integers(2, 30, 40))
    steps, last = stops[-1], np.zeros(stops[-1], bool)
    last[stops - 1] = True
    terminals = last & (draw.uniform(size=steps) < 0.3)
    observations = draw.normal(size=(steps, 3))
    return Dataset.from_arrays(
        observations, np.tanh(observations[:, :2]), draw.normal(size=steps), terminals, last & ~terminals
    )


DATA = episodes()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("shards") / "set"
    with ShardWriter(str(path), shard_rows=40) as writer:
        writer.append(DATA)
    return path


@pytest.fixture(autouse=True)
def known(monkeypatch):
    monkeypatch.setitem(ALGORITHMS, TinyWindows.name, TinyWindows)


@pytest.mark.parametrize("algorithm", [TinyBC(), TinyWindows()], ids=lambda each: each.name)
def test_a_block_of_all_rows_is_training_in_memory(algorithm, folder):
    streamed = reverie.stream(f"parquet:{folder}")
    assert streamed.blocks == 1
    assert_same(fit(algorithm, streamed, steps=20, seeds=2), fit(algorithm, DATA, steps=20, seeds=2))


def test_a_resumed_run_is_the_uninterrupted_one(folder, tmp_path):
    streamed = Streamed(str(folder), block_rows=130)
    train = partial(fit, TinyWindows(), streamed, block_updates=20)
    whole = train(steps=70, out=tmp_path / "whole")
    train(steps=30, out=tmp_path / "run")  # which ends within a block
    resumed = reverie.resume(tmp_path / "run", steps=70, progress=False)
    assert_same(resumed, whole)
    # The program of two seeds may round otherwise.
    np.testing.assert_allclose(leaves(train(steps=70, seeds=2))[0][:1], leaves(whole)[0], rtol=1e-4, atol=1e-6)
    with pytest.raises(RunError, match="block_rows=130 and not 260"):
        reverie.fit(TinyWindows(), Streamed(str(folder), 260), steps=80, out=tmp_path / "run", resume=True)
    with pytest.raises(RunError, match="has its data in a stream"):
        reverie.resume(tmp_path / "run", DATA, progress=False)


def test_every_epoch_has_every_shard_once_in_an_order_of_its_own(folder):
    streamed = Streamed(str(folder), block_rows=130)
    shards, blocks = len(streamed.header.shards), streamed.blocks
    assert blocks > 3 and shards % blocks
    epochs = [[streamed.drawn(epoch * blocks + block) for block in range(blocks)] for epoch in range(5)]
    assert all(sorted(sum(epoch, ())) == list(range(shards)) for epoch in epochs)
    assert len({str(epoch) for epoch in epochs}) == 5
    sizes = {len(block) for epoch in epochs for block in epoch}
    assert max(sizes) - min(sizes) == 1
    assert max(len(streamed.read(block)) for block in epochs[0]) <= streamed.most_rows


def test_updates_are_on_the_blocks_in_their_order(folder):
    @dataclass(frozen=True)
    class Telling(TinyBC):
        def update(self, state, batch, key):
            return state, {"drawn": batch["index"].mean()}

    streamed = Streamed(str(folder), block_rows=130)
    run = fit(Telling(), streamed, steps=60, block_updates=20)
    spec, keys = Telling().prepare(DATA)[1], [jax.random.fold_in(jax.random.key(0), update + 1) for update in range(60)]
    blocks = [Telling().prepare(streamed.read(streamed.drawn(number)), spec)[0] for number in range(3)]
    drawn = jax.vmap(lambda key, count: jax.random.randint(jax.random.split(key)[0], (32,), 0, count).mean())
    rows = drawn(jnp.stack(keys), jnp.repeat(jnp.asarray(list(map(len, blocks))), 20))
    np.testing.assert_allclose(run.metrics()["drawn"], np.reshape(rows, (6, 10)).mean(1), rtol=1e-5)


def test_all_rows_of_a_block_are_drawn_and_no_others(folder):
    """The filled-up rows never are, for blocks of all sizes."""
    streamed = Streamed(str(folder), block_rows=130)
    feed, spec = streaming.prepared(TinyExplorer(), streamed, None)
    with feed:
        for number in range(streamed.blocks):
            part = feed.at(number, streamed.blocks - 1)
            drawn = Counter(np.asarray(part.index(reverie.training.loop.each_seed((number,)).key[0], 20_000)).tolist())
            view = TinyExplorer().prepare(streamed.read(streamed.drawn(number)), spec)[0]
            assert sorted(drawn) == list(range(len(view)))
            assert len(part.view) == streamed.most_rows > len(view)
            some = np.arange(len(view))
            np.testing.assert_array_equal(part.take(some)["observations"], view.take(some)["observations"])


def test_units_are_those_of_all_the_data(folder):
    @dataclass(frozen=True)
    class Fitted(TinyBC):
        def prepare(self, data, spec=None):
            if spec is None:
                spec = Spec.fit(data, observations=Gaussian, actions=MinMax, rewards=CDF)
                span = jnp.asarray([np.ptp(data.returns)])
                units = {"returns": MinMax.fit(rewards_to_go(data)[:, None]), "span": Gaussian(span * 0, span)}
                spec = replace(spec, normalisers=spec.normalisers | units)
            return super().prepare(data, spec)

    spec = streaming.prepared(Fitted(), Streamed(str(folder), block_rows=130), None)[1]
    whole = Fitted().prepare(DATA)[1]
    for key in ("observations", "actions", "span"):
        for x, y in zip(vars(spec.normalisers[key]).values(), vars(whole.normalisers[key]).values(), strict=True):
            np.testing.assert_allclose(x, y, rtol=3e-7, atol=1e-8)
    levels = np.linspace(-1, 1, 50)[:, None]
    apart = spec.normalisers["rewards"].inverse(levels) - whole.normalisers["rewards"].inverse(levels)
    assert 0 < np.abs(apart).mean() < 0.3  # a sample's quantiles
    np.testing.assert_array_equal(spec.action_low, whole.action_low)


def test_methods_that_need_all_the_data_are_refused(folder):
    streamed = Streamed(str(folder), block_rows=130)

    @dataclass(frozen=True)
    class Ranked(TinyBC):
        def prepare(self, data, spec=None):
            view, spec = super().prepare(data, spec)
            return view.joined({"share": jnp.full(len(view), np.mean(data.returns))}), spec

    @dataclass(frozen=True)
    class Keeping(TinyBC):
        def prepare(self, data, spec=None):
            view, spec = super().prepare(data, spec)
            return view, replace(spec, kept={"rows": jnp.asarray(data.observations)})

    @dataclass(frozen=True)
    class Deriving(TinyBC):
        @property
        def stages(self):
            return (Stage(self.update, derive=lambda state, view, key: {}),)

    for method, said in ((Ranked, "depends on all others"), (Keeping, "keeps rows"), (Deriving, "derives further")):
        with pytest.raises(RunError, match=said):
            fit(method(), streamed, steps=10)


def test_what_goes_with_a_stream_and_what_does_not(folder, tmp_path):
    streamed = Streamed(str(folder), block_rows=130)
    for more, said in (
        ({"host_data": True}, "choose one of the two"),
        ({"block_updates": 15}, "block_updates=15 must be a multiple of segment=10"),
        ({"block_updates": 0}, "block_updates=0 must be at least 1"),
    ):
        with pytest.raises(RunError, match=said):
            fit(TinyBC(), streamed, steps=20, **more)
    with pytest.raises(RunError, match=r"block_updates=20 is for data of reverie\.stream"):
        fit(TinyBC(), DATA, steps=20, block_updates=20)
    with pytest.raises(DataError, match="block_rows=0"):
        Streamed(str(folder), block_rows=0)
    with pytest.raises(DataError, match=r"'d4rl:x\.hdf5' cannot be read in a stream"):
        reverie.stream("d4rl:x.hdf5")
    with pytest.raises(DataError, match="There is no whole data set in"):
        reverie.stream(f"parquet:{tmp_path}")


def test_a_shard_that_is_lost_while_training_ends_it_in_a_sentence(tmp_path):
    with ShardWriter(str(tmp_path / "set"), shard_rows=40) as writer:
        writer.append(DATA)
    streamed = Streamed(str(tmp_path / "set"), block_rows=40)

    class Losing:
        def on_segment(self, run):
            for number in range(len(streamed.header.shards)):
                (tmp_path / "set" / f"{number:06d}.parquet").unlink(missing_ok=True)
            return {}

    with pytest.raises(DataError, match=r"There is no file .*parquet', which dataset\.json lists"):
        fit(TinyBC(), streamed, steps=100, block_updates=10, callbacks=[Losing()])
