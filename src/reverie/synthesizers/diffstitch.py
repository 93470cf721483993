"""DiffStitch (Li, Shan, Zhu, Long & Zhang 2024, "DiffStitch: Boosting Offline Reinforcement Learning with
Diffusion-based Trajectory Stitching").

An episode of the data is left where little is still to come, and a bridge of made-up states leads to where much is.
How long the bridge is to be is read from a first window, which ends anywhere: its row that comes nearest to a good
state is where that state goes. A second window is then in-painted between what is known on both sides. Inverse dynamics
and learned rewards fill the steps in, and what the learned dynamics do not believe is thrown away.
"""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from reverie.data import CDF, Dataset, MinMax, Spec, rewards_to_go, windows
from reverie.data.blocks import Blocks
from reverie.diffusion import vp_cosine
from reverie.errors import DataError, ReverieError
from reverie.models import Outcomes
from reverie.planning import InverseDynamics, ToldState, ToldStates
from reverie.planning import conditions as given
from reverie.settings import Acting, Count, Fraction, LearningRate, Natural, NonNegative
from reverie.synthesizers import learned
from reverie.synthesizers.chunked import Episodic
from reverie.synthesizers.stitching import (
    STANDARD,
    Rows,
    WindowsAndSteps,
    bridges,
    filled,
    laid,
    of_dynamics,
    real_rows,
)
from reverie.terminal import wait


class State(ToldState):
    """The networks in training, and the averages that make data."""

    outcomes: learned.State


class Ready(NamedTuple):
    """What stitches are made with."""

    denoiser: given.Told
    inverse: InverseDynamics
    outcomes: Outcomes
    """With the elites alone."""
    order: jax.Array
    """The data's rows with enough of their episode left, by what is still to come, the least first: int32 `[n]`."""
    starts: jax.Array
    """How many of them, the first, may be left; a scalar."""
    targets: jax.Array
    """And how many, the last, may be led to."""


