"""Data sharded over devices: the same batches and numbers, a part of the rows on each, and only batches exchanged."""

import json
import os
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh
from test_fit import python
from test_streaming import DATA, TinyWindows
from tiny_algorithm import TinyBC, assert_same, leaves

import reverie
from reverie.catalogue import ALGORITHMS
from reverie.data import Gaussian, Spec, windows
from reverie.data.futures import futures
from reverie.data.shard_writer import ShardWriter
from reverie.data.streaming import Streamed
from reverie.data.tasks import balanced
from reverie.data.views import View, transitions
from reverie.errors import RunError
from reverie.learning.stages import Stage
from reverie.models import Bootstraps
from reverie.planning.demonstrated import Demonstrated
from reverie.training import streaming
from reverie.training.placing import BATCH, SEEDS
from reverie.training.sharding import looked_up, sharded

SPEC = Spec.fit(DATA, observations=Gaussian)
# Adam may turn a rounding error in a gradient near 0 into a small part of the rate, 3e-3.
ROUNDING = {"rtol": 1e-3, "atol": 1e-5}


class Behind(View):
    """Rows that are numbered from the last."""

    rows: jax.Array

    def index(self, key, batch_size):
        return jax.random.randint(key, (batch_size,), -len(self.rows), 0)

    def take(self, index):
        return {"rows": self.rows[index]}


def views() -> dict[str, View]:
    """Rows of all types, windows of which halves are drawn, bootstraps, what is drawn by what is looked up."""
    steps, several = transitions(DATA, SPEC), windows(DATA, SPEC, 4, pad=True)
    odd = {"image": jnp.arange(len(steps) * 6).reshape(-1, 2, 3).astype(jnp.uint8), "flag": steps.rows["rewards"] > 0}
    marked = np.arange(len(DATA)) % 3 == 0
    drawn = np.random.default_rng(0).integers(0, len(steps), (3, len(steps)))
    return {
        "transitions": steps.joined(odd),
        "demonstrated": Demonstrated.of(several, marked),
        "bootstraps": Bootstraps(steps, jnp.asarray(drawn, jnp.int32)),
        "futures": futures(DATA, SPEC, 0.9, 20),
        "behind": Behind(jnp.arange(101)),
    }


