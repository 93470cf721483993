"""The loop of online training: agents of all seeds learn, act, and keep what they see in a replay.

Everything between two rounds of steps in the environments is one compiled program for all seeds.
"""

from __future__ import annotations

import json
import math
import shutil
import time
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from reverie.data import Dataset, Spec, concatenate
from reverie.data.fields import field_of, space_of
from reverie.data.readers import read
from reverie.data.replay import History, Replay, in_network_units, in_turn, room, write
from reverie.environments.collector import Collector
from reverie.errors import DivergenceError
from reverie.protocols import InOrder, OnPolicy, Warming, Wishing
from reverie.terminal import Progress
from reverie.training import beginning, folder, loop
from reverie.training.beside import check_made, mixed, offline_view, synthesized
from reverie.training.callbacks import add_columns, any_done
from reverie.training.fitting import ADVICE
from reverie.training.metrics import divergence, segment_rows
from reverie.training.run import Run
from reverie.training.store import Store
from reverie.wishes import resolve

if TYPE_CHECKING:
    from reverie.training.online import OnlineTraining

RETURNS = "returns.json"
ROWS = "rows.npz"
"""The replay as it is on the device, where it cannot be made of the histories."""
STORED = ("observations", "actions", "rewards", "costs", "next_observations", "terminals", "timeouts")
"""What the replay has of a step; costs where the environment reports them."""
CHECKPOINT_SECONDS = 300.0
RECENT = 20
"""Episodes that `until` looks back on."""


