"""The compiled part of training: pure functions of keys and arrays, for all seeds at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from reverie.data.views import OfSeed
from reverie.errors import RunError
from reverie.learning.stages import Stage, stages_of
from reverie.protocols import Copying, Writing
from reverie.settings import with_values
from reverie.training.placing import BATCH, SEEDS
from reverie.training.sharding import specs_of

SeedsBy = Literal["auto", "vmap", "map"]


class Each(NamedTuple):
    """What the trainings in one program have of their own, `[S]` each."""

    key: jax.Array
    """Number 0 folded in draws the initial state, number i update i (from 1)."""
    settings: Mapping[str, jax.Array] = {}
    """Values of the algorithm's fields, by name, where it has not the same for all (`packing`)."""


def each_seed(seeds: tuple[int, ...], settings: Mapping[str, Any] = {}) -> Each:
    """Of these seeds, and their settings `[S]`."""
    keys = jnp.stack([jax.random.key(seed) for seed in seeds])
    return Each(keys, {name: jnp.asarray(values, jnp.float32) for name, values in settings.items()})


@partial(jax.jit, static_argnames="algorithm")
def initial_states(algorithm: Any, each: Each, spec: Any) -> Any:
    """The states of all seeds, every leaf with a leading axis [S]."""

    def one(own: Each) -> Any:
        state = with_values(algorithm, own.settings).init(jax.random.fold_in(own.key, 0), spec)
        # A weak type (of a Python number) would be lost in a checkpoint, and the resumed run compile anew.
        return jax.tree.map(lambda leaf: jax.lax.convert_element_type(leaf, jnp.result_type(leaf)), state)

    # One after another, not vmap: batched decompositions (orthogonal initialisation) may round otherwise.
    return jax.lax.map(one, each)


def state_shapes(algorithm: Any, spec: Any, seeds: tuple[int, ...]) -> Any:
    """Structure, shapes and types of the states of all seeds, at no cost."""
    return jax.eval_shape(lambda spec: initial_states(algorithm, each_seed(seeds), spec), spec)


def _stage(algorithm: Any, own: Each, stage: int) -> Stage:
    """That stage of one of the trainings."""
    return stages_of(with_values(algorithm, own.settings))[stage]


def _stage_key(key: jax.Array, stage: int) -> jax.Array:
    return jax.random.fold_in(jax.random.fold_in(key, 2**32 - 1), stage)


def begin(algorithm: Any, states: Any, each: Each, *, stage: int) -> Any:
    """The states with which the stage begins."""
    return states if stages_of(algorithm)[stage].begin is None else _begin(algorithm, states, each, stage)


@partial(jax.jit, static_argnames=("algorithm", "stage"), donate_argnames="states")
def _begin(algorithm: Any, states: Any, each: Each, stage: int) -> Any:
    def one(state: Any, own: Each) -> Any:
        first: Any = _stage(algorithm, own, stage).begin
        return first(state, _stage_key(own.key, stage))

    return jax.lax.map(lambda pair: one(*pair), (states, each))


def derive(algorithm: Any, states: Any, each: Each, view: Any, *, stage: int) -> dict[str, jax.Array]:
    """The further rows of the view that the stage needs, `[S, M, ...]` each, as every seed has its own; none mostly."""
    return {} if stages_of(algorithm)[stage].derive is None else _derive(algorithm, states, each, view, stage)


@partial(jax.jit, static_argnames=("algorithm", "stage"))
def _derive(algorithm: Any, states: Any, each: Each, view: Any, stage: int) -> dict[str, jax.Array]:
    def one(state: Any, own: Each) -> Any:
        rows: Any = _stage(algorithm, own, stage).derive
        return rows(state, view, _stage_key(own.key, stage))

    return jax.lax.map(lambda pair: one(*pair), (states, each))


