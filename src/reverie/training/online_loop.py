"""What online agents do between two looks at the progress bar: learn, act, and remember.

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

from reverie.data import Dataset, Spec, concatenate, load_dataset
from reverie.data.replay import History, Mixed, Replay, in_network_units, room, write
from reverie.environments.collector import Collector
from reverie.errors import DivergenceError
from reverie.training import folder, loop
from reverie.training.fitting import ADVICE, Store
from reverie.training.metrics import divergence, segment_rows
from reverie.terminal import Progress
from reverie.training.run import Run, state_shapes

if TYPE_CHECKING:
    from reverie.training.online import Training

RETURNS = "returns.json"
STORED = ("observations", "actions", "rewards", "next_observations", "terminals")
CHECKPOINT_SECONDS = 300.0
RECENT = 20
"""Episodes that `until` looks back on."""


class Life:
    """The agents of all seeds, what they know, and what they have lived through."""

    def __init__(self, training: Training, store: Store, env: Collector, done: int):
        self.training, self.store, self.env = training, store, env
        online, algorithm = training.online, training.algorithm
        replays = [_replay(store, done, seed) for seed in training.seeds]
        self.histories = [History(env.low, env.high, replay, **training.attributes) for replay in replays]
        for history, returns in zip(self.histories, _returns(store, done), strict=False):
            history.returns += returns
        env.ended = [history.returns for history in self.histories]
        self.keys = loop.seed_keys(training.seeds)
        self.seeds_by = loop.chosen_seeds_by("auto", len(training.seeds))
        if store.path and store.checkpoints and done:
            self.spec = Spec.load(store.path / folder.SPEC)
            shapes = state_shapes(algorithm, self.spec, training.seeds)
            self.states = jax.device_put(store.checkpoints.restore(done, shapes))
        else:
            rngs = [np.random.default_rng(seed) for seed in training.seeds]
            self.note(env.steps(lambda seen: env.random_actions(rngs), online.warmup // online.envs))
            self.spec = algorithm.prepare(concatenate(*(history.dataset() for history in self.histories)))[1]
            self.states = loop.initial_states(algorithm, self.keys, self.spec)
            if store.path:
                self.spec.save(store.path / folder.SPEC)
        store.table.truncate(done)
        self.step = self.acts = max(done, online.warmup)
        self.updates = (self.step - online.warmup) // online.every * online.updates
        self.rows: dict[str, jax.Array] = {}
        self.count = 0
        self.place(_stacked(self.histories))
        self.synthetic: dict[str, jax.Array] = {}
        self.metrics: list[dict[str, np.ndarray]] = []
        self.seen = [len(returns) for returns in env.ended] if done else [0] * len(training.seeds)
        now = time.perf_counter()
        self.began, self.since, self.saved = now - store.table.last("seconds"), (now, self.updates), (now, done)

    def note(self, steps: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Keep `[S, T, E, ...]` on the host; the same as `[S, T * E, ...]`."""
        for s, history in enumerate(self.histories):
            history.append({name: x[s] for name, x in steps.items()})
        return {name: x.reshape(x.shape[0], -1, *x.shape[3:]) for name, x in steps.items()}

    def place(self, arrays: dict[str, np.ndarray]) -> None:
        """Write steps `[S, n, ...]` into the replay."""
        rows = in_network_units({name: x for name, x in arrays.items() if name != "timeouts"}, self.spec)
        capacity, n = self.training.online.capacity or self.training.online.steps, rows["actions"].shape[1]
        self.rows = self.rows or room(rows, capacity)
        over = max(0, n - capacity)
        rows = {name: x[:, over:] for name, x in rows.items()}
        self.rows, self.count = write(self.rows, jnp.asarray(self.count + over), rows), self.count + n

    def round(self) -> None:
        """Some updates, then some steps in the environments with what was learned."""
        training, online = self.training, self.training.online
        if training.synthesizer and (not self.synthetic or self.step % training.synthesis.every < online.every):
            self.synthetic = self.synthesize()
        view, rows = self.view()
        self.states, metrics, finite = loop.advance(
            training.algorithm,
            self.states,
            self.keys,
            np.uint32(self.updates),
            view,
            rows,
            length=online.updates,
            seeds_by=self.seeds_by,
        )
        self.place(self.note(self.env.steps(self.explore, online.every // online.envs)))
        metrics, finite = jax.device_get((metrics, finite))
        if fault := divergence(metrics, finite, training.seeds, self.updates):
            raise DivergenceError(f"{fault} {self.store.kept()} {getattr(training.algorithm, 'advice', ADVICE)}")
        self.metrics.append(metrics)
        self.step, self.updates = self.step + online.every, self.updates + online.updates

    def explore(self, observations: np.ndarray) -> np.ndarray:
        """Actions `[S, E, action]`; the key of each is that of the seed and the number of the step."""
        self.acts += 1
        explorer = self.training.algorithm.exploring
        return np.asarray(_act(explorer, self.states, self.spec, observations, self.keys, np.uint32(self.acts)))

    def view(self) -> tuple[Any, dict[str, Any]]:
        """What batches are drawn from, without its rows, and these, which every seed has of its own."""
        replay = Replay({}, jnp.asarray(self.count))
        if not self.synthetic:
            return replay, self.rows
        synthesis = self.training.synthesis
        mixed = Mixed(replay, Replay({}, jnp.asarray(synthesis.rows)), synthesis.share)
        return mixed, {"first": self.rows, "second": self.synthetic}

    def synthesize(self) -> dict[str, jax.Array]:
        """A fresh synthesizer for each seed's replay, and what it makes: `[S, rows, ...]`."""
        made = [self.synthesize_for(s) for s in range(len(self.histories))]
        return in_network_units({name: np.stack([each[name] for each in made]) for name in made[0]}, self.spec)

    def synthesize_for(self, s: int) -> dict[str, np.ndarray]:
        synthesizer, synthesis = self.training.synthesizer, self.training.synthesis
        view, spec = synthesizer.prepare(self.histories[s].dataset())
        # Room for all that will come: a view of another size would be compiled anew.
        rows = {name: x[None] for name, x in view.rows.items()}
        kept = write(room(rows, self.rows["actions"].shape[1]), jnp.asarray(0), rows)
        key = jax.random.fold_in(self.keys[s], 2**31 + self.step)
        states = loop.initial_states(synthesizer, key[None], spec)
        replay, start = Replay({}, jnp.asarray(len(view))), np.uint32(0)
        states, metrics, finite = loop.advance(
            synthesizer, states, key[None], start, replay, kept, length=synthesis.updates, seeds_by="map"
        )
        metrics, finite = jax.device_get((metrics, finite))
        if fault := divergence(metrics, finite, self.training.seeds[s : s + 1], 0):
            raise DivergenceError(f"The synthesizer's {fault} {self.store.kept()} {ADVICE}")
        state = jax.tree.map(lambda leaf: leaf[0], states)
        made = concatenate(*synthesizer.chunks(state, spec, key, synthesis.rows)).arrays()
        return {name: made[name] for name in STORED}

    @property
    def over(self) -> bool:
        until, recent = self.training.online.until, [ended[-RECENT:] for ended in self.env.ended]
        reached = until is not None and all(len(each) == RECENT and np.mean(each) >= until for each in recent)
        return reached or self.step >= self.training.online.steps

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
        lived = [{"return": float(np.mean(r)) if r else math.nan, "episodes": float(len(r))} for r in ended]
        self.store.append(
            [{"seed": row["seed"], "step": row["step"]} | new | row for new, row in zip(lived, rows, strict=True)]
        )
        returns = [r for each in ended for r in each]
        bar.advance(self.step, rate / self.training.online.ratio, f"return {np.mean(returns):.1f}" if returns else "")
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
    """What the seed had gathered when the checkpoint of that step was written."""
    return (
        load_dataset(f"d4rl:{store.path / folder.REPLAY / str(step) / f'{seed}.hdf5'}") if store.path and step else None
    )


def _returns(store: Store, step: int) -> list[list[float]]:
    """Of each seed's episodes until then."""
    return json.loads((store.path / folder.REPLAY / str(step) / RETURNS).read_text()) if store.path and step else []


def _stacked(histories: list[History]) -> dict[str, np.ndarray]:
    """Everything from the host, `[S, N, ...]`."""
    each = [history.dataset().with_next_observations().arrays() for history in histories]
    return {name: np.stack([arrays[name] for arrays in each]) for name in STORED}


@partial(jax.jit, static_argnames="algorithm")
def _act(algorithm: Any, states: Any, spec: Any, observations: jax.Array, keys: jax.Array, number: Any) -> jax.Array:
    """One action of each seed in each of its environments, `[S, E, action]`."""

    def one(each: Any) -> jax.Array:
        state, seen, key = each
        own = jax.random.fold_in(jax.random.fold_in(key, 2**32 - 2), number)
        return algorithm.act(state, spec, algorithm.reset(spec, len(seen)), seen, own)[0]

    return jax.lax.map(one, (states, observations, keys))