class OnlineLoop:
    """The agents of all seeds: their states, their carries, their replays. `RoundLoop` has none of these."""

    def __init__(self, training: OnlineTraining, store: Store, env: Collector, done: int):
        self.training, self.store, self.env = training, store, env
        online, algorithm = training.online, training.algorithm
        self.explorer = algorithm.exploring
        replays = [_replay(store, done, seed) for seed in training.seeds]
        self.histories = [History(env.low, env.high, replay, **training.attributes) for replay in replays]
        for history, returns in zip(self.histories, _returns(store, done), strict=False):
            history.returns += returns
        env.ended = [history.returns for history in self.histories]
        self.each = loop.each_seed(training.seeds)
        self.seeds_by = loop.chosen_seeds_by("auto", len(training.seeds))
        self.recorded: dict[str, jax.Array] = {}
        """What the last action leaves to learn from, `[S, E, ...]`; empty but for methods on policy."""
        self.fresh: Any = None
        self.carry: Any = None
        """Of every environment, `[S, E, ...]`; `fresh` is what each begins an episode with."""
        if store.path and store.checkpoints and done:
            self.spec = Spec.load(store.path / folder.SPEC)
            shapes = loop.state_shapes(algorithm, self.spec, training.seeds)
            self.states = jax.device_put(store.checkpoints.restore(done, shapes))
        else:
            self.begin()
        store.table.truncate(done)
        self.step = self.acts = max(done, online.warmup)
        self.updates = (self.step - online.warmup) // online.update_interval * online.updates
        self.rows: dict[str, jax.Array] = {}
        self.count = 0
        self.fill(done)
        self.offline = offline_view(training.algorithm, training.data, self.spec)
        self.synthetic: dict[str, jax.Array] = {}
        self.metrics: list[dict[str, np.ndarray]] = []
        self.seen = [len(returns) for returns in env.ended] if done else [0] * len(training.seeds)
        now = time.perf_counter()
        self.began, self.since, self.saved = now - store.table.last("seconds"), (now, self.updates), (now, done)

    def begin(self) -> None:
        """The first steps, and the states that learn from then on: in the units of the run to begin from where its
        networks go on, which then act (but for rewards, which are a tuner's own); else in those of the data set, or of
        what was collected at random."""
        training, env = self.training, self.env
        online, algorithm = training.online, training.algorithm
        rounds, self.acts = online.warmup // online.envs, 0
        initial = training.initial
        spaces = space_of(env.observations[0]), field_of(env.low[None])
        if training.data is not None:
            beginning.check_data(training.data, spaces[0], env.low, env.high, env.name)
        if initial is not None and beginning.goes_on(algorithm, initial):
            beginning.check_spaces(initial, *spaces, env.name)
            self.spec = initial.spec
            self.states = beginning.states(algorithm, self.spec, training.seeds, initial)
            tunes = beginning.tunes(algorithm, initial)
            self.explorer = algorithm.warming if tunes and isinstance(algorithm, Warming) else algorithm.exploring
            self.note(env.steps(self.explore, rounds))
            self.explorer = algorithm.exploring
            if tunes:
                self.spec = beginning.with_rewards_of(self.spec, algorithm.prepare(self.known)[1])
        else:
            rngs = [np.random.default_rng(seed) for seed in training.seeds]
            self.note(env.steps(lambda seen: env.random_actions(rngs), rounds))
            _, self.spec = algorithm.prepare(self.known)
            self.states = beginning.states(algorithm, self.spec, training.seeds, initial)
        if self.store.path:
            self.spec.save(self.store.path / folder.SPEC)

    @property
    def known(self) -> Dataset:
        """What units are of: the data set, or what was collected so far."""
        return self.training.data or concatenate(*(history.dataset() for history in self.histories))

    def note(self, steps: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Keep `[S, T, E, ...]` on the host; the same as `[S, T * E, ...]`."""
        for s, history in enumerate(self.histories):
            history.append({name: x[s] for name, x in steps.items()})
        return {name: x.reshape(x.shape[0], -1, *x.shape[3:]) for name, x in steps.items()}

    def fill(self, done: int) -> None:
        """Put what was seen until then into the replay."""
        steps = _stacked(self.histories)
        self.place(steps if done or not self.in_order else in_turn(steps, self.training.online.envs))
        self.restore(done)

    def place(self, arrays: dict[str, np.ndarray]) -> None:
        """Write steps `[S, n, ...]` into the replay."""
        rows = self.rows_of(arrays)
        capacity, n = self.training.online.capacity or self.training.online.steps, rows["actions"].shape[1]
        self.rows = self.rows or room(rows, capacity)
        self.rows, self.count = write(self.rows, jnp.asarray(self.count), rows), self.count + n

    def rows_of(self, arrays: dict[str, np.ndarray]) -> dict[str, jax.Array]:
        """Rows of the replay for steps `[S, n, ...]`, with the columns that begin as copies of others."""
        rows = in_network_units({name: x for name, x in arrays.items() if name != "timeouts"}, self.spec)
        if self.in_order:
            rows |= {"timeouts": jnp.asarray(arrays["timeouts"], jnp.float32)}
        return rows | {name: rows[of] for name, of in loop.copied_columns(self.training.algorithm).items()}

    @property
    def in_order(self) -> bool:
        """Whether batches are of several steps in a row."""
        return isinstance(self.training.algorithm, InOrder)

    @property
    def is_its_own(self) -> bool:
        """Whether the replay is more than its histories tell: updates change it, or the order of several environments'
        steps counts, for batches or for which are forgotten, where the histories have one environment after another."""
        online = self.training.online
        ordered = online.envs > 1 and (self.in_order or online.capacity is not None)
        return ordered or bool(loop.written_columns(self.training.algorithm))

    def restore(self, done: int) -> None:
        """Put back the replay of the checkpoint where it is its own: each row in its place, as it was."""
        path = self.store.path / folder.REPLAY / str(done) / ROWS if self.store.path and done else None
        if path is None or not path.exists():
            return
        with np.load(path, allow_pickle=False) as file:
            kept = dict(file)
        # There is more room where more steps were asked for.
        self.rows = {name: x.at[:, : kept[name].shape[1]].set(kept[name]) for name, x in self.rows.items()}
        if self.in_order:  # what comes next is of new episodes
            last = (self.count - 1 - np.arange(self.training.online.envs)) % self.rows["timeouts"].shape[1]
            cut = 1 - self.rows["terminals"][:, last]
            self.rows["timeouts"] = self.rows["timeouts"].at[:, last].max(cut)

    def round(self) -> None:
        """Some updates, then some steps in the environments with what was learned."""
        training, online = self.training, self.training.online
        if self.asks_for_rows:
            self.synthetic = self.synthesize()
        view, rows = self.view()
        self.states, metrics, finite, written = loop.advance(
            training.algorithm,
            self.states,
            self.each,
            np.uint32(self.updates),
            view,
            rows,
            length=online.updates,
            seeds_by=self.seeds_by,
        )
        self.rows |= written
        self.place(self.note(self.env.steps(self.explore, online.update_interval // online.envs)))
        self.learned(metrics, finite)

    def learned(self, metrics: dict[str, jax.Array], finite: jax.Array) -> None:
        """Count a round, whose updates have these metrics `[S, L]`. Raises DivergenceError where one is not finite."""
        online = self.training.online
        told, sound = jax.device_get((metrics, finite))
        if fault := divergence(told, sound, self.training.seeds, self.updates):
            raise DivergenceError(f"{fault} {self.store.kept()} {getattr(self.training.algorithm, 'advice', ADVICE)}")
        self.metrics.append(told)
        self.step, self.updates = self.step + online.update_interval, self.updates + online.updates

    def explore(self, observations: np.ndarray) -> np.ndarray:
        """Actions `[S, E, action]`; the key of each is that of the seed and the number of the step.

        Every environment's carry goes on from step to step, and begins anew with its episode.
        """
        self.acts += 1
        explorer = self.explorer
        if self.fresh is None:
            self.fresh = self.carry = fresh_carries(explorer, self.spec, *observations.shape[:2])
        inputs = (self.states, observations, self.fresh, self.carry, self.env.ends, self.env.feedback, self.each.key)
        actions, self.carry, self.recorded = _act(explorer, self.spec, inputs, np.uint32(self.acts))
        return np.asarray(actions)

    def view(self) -> tuple[Any, dict[str, Any]]:
        """What batches are drawn from, without its rows, and these, which every seed has of its own."""
        training = self.training
        replay = Replay({}, jnp.asarray(self.count), training.online.envs)
        first = training.algorithm.online_view(replay) if self.in_order else replay
        if self.synthetic:
            made = Replay({}, jnp.asarray(training.synthesis.rows))
            return mixed(first, self.rows, made, self.synthetic, training.synthesis.ratio)
        if self.offline is not None:
            return mixed(first, self.rows, self.offline, {}, training.online.data_share)
        return first, self.rows

    @property
    def asks_for_rows(self) -> bool:
        """Whether an interval is over, or one was in an earlier session, whose rows are not kept."""
        training, every = self.training, self.training.synthesis.interval
        over = self.step % every < training.online.update_interval
        return training.synthesizer is not None and self.step >= every and (over or not self.synthetic)

    def synthesize(self) -> dict[str, jax.Array]:
        """A fresh synthesizer for each seed's replay, and what it makes: `[S, rows, ...]`."""
        made = [self.synthesize_for(s) for s in range(len(self.histories))]
        return self.rows_of({name: np.stack([each[name] for each in made]) for name in made[0]})

    def synthesize_for(self, s: int) -> dict[str, np.ndarray]:
        training, key = self.training, jax.random.fold_in(self.each.key[s], 2**31 + self.step)
        told: Any = {"capacity": self.rows["actions"].shape[1], "seed": training.seeds[s], "kept": self.store.kept()}
        made = synthesized(training.synthesizer, self.histories[s].dataset(), training.synthesis, key, **told)
        check_made(training.synthesizer, made, training.algorithm, self.rows)
        return {name: made[name] for name in self.rows if name in made}

    @property
    def over(self) -> bool:
        until, recent = self.training.online.until, [returns[-RECENT:] for returns in self.env.ended]
        reached = until is not None and all(len(each) == RECENT and np.mean(each) >= until for each in recent)
        return reached or self.step >= self.training.online.steps or any_done(self.training.callbacks)

    @property
    def due(self) -> bool:
        """Whether it is time to save: after the first row of the metrics, and then now and then."""
        now, done = self.saved
        logged = bool(self.store.table.rows) and self.store.table.last("step") == self.step
        return logged and (done == 0 or time.perf_counter() - now > CHECKPOINT_SECONDS)

    def log(self, bar: Progress) -> None:
        """One row of the metrics for each seed."""
        if not self.metrics:
            return
        now = time.perf_counter()
        rate = (self.updates - self.since[1]) / (now - self.since[0])
        joined = {name: np.concatenate([each[name] for each in self.metrics], 1) for name in self.metrics[0]}
        rows = segment_rows(joined, self.training.seeds, self.step, now - self.began, rate)
        ended = [returns[seen:] for returns, seen in zip(self.env.ended, self.seen, strict=True)]
        ends = [{"return": float(np.mean(r)) if r else math.nan, "episodes": float(len(r))} for r in ended]
        rows = [{"seed": row["seed"], "step": row["step"]} | new | row for new, row in zip(ends, rows, strict=True)]
        for callback in self.training.callbacks:
            add_columns(rows, callback.on_segment(self.run))
        self.store.append(rows)
        returns = [r for each in ended for r in each]
        rate *= self.training.online.update_interval / self.training.online.updates
        bar.advance(self.step, rate, f"return {np.mean(returns):.1f}" if returns else "")
        self.metrics, self.since, self.seen = [], (now, self.updates), [len(each) for each in self.env.ended]

    def save(self) -> None:
        """States and replays. The replays first: a checkpoint without them could not go on."""
        path = self.store.path
        if path is None or self.saved[1] == self.step:
            return
        kept = path / folder.REPLAY / str(self.step)
        kept.mkdir(parents=True, exist_ok=True)
        for seed, history in zip(self.training.seeds, self.histories, strict=True):
            history.dataset().save(f"d4rl:{kept / f'{seed}.hdf5'}")
        (kept / RETURNS).write_text(json.dumps([history.returns for history in self.histories]))
        if self.is_its_own:
            np.savez(kept / ROWS, **jax.device_get(self.rows))
        self.store.save(self.step, self.states)
        for old in (path / folder.REPLAY).iterdir():
            if old != kept:
                shutil.rmtree(old)
        self.saved = time.perf_counter(), self.step

    @property
    def run(self) -> Run:
        training, store = self.training, self.store
        run = Run(training.algorithm, self.spec, self.states, self.step, training.seeds, store.path, store.table)
        return replace(run, data=training.attributes, histories=tuple(self.histories))


def _replay(store: Store, step: int, seed: int) -> Dataset | None:
    """What the seed had collected when the checkpoint of that step was written."""
    return read(f"d4rl:{store.path / folder.REPLAY / str(step) / f'{seed}.hdf5'}") if store.path and step else None


def _returns(store: Store, step: int) -> list[list[float]]:
    """Of each seed's episodes until then."""
    return json.loads((store.path / folder.REPLAY / str(step) / RETURNS).read_text()) if store.path and step else []


def _stacked(histories: list[History]) -> dict[str, np.ndarray]:
    """Everything from the host, `[S, N, ...]`."""
    each = [history.dataset().with_next_observations().arrays() for history in histories]
    return {name: np.stack([arrays[name] for arrays in each]) for name in STORED if name in each[0]}


def fresh_carries(algorithm: Any, spec: Any, seeds: int, envs: int) -> Any:
    """The carries at the start of episodes, `[S, E, ...]`; what can be asked for is as by default."""
    declared = algorithm.wishes(spec) if isinstance(algorithm, Wishing) else {}
    carry = algorithm.reset(spec, envs, resolve(algorithm.name, declared, {}, envs))
    return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (seeds, *jnp.shape(leaf))), carry)


@partial(jax.jit, static_argnames="algorithm")
def _act(algorithm: Any, spec: Any, inputs: Any, number: Any) -> tuple[jax.Array, Any, dict[str, jax.Array]]:
    """One action of each seed in each of its environments, `[S, E, action]`, the carries, and what is recorded."""

    def one(each: Any) -> tuple[jax.Array, Any, dict[str, jax.Array]]:
        state, seen, fresh, carry, ended, feedback, key = each
        own = jax.random.fold_in(jax.random.fold_in(key, 2**32 - 2), number)
        action, carry = algorithm.act(state, spec, seen, restarted(ended, fresh, carry), feedback, own)
        return action, carry, algorithm.recorded(carry) if isinstance(algorithm, OnPolicy) else {}

    return jax.lax.map(one, inputs)


def restarted(ended: jax.Array, fresh: Any, carry: Any) -> Any:
    """The carries with those of the environments `ended` `[E]` begun anew."""

    def choose(new: jax.Array, old: jax.Array) -> jax.Array:
        return jnp.where(ended.reshape(-1, *[1] * (jnp.ndim(old) - 1)), new, old)

    return jax.tree.map(choose, fresh, carry)