@dataclass(frozen=True)
class DiffStitch(Episodic, ToldStates):
    """DiffStitch: episodes that leave a poor one and go on with a good one, over a bridge of diffused states."""

    name: ClassVar = "diffstitch"
    paper: ClassVar = "Li et al. 2024"

    diffusion_steps: Count = 100
    """Noise levels."""
    hidden: tuple[int, ...] = (256, 256)
    """Widths of the hidden layers of the inverse dynamics and of the classifier of ends."""
    units: Literal["cdf", "minmax"] = "cdf"
    """Of the windows' states: by their distribution, as in the paper, or by their range. The first stretches what is
    dense, and a bridge through what is sparse is then coarse: choose the second for places in a plane or a maze."""
    discount: Fraction = 0.99
    """Of the rewards to go, by which rows and episodes are compared and which windows are told."""
    members: Count = 7
    """Networks of the ensemble that knows the dynamics and the rewards."""
    elites: Count = 5
    """Of which so many are used, those of the smallest error on held-out rows."""
    ensemble_hidden: tuple[int, ...] = (200, 200, 200, 200)
    """Widths of the ensemble's hidden layers."""
    ensemble_learning_rate: LearningRate = 1e-3
    """Adam's step size for it."""
    held_out: Count = 1000
    """Rows that the ensemble is not trained on, to choose the elites; at most a fifth of the data."""
    asked: Acting[Fraction] = 0.9
    """Return that windows are asked for, on the way from the data's lowest (0) to its highest (1)."""
    rows_left: Acting[Natural] = 100
    """Rows are left, and led to, where more steps than so many are left of their episode: at its end little is still to
    come, however good it is. 0 for all rows, as short episodes need."""
    starts: Acting[Fraction] = 0.5
    """Share of these rows at which episodes may be left: those with the least to come."""
    targets: Acting[Fraction] = 0.02
    """Share of them that may be led to: those with the most to come; whatever has as much as the last counts."""
    candidates: Acting[Count] = 512
    """Of which so many are looked at together."""
    shortest_bridge: Acting[Count] = 10
    """Steps from the row that is left to the one that is led to, at least."""
    longest_bridge: Acting[Count] = 39
    """And at most; less than the horizon."""
    nearness: Acting[NonNegative] = 0.26
    """How near a window must come to a row for it to be led to: root mean square over the columns, in the network's
    units."""
    deviation: Acting[NonNegative] = 3.0
    """Below which the steps of a bridge must be from what the dynamics expect: squared distance, in standard deviations
    of the observations. The released code's 0.8 to 1.5 are in places of the distribution from -1 to 1, whose variance
    is a third: 2.4 to 4.5 here."""
    kept: Acting[Literal["bridge", "episode"]] = "bridge"
    """What comes out of a stitch: its bridge alone, as in the released code, or the whole episode with what is real
    before and behind it, for what learns from windows and returns. Nearly all rows of the latter are copies."""
    longest_episode: Acting[Natural] = 0
    """Steps after which a stitched episode is cut; 0 for none."""
    attempts: Acting[Count] = 32
    """Bridges that are tried together. Another number makes other data."""
    chunk: Acting[Count] = 2000
    """Rows generated, and kept on the disk, at a time; of whole episodes choose ten times as many, as the last is cut.
    Another number makes other data."""

    def __post_init__(self):
        super().__post_init__()
        if self.stride > 1:
            raise ReverieError(f"stride = {self.stride} would leave out steps of the bridges; leave it at 1")
        if not self.shortest_bridge <= self.longest_bridge < self.horizon:
            raise ReverieError(
                f"shortest_bridge = {self.shortest_bridge} and longest_bridge = {self.longest_bridge} steps do not fit "
                f"horizon = {self.horizon} rows, which also have the row that is led to; let the longest be below it, "
                "and not below the shortest"
            )
        _ = self.model  # whose settings are checked

    @property
    def process(self):
        return vp_cosine(self.diffusion_steps, prediction="eps")

    @property
    def model(self) -> learned.LearnedOutcomes:
        """How the dynamics are learned. The rows that it keeps are the held-out ones."""
        return learned.LearnedOutcomes(
            members=self.members,
            elites=self.elites,
            hidden=self.ensemble_hidden,
            policy_hidden=self.hidden,
            learning_rate=self.ensemble_learning_rate,
            held_out=self.held_out,
            kept_rows=self.held_out * learned.SHARE_HELD_OUT,
        )

    # Learning.

    def prepare(self, data: Dataset, spec: Spec | None = None):
        """Windows, and the ensemble's bootstraps beside them. All rows stay with the run.

        Raises DataError where all episodes have one return or none is long enough, and as other learned dynamics do.
        """
        returns = data.returns
        if returns.min() == returns.max():
            raise DataError(
                f"All {len(returns)} episodes return {returns[0]:g}, so that none is better than another and nothing "
                "is worth a bridge; give data of several returns, or choose synther."
            )
        self.check_lengths(np.diff(data.episodes).max())
        steps, model_spec = self.model.prepare(data, of_dynamics(spec) if spec else None)
        data = data.with_next_observations()
        spec = spec or self.spec(data, model_spec)
        returned = (self.discount, self.termination_penalty)
        several = -(-self.model.batch_size // self.batch_size)
        return WindowsAndSteps(windows(data, spec, self.horizon, 1, "edge", *returned), steps, several), spec

    def check_lengths(self, longest: int) -> None:
        """Raise DataError where the longest episode, of so many rows, has too few."""
        if longest <= self.rows_left:
            raise DataError(
                f"No row has more than rows_left = {self.rows_left} steps of its episode left, as the longest episode "
                f"has {longest}; give less (--rows-left 0 for all rows) or longer episodes."
            )

    def spec(self, data: Dataset, dynamics: Spec) -> Spec:
        """The units of both, the rows held out, and the data as it is stitched."""
        to_go = rewards_to_go(data, self.discount, self.termination_penalty)
        units = {STANDARD: dynamics.normalisers["observations"], "returns": MinMax.fit(to_go[:, None])}
        units |= Spec.fit(data, observations=CDF if self.units == "cdf" else MinMax).normalisers
        kept = {"held_out": dynamics.kept, "real": real_rows(data, self.discount)}
        return replace(dynamics, normalisers=dynamics.normalisers | units, kept=kept)

    def init(self, key, spec: Spec) -> State:
        # Not 0 to 2, which are the keys that the windows' networks split this one into.
        outcomes = self.model.init(jax.random.fold_in(key, 3), of_dynamics(spec))
        return State(**vars(super().init(key, spec)), outcomes=outcomes)

    def update(self, state: State, batch, key) -> tuple[State, dict[str, jax.Array]]:
        steps = jax.tree.map(lambda rows: rows.reshape(-1, *rows.shape[2:]), batch["steps"])
        outcomes, told = self.model.update(state.outcomes, steps, key)
        state, metrics = super().update(replace(state, outcomes=outcomes), batch, key)
        return state, metrics | told

    def known_in_training(self, net, x, blocks: Blocks, key) -> jax.Array:
        """As in both windows of a stitch: of half of them the first row, of the others also a target's rows, from one
        drawn for each on."""
        # Not 0 or 1, which are the keys that the loss splits this one into.
        also_key, from_key = jax.random.split(jax.random.fold_in(key, 2))
        begins = jax.random.randint(from_key, x.shape[:1], self.shortest_bridge, self.longest_bridge + 1)
        return self.known(jnp.where(jax.random.bernoulli(also_key, 0.5, x.shape[:1]), begins, self.horizon))

    def known(self, begins) -> jax.Array:
        """The first row, and those from the target's, `begins` `[B]`, on: bool `[B, H, 1]`."""
        rows = jnp.arange(self.horizon)
        return ((rows == 0) | (rows >= begins[:, None]))[..., None]

    # Stitching.

    def ready(self, state: State, spec: Spec) -> Ready:
        """Raises DataError where no row has enough of its episode left."""
        to_go, end = (np.asarray(spec.kept["real"][name]) for name in ("to_go", "end"))
        left = end - np.arange(len(end))
        self.check_lengths(left.max())
        rows = np.flatnonzero(left > self.rows_left)
        order, count = rows[np.argsort(to_go[rows], kind="stable")], len(rows)
        ranked = to_go[order]
        last = max(0, round(self.starts * count) - 1)
        first = min(count - 1, count - round(self.targets * count))
        counts = (jnp.int32(chosen.sum()) for chosen in (ranked <= ranked[last], ranked >= ranked[first]))
        best = self.model.best(state.outcomes)
        return Ready(state.denoiser_ema, state.inverse_ema, best, jnp.asarray(order, jnp.int32), *counts)

    def episodes(self, ready: Ready, spec: Spec, key) -> dict[str, np.ndarray]:
        found = self.stitches(ready, spec, key)
        wait(found["accepted"])
        found, real = jax.device_get((found, spec.kept["real"]))
        accepted = {name: each[found["accepted"]] for name, each in found.items()}
        return laid(accepted, real) if self.kept == "episode" else bridges(accepted)

    def computed(self, state: State, spec: Spec, key):
        return self.stitches(self.ready(state, spec), spec, key)

    def too_few(self, ready: Ready, spec: Spec, key, passes: int, rows: int) -> str:
        found = jax.device_get(self.stitches(ready, spec, jax.random.fold_in(key, 0)))
        counts = ", ".join(f"{found[name].sum()} {what}" for name, what in CHECKS.items())
        return (
            f"{passes * self.attempts} bridges came to {rows} steps of what is kept where a chunk has "
            f"{self.chunk}: of the first {self.attempts}, {counts}. Raise nearness = {self.nearness:g}, "
            f"deviation = {self.deviation:g} or targets = {self.targets:g}, or train longer."
        )

    @partial(jax.jit, static_argnums=0)
    def stitches(self, ready: Ready, spec: Spec, key) -> Rows:
        """B attempts: the real rows `start` and `target` `[B]`, the `steps` from one to the other `[B]`, the `states`
        `[B, H, d]`, `actions` and `rewards` `[B, H - 1, ...]` of the window in which the bridge is, how many rows of
        the target's episode follow, `rest` `[B]`, the `error` of the bridge's worst step `[B]`, and bool `[B]`, which
        of the `CHECKS` it passes, and whether all, `accepted`."""
        start_key, plan_key, target_key, bridge_key = jax.random.split(key, 4)
        real = spec.kept["real"]
        start = ready.order[jax.random.randint(start_key, (self.attempts,), 0, ready.starts)]
        first = spec.normalise("observations", real["observations"][start])
        values = jnp.zeros((self.attempts, self.horizon, first.shape[-1])).at[:, 0].set(first)
        plan = self.window(ready, spec, plan_key, values, jnp.full(self.attempts, self.horizon))
        target, steps, near = self.spliced(ready, spec, target_key, plan, start)

        rows = jnp.arange(self.horizon)
        following = jnp.clip(target[:, None] + rows - steps[:, None], target[:, None], real["end"][target][:, None] - 1)
        after = (rows >= steps[:, None])[..., None]
        goal = real["observations"][following]
        values = jnp.where(after, spec.normalise("observations", goal), values)
        window = self.window(ready, spec, bridge_key, values, steps)
        # What is known is known exactly, and does not go through the network's units.
        states = jnp.where(after, goal, spec.denormalise("observations", window))
        states = states.at[:, 0].set(real["observations"][start])

        made = filled(ready.inverse, ready.outcomes, spec, states)
        bridge = rows[:-1] < steps[:, None]
        worst = jnp.where(bridge, made.pop("error"), 0).max(1)
        rest, rewards, original = self.returned(real, start, target, steps, jnp.where(bridge, made["rewards"], 0))
        passed = {
            "near": near,
            "consistent": near & (worst < self.deviation),
            "lasting": near & ~(bridge & made.pop("ends")).any(1),
            "better": near & (rest > 0) & (rewards > original),
        }
        accepted = passed["consistent"] & passed["lasting"] & passed["better"]
        places = {"start": start, "target": target, "steps": steps, "rest": rest, "error": worst, "states": states}
        return places | made | passed | {"accepted": accepted}

    def window(self, ready: Ready, spec: Spec, key, values, begins) -> jax.Array:
        """Windows `[B, H, d]` whose first rows, and those from `begins` `[B]` on, are those of the values."""
        noise: Any = {"temperature": self.temperature, "noise_temperature": self.temperature}
        denoiser = self.denoiser(ready, spec, len(values))
        return self.denoise(denoiser, key, values, self.known(begins), clip_x0=(-1, 1), **noise)

    def denoiser(self, ready: Ready, spec: Spec, n: int):
        """Of n windows of the return that is asked for, (x_t, t) -> x0_hat."""
        wanted = spec.denormalise("returns", jnp.full((n, 1), 2 * self.asked - 1))[:, 0]
        asked = given.ask({given.RETURN: wanted}, n, self.guidance_scale)
        return given.guided(lambda x, t, told: self.process.denoise(ready.denoiser, x, t, told), asked, spec)

    def spliced(self, ready: Ready, spec: Spec, key, plan, start) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Where the plans `[B, H, d]` lead: of the good rows that one of their rows comes near to one at random, the
        number of the row that comes nearest, and whether there is any: `[B]` each.

        The released code's nearness is the cosine of the two states, which does not know how far away they are.
        """
        real, (draw_key, choice_key) = spec.kept["real"], jax.random.split(key)
        drawn = len(ready.order) - 1 - jax.random.randint(draw_key, (self.candidates,), 0, ready.targets)
        candidates = ready.order[drawn]
        places = spec.normalise("observations", real["observations"][candidates])
        part = plan[:, self.shortest_bridge : self.longest_bridge + 1]
        squares = jax.lax.map(lambda place: jnp.square(part - place).mean(-1), places)  # [C, B, rows]
        near = (self.nearness**2 >= squares.min(-1).T) & (real["to_go"][candidates] > real["to_go"][start][:, None])
        chosen = jnp.where(near, jax.random.uniform(choice_key, near.shape), -1).argmax(1)
        closest = squares[chosen, jnp.arange(len(plan))].argmin(-1)
        return candidates[chosen], self.shortest_bridge + closest, near.any(1)

    def returned(self, real: Rows, start, target, steps, rewards) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Rows of the target's episode that follow a bridge with these rewards `[B, H - 1]`, and what is still to come
        from the start on: in the stitched episode, and in the original one; `[B]` each.

        What comes before the start is the same in both. The released code looks the target's return up in a list that
        is in another order; this is the target's own.
        """
        rest = real["end"][target] - target
        if self.longest_episode:
            rest = jnp.clip(self.longest_episode - (start - real["begin"][start]) - steps, 0, rest)
        cut = target + rest
        beyond = jnp.where(cut < real["end"][target], real["to_go"][jnp.minimum(cut, len(real["to_go"]) - 1)], 0)
        follows = real["to_go"][target] - self.discount**rest * beyond
        discounts = self.discount ** jnp.arange(rewards.shape[1])
        return rest, (discounts * rewards).sum(1) + self.discount**steps * follows, real["to_go"][start]


CHECKS = {
    "near": "found a target that is near",
    "consistent": "were then consistent with the dynamics",
    "lasting": "did not end the task",
    "better": "returned more than the original",
}
"""What a bridge must be, and how many are so in words."""