PROGRAM = """
import json, os, re
from functools import partial
import jax, numpy as np, reverie
from jax.sharding import PartitionSpec as P
from test_fit import segment_arguments
from test_sharding import DATA, TinyWindows, views
from tiny_algorithm import leaves
from reverie.catalogue import ALGORITHMS
from reverie.data.streaming import Streamed
from reverie.training import loop
from reverie.training.placing import SEEDS, device_mesh, placed
from reverie.training.sharding import sharded, specs_of

out, found = os.environ["OUT"], {}
ALGORITHMS[TinyWindows.name] = TinyWindows
algorithm, states, keys, done, view = segment_arguments(4000)
mesh = device_mesh(4, 2, algorithm.batch_size)
inputs = (*placed((states, keys), mesh, SEEDS), placed(done, mesh), sharded(view, algorithm.batch_size, mesh))
text = loop.advance.lower(algorithm, *inputs, length=20, mesh=mesh).compile().as_text()
given = re.findall("= (.*?) (all-gather|all-reduce|all-to-all|reduce-scatter|collective-permute)(?:-start)?[(]", text)
sizes = [np.prod(json.loads(shape)) for each, _ in given for shape in re.findall("\\\\[[0-9,]*\\\\]", each)]
found["moved"] = [sorted({kind for _, kind in given}), int(max(sizes))]

jax.config.update("jax_disable_most_optimizations", True)  # as in the other tests' process
mesh, keys = device_mesh(4, 2, 10), jax.random.split(jax.random.key(0), 2)
made = {name: sharded(view, 10, mesh) for name, view in views().items()}
specs = {name: specs_of(view) for name, view in made.items()}

def drawn(keys, views):
    return jax.vmap(lambda key: {name: view.draw(key, 10) for name, view in views.items()})(keys)

how = {"in_specs": (P(SEEDS), specs), "out_specs": P(SEEDS), "axis_names": {SEEDS}, "check_vma": False}
ours, theirs = jax.jit(jax.shard_map(drawn, mesh=mesh, **how))(keys, made), jax.jit(drawn)(keys, views())
found["same"] = {name: jax.tree.all(jax.tree.map(np.array_equal, ours[name], theirs[name])) for name in theirs}
lie = [(x, rows) for view in made.values() for x, rows in zip(view.arrays, view.rows) if rows]
found["parts"] = [([len(part.data) for part in x.addressable_shards], rows) for x, rows in lie]

fit = partial(reverie.fit, TinyWindows(), segment=10, seeds=2, progress=False)
run = fit(DATA, steps=20, devices=4, shard_data=True, out=out)
more = reverie.resume(out, DATA, 30, devices=2, progress=False)
streamed = fit(Streamed(out + "-set", block_rows=200), steps=20, block_updates=10, devices=4, shard_data=True)
for name, each in (("memory", run), ("resumed", more), ("stream", streamed)):
    np.savez(f"{out}-{name}.npz", *leaves(each))
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def stream(tmp_path_factory):
    out = tmp_path_factory.mktemp("sharded") / "run"
    with ShardWriter(f"{out}-set", shard_rows=20) as writer:
        writer.append(DATA)
    return Streamed(f"{out}-set", block_rows=200)


@pytest.fixture(scope="module")
def four(stream):
    """What four devices make of it all."""
    out = str(stream.header.folder).removesuffix("-set")
    flags = f"--xla_force_host_platform_device_count=4 {os.environ.get('XLA_FLAGS', '')}"
    done = python(PROGRAM, OUT=out, XLA_FLAGS=flags, JAX_PLATFORMS="cpu")
    assert done.returncode == 0, done.stderr
    saved = {name: np.load(f"{out}-{name}.npz") for name in ("memory", "resumed", "stream")}
    return json.loads(done.stdout) | {name: list(each.values()) for name, each in saved.items()}


@pytest.fixture(autouse=True)
def known(monkeypatch):
    monkeypatch.setitem(ALGORITHMS, TinyWindows.name, TinyWindows)


def test_batches_are_the_very_rows(four):
    assert four["same"] == dict.fromkeys(views(), True)


def test_each_device_has_its_part_of_the_rows(four):
    assert len(four["parts"]) > 15
    assert all(sizes == [-(-rows // 4)] * 4 for sizes, rows in four["parts"])


def test_devices_exchange_batches_and_no_rows_beside(four):
    kinds, largest = four["moved"]
    assert largest <= 32 * 3 * 2  # a batch's observations for either seed, of 4000 rows
    assert "reduce-scatter" in kinds


def test_parameters_are_those_of_one_device(four):
    fit = partial(reverie.fit, TinyWindows(), segment=10, seeds=2, progress=False)
    for name, steps in (("memory", 20), ("resumed", 30)):
        for a, b in zip(four[name], leaves(fit(DATA, steps=steps)), strict=True):
            np.testing.assert_allclose(a, b, **ROUNDING)


def test_a_stream_gives_the_parameters_of_one_device(four, stream):
    fit = partial(reverie.fit, TinyWindows(), segment=10, seeds=2, progress=False)
    for a, b in zip(four["stream"], leaves(fit(stream, steps=20, block_updates=10)), strict=True):
        np.testing.assert_allclose(a, b, **ROUNDING)


def test_what_a_draw_needs_as_a_whole_stays_whole():
    several = windows(DATA, SPEC, 4, pad=True)
    groups = {"groups": balanced(several, np.arange(len(several)) % 3)}
    named = {
        name: dict(zip(leaf_names(view), looked_up(view, 12), strict=True)) for name, view in (views() | groups).items()
    }
    assert all(named["transitions"].values())
    of_windows = {name for name, by_row in named["groups"].items() if by_row and name.startswith(".view")}
    assert of_windows >= {f".view.{name}" for name in ("starts", "episode", "episodes", "rows['actions']")}
    assert not named["groups"][".members"]
    assert not named["bootstraps"][".drawn"] and named["bootstraps"][".rows.rows['actions']"]


def leaf_names(view):
    return [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_flatten_with_path(view)[0]]


def test_one_device_shards_nothing():
    assert_same(*(reverie.fit(TinyBC(), DATA, steps=5, shard_data=each, progress=False) for each in (True, False)))


def test_what_cannot_be_sharded_is_refused(stream):
    @dataclass(frozen=True)
    class Deriving(TinyBC):
        name: ClassVar[str] = "deriving"

        @property
        def stages(self):
            return (Stage(self.update, derive=lambda state, view, key: {}),)

    class Shuffled(View):
        rows: jax.Array

        def index(self, key, batch_size):
            return jnp.arange(batch_size)

        def take(self, index):
            return {"actions": jnp.flip(self.rows)[index]}

    with pytest.raises(RunError, match=r"deriving derives further columns .* \(without shard_data\)"):
        reverie.fit(Deriving(), DATA, steps=5, shard_data=True)
    with pytest.raises(RunError, match=r"host_data and shard_data keep .* choose one of the two"):
        reverie.fit(TinyBC(), DATA, steps=5, shard_data=True, host_data=True)
    mesh = Mesh(np.array(jax.devices()[:1]).reshape(1, 1), (SEEDS, BATCH))
    with pytest.raises(RunError, match="A Shuffled is needed as a whole in every draw"):
        sharded(Shuffled(jnp.zeros(100)), 4, mesh)


def test_a_block_of_fewer_files_than_devices_is_refused(stream):
    many = SimpleNamespace(size=stream.fewest_shards + 1)
    with pytest.raises(RunError, match=r"may be of 5 files, and 6 devices share it; give larger blocks"):
        streaming.prepared(TinyBC(), stream, None, many, shard=True)