@partial(jax.jit, static_argnames=("algorithm", "length", "seeds_by", "mesh", "stage"), donate_argnames="states")
def advance(
    algorithm: Any,
    states: Any,
    each: Each,
    done: jax.Array,
    view: Any,
    derived: Any = None,
    count: jax.Array | None = None,
    *,
    length: int,
    seeds_by: SeedsBy = "map",
    mesh: Mesh | None = None,
    stage: int = 0,
) -> tuple[Any, dict[str, jax.Array], jax.Array, dict[str, jax.Array]]:
    """Make updates done + 1 ... done + length of every seed, in one program and with no transfer to the host; or the
    first `count` of these, a number that the program takes for all up to `length`.

    `states` (donated) and `each` have a leading axis [S] in every leaf, `done` is a scalar, `derived` is what `derive`
    gave for the stage. Over a `mesh` `[SEEDS, BATCH]` each device trains its part of the seeds, on its part
    of their batches. Returns the new states, the metrics [S, length] of every update, whether all of a seed's state is
    finite [S], and the columns [S, M, ...] that the algorithm `writes`.
    """
    writes = written_columns(algorithm)

    def train(state: Any, own: Each, derived: Any, view: Any) -> tuple[Any, ...]:
        make_update = _stage(algorithm, own, stage).update
        rows = view.joined(derived) if derived else view

        def update(carry: Any, number: jax.Array) -> tuple[Any, dict[str, jax.Array]]:
            state, changing = carry
            now = changing if writes else rows
            draw_key, update_key = jax.random.split(jax.random.fold_in(own.key, number))
            batch = _sharded(now.draw(draw_key, algorithm.batch_size), mesh)
            columns: Any
            state, metrics, *columns = make_update(state, batch, update_key)
            _check_metrics(metrics)
            return (state, now.written(batch["index"], columns[0]) if writes else None), metrics

        first = (state, rows if writes else None)
        if count is None:
            (state, changed), metrics = jax.lax.scan(update, first, done + 1 + jnp.arange(length, dtype=jnp.uint32))
        else:
            (state, changed), metrics = _some(update, first, done, count, length)
        return state, metrics, _finite(state), _columns(changed, writes)

    if seeds_by == "map" and mesh is None and derived and view.by_number and not writes:

        def alone(state: Any, own: Each, seed: jax.Array, shared: Any) -> tuple[Any, ...]:
            view, derived = shared
            return train(state, own, jax.tree.map(lambda x: OfSeed(x, seed), derived), view)

        seeds = jnp.arange(each.key.shape[0])
        return _over_seeds(alone, seeds_by, mesh)(states, each, seeds, (view, derived))
    return _over_seeds(train, seeds_by, mesh, specs_of(view))(states, each, derived or {}, view)


def _some(update: Callable, first: Any, done: jax.Array, count: jax.Array, length: int) -> tuple[Any, Any]:
    """The scan's first `count` of `length`; the metrics `[length]` of the others are 0."""
    shapes = jax.eval_shape(update, first, done)[1]
    told = jax.tree.map(lambda leaf: jnp.zeros(length, leaf.dtype), shapes)

    def body(i: jax.Array, carry: tuple[Any, Any]) -> tuple[Any, Any]:
        state, told = carry
        state, metrics = update(state, done + 1 + i)
        return state, jax.tree.map(lambda all, one: all.at[i].set(one), told, metrics)

    return jax.lax.fori_loop(jnp.uint32(0), count, body, (first, told))


def _check_metrics(metrics: dict[str, jax.Array]) -> None:
    """Raise RunError, when the update is compiled, for a metric that is no number."""
    for name, value in metrics.items():
        if jnp.shape(value):
            raise RunError(f"The metric {name!r} has shape {list(jnp.shape(value))}; give a number, such as its mean.")


def written_columns(algorithm: Any) -> tuple[str, ...]:
    """The columns of the replay that the algorithm's updates change."""
    return algorithm.writes if isinstance(algorithm, Writing) else ()


def copied_columns(algorithm: Any) -> Mapping[str, str]:
    """The columns of the replay that begin as copies of others, and those others."""
    return algorithm.copies if isinstance(algorithm, Copying) else {}


def _columns(view: Any, names: tuple[str, ...]) -> dict[str, jax.Array]:
    """Of the rows that are written to: of a mixture, the first part's."""
    return {name: getattr(view, "first", view).rows[name] for name in names}


def indices(view: Any, each: Each, done: jax.Array, *, batch_size: int, length: int) -> jax.Array:
    """What the batches of updates done + 1 ... done + length are made of: [length, S, batch_size], as `advance` draws
    them."""

    def one(number: jax.Array) -> jax.Array:
        def of(key: jax.Array) -> jax.Array:
            return view.index(jax.random.split(jax.random.fold_in(key, number))[0], batch_size)

        return jax.lax.map(of, each.key)

    return jax.lax.map(one, done + 1 + jnp.arange(length, dtype=jnp.uint32))


@partial(jax.jit, static_argnames=("algorithm", "seeds_by", "mesh", "stage"), donate_argnames="states")
def advance_on(
    algorithm: Any,
    states: Any,
    each: Each,
    done: jax.Array,
    batches: Any,
    *,
    seeds_by: SeedsBy = "map",
    mesh: Mesh | None = None,
    stage: int = 0,
) -> tuple[Any, dict[str, jax.Array], jax.Array]:
    """The same updates as `advance` makes, on batches that were gathered elsewhere, `[L, S, batch_size, ...]`."""

    def train(state: Any, own: Each, batches: Any, _: None) -> tuple[Any, ...]:
        make_update = _stage(algorithm, own, stage).update

        def update(state: Any, numbered: Any) -> tuple[Any, dict[str, jax.Array]]:
            number, batch = numbered
            update_key = jax.random.split(jax.random.fold_in(own.key, number))[1]
            return make_update(state, _sharded(batch, mesh), update_key)

        length = jax.tree.leaves(batches)[0].shape[0]
        numbers = done + 1 + jnp.arange(length, dtype=jnp.uint32)
        state, metrics = jax.lax.scan(update, state, (numbers, batches))
        return state, metrics, _finite(state)

    by_seed = jax.tree.map(lambda leaf: jnp.swapaxes(leaf, 0, 1), batches)
    return _over_seeds(train, seeds_by, mesh)(states, each, by_seed, None)


def _over_seeds(train: Callable, seeds_by: SeedsBy, mesh: Mesh | None, shared: Any = P()) -> Callable:
    """`train` of every seed: its last argument is the same for all and lies as `shared` says, the others have a leading
    axis [S]."""

    def over(*arguments: Any) -> Any:
        *own, shared = arguments
        if seeds_by == "vmap":
            return jax.vmap(lambda *one: train(*one, shared))(*own)
        return jax.lax.map(lambda one: train(*one, shared), tuple(own))

    if mesh is None:
        return over
    # By hand over the seeds, lest the loop over them is run by every device; the batch is left to the compiler.
    by_seed = (P(SEEDS), P(SEEDS), P(SEEDS), shared)
    return jax.shard_map(over, mesh=mesh, in_specs=by_seed, out_specs=P(SEEDS), axis_names={SEEDS}, check_vma=False)


def _sharded(batch: Any, mesh: Mesh | None) -> Any:
    if mesh is None:
        return batch
    split = NamedSharding(mesh, P(BATCH))  # JAX 0.7 wants to be told the mesh
    return jax.tree.map(lambda leaf: jax.lax.with_sharding_constraint(leaf, split), batch)


SMALL = 4096
"""Numbers in an array that is looked at together with others: a reduction for each would be a quarter of what the
compiler does for a U-Net's training, and together they are few."""


def _finite(state: Any) -> jax.Array:
    leaves = [leaf for leaf in jax.tree.leaves(state) if jnp.issubdtype(leaf.dtype, jnp.inexact)]
    large, small = ([leaf for leaf in leaves if (leaf.size > SMALL) == wanted] for wanted in (True, False))
    if small:
        # The barrier keeps the compiler from fusing hundreds of operands into one kernel.
        large.append(jax.lax.optimization_barrier(jnp.concatenate([leaf.astype(float).ravel() for leaf in small])))
    return jnp.all(jnp.array([jnp.isfinite(leaf).all() for leaf in large]))


def chosen_seeds_by(seeds_by: SeedsBy, seeds: int) -> SeedsBy:
    """How several seeds are trained when the choice is ours."""
    # Milliseconds for one update of 4 seeds on 2 CPU cores, map | vmap (medians of 6): MLP 2x64, batch 64,
    # 0.35 | 0.30; MLP 2x256, batch 256, 4.1 | 4.1; five temporal convolutions of 64 to 128 channels, horizon 32,
    # batch 32, 45 | 49; Diffusion-QL 390 | 352, TD3+BC 56 | 71 (these two beside other work). As little is gained by
    # vmap where time matters, map: it needs the memory of one seed's activations, keeps lax.cond a choice, and gives
    # each seed the very bits it has when trained alone.
    if seeds_by != "auto":
        return seeds_by
    return "map" if seeds == 1 or jax.default_backend() == "cpu" else "vmap"
