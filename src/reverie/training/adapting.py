"""Self-improvement: a planner that learns from its own plans (Liang et al. 2023, "AdaptDiffuser: Diffusion Models as
Adaptive Self-evolving Planners").

Plan, keep the plans that are good and that could be true, learn from these too, and so again. Both are judged by a
model of the dynamics, and both are quantiles: of whatever was planned there is always a best fifth.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from reverie.data import Dataset, Spec, concatenate
from reverie.errors import RunError
from reverie.protocols import GoalSizing
from reverie.terminal import say
from reverie.training.beginning import check_alike
from reverie.training.fitting import fit
from reverie.training.inputs import takes_goal
from reverie.training.run import Run
from reverie.wishes import resolve

Model = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
"""(observations `[N, observation]`, actions `[N, action]`) -> (next observations, rewards `[N]`), in data units."""
AT_ONCE = 256
"""Plans in one call of the planner."""


@dataclass(frozen=True)
class Imagined:
    """Plans of n windows of H rows, in the data's units, and what the model says of them."""

    observations: np.ndarray
    """`[n, H, observation]`"""
    actions: np.ndarray
    """`[n, H, action]`, within the bounds."""
    predicted: np.ndarray
    """The model's next observations, `[n, H, observation]`."""
    rewards: np.ndarray
    """The model's, `[n, H]`."""
    error: np.ndarray
    """How far a plan is from what the model predicts, at its worst step: `[n]`, in the observations' standard
    deviations (root mean square over columns)."""

    def dataset(self, kept: np.ndarray, like: Dataset) -> Dataset:
        """The plans `kept` (bool `[n]`) as episodes that are cut after H steps. The last step leads to where the model
        says."""
        n, rows = int(kept.sum()), self.rewards.shape[1]
        after = np.concatenate([self.observations[:, 1:], self.predicted[:, -1:]], 1)
        last = np.tile(np.arange(rows) == rows - 1, n)
        flat = [x[kept].reshape(n * rows, *x.shape[2:]) for x in (self.observations, self.actions, self.rewards, after)]
        return Dataset.from_arrays(
            flat[0],
            flat[1],
            None if like.rewards is None else flat[2],
            np.zeros(n * rows, bool) if like.terminals_known else None,
            last,
            next_observations=flat[3],
            action_low=like.action_low,
            action_high=like.action_high,
            attributes=like.attributes,
        )


def adapt(
    run: Run,
    data: Dataset,
    dynamics: Run | Model,
    *,
    steps: int,
    rounds: int = 1,
    plans: int = 1000,
    quality_quantile: float = 0.8,
    error_quantile: float = 0.5,
    quality: Callable[[Imagined], np.ndarray] | None = None,
    algorithm: Any = None,
    seed: int = 0,
    out: str | Path | None = None,
    progress: bool = True,
) -> Run:
    """The planner after `rounds` rounds of learning from its own plans, beside the data.

    A round draws observations of the data (and goals, where the planner wants some), makes `plans` plans from them as
    the run acts (guided, where `run.acting` says so), keeps of the `error_quantile` that are nearest to the dynamics
    those whose quality is above the `quality_quantile`, adds them to the data as episodes, and goes on with the
    training for `steps` updates by `fit(initial=)`. Of a run of several seeds each makes its share of the plans.

    dynamics: a run of learned dynamics (`mbpo`, `morel`, `tatu`), or a function `Model`.
    quality: of plans, `[n]`; by default the model's rewards, summed with the planner's discount.
    algorithm: how to learn from plans, where it is to differ from the run's. An episode that is a plan is cut at the
        horizon, and its return with it: `dataclasses.replace(run.algorithm, value_updates=0)` keeps Diffuser's value.
    out: a folder, for a run a round: `OUT/round-1` and so on.

    Raises RunError for a method that does not plan actions and observations step by step, and for quantiles outside
    [0, 1], counts below 1, and dynamics of other observations or actions; what `fit` raises besides.
    """
    check_plans(run)
    for name, value in {"quality_quantile": quality_quantile, "error_quantile": error_quantile}.items():
        if not 0 <= value <= 1:
            raise RunError(f"{name}={value} must be from 0 to 1.")
    for name, count in {"rounds": rounds, "plans": plans}.items():
        if count < 1:
            raise RunError(f"{name}={count} must be at least 1.")
    model, rng = _model(dynamics, run.spec), np.random.default_rng(seed)
    for number in range(1, rounds + 1):
        imagined = judge(run, imagine(run, data, plans, rng), model)
        score = discounted(imagined, run) if quality is None else np.asarray(quality(imagined))
        kept = chosen(imagined.error, score, error_quantile, quality_quantile)
        if progress:
            means = [each.mean() for each in (score[kept], score, imagined.error[kept], imagined.error)]
            say(
                f"Round {number}: {int(kept.sum())} of {len(kept)} plans are kept. On average their quality is "
                f"{means[0]:.3g}, that of all {means[1]:.3g}; their error {means[2]:.3g}, that of all {means[3]:.3g}."
            )
        data = concatenate(data, imagined.dataset(kept, data))
        asked = run.asked
        run = fit(
            algorithm or run.algorithm,
            data,
            steps=steps,
            seeds=len(run.seeds),
            seed=run.seeds[0],
            initial=run,
            out=None if out is None else Path(out) / f"round-{number}",
            progress=progress,
        )
        run = replace(run, asked=asked)
    return run


def check_plans(run: Run) -> None:
    """Raise RunError where the run makes no plans that can be episodes."""
    algorithm = run.algorithm
    if hasattr(algorithm, "barriers"):
        raise RunError(f"{algorithm.name} is shielded, and cannot learn so; adapt the run without its shield.")
    if not hasattr(algorithm, "plan") or not {"actions", "observations"} <= set(getattr(algorithm, "parts", ())):
        raise RunError(f"{algorithm.name} makes no plans of actions and observations that it could learn from.")
    if algorithm.stride != 1:
        raise RunError(
            f"stride={algorithm.stride} leaves steps out of {algorithm.name}'s plans, which cannot be episodes then; "
            "train it with a stride of 1."
        )


def imagine(run: Run, data: Dataset, n: int, rng: np.random.Generator) -> np.ndarray:
    """n plans `[n, H, D]`, in network units, from observations of the data, and towards such where there are goals."""
    algorithm, spec = run.algorithm, run.spec
    wishes = resolve(algorithm.name, run.wishes, run.asked, AT_ONCE)

    def drawn() -> jax.Array:
        return jnp.asarray(data.observations[rng.integers(len(data), size=AT_ONCE)])  # type: ignore[index]

    made: list[np.ndarray] = []
    for number in range(-(-n // AT_ONCE)):
        observation: Any = drawn()
        if takes_goal(algorithm, spec):
            size = algorithm.goal_dim(spec) if isinstance(algorithm, GoalSizing) else spec.observation_dim
            observation = {"observation": observation, "desired_goal": drawn()[:, :size]}
        state = run.state(run.seeds[number % len(run.seeds)])
        key = jax.random.key(int(rng.integers(2**31)))
        made.append(np.asarray(_plan(algorithm, state, spec, observation, wishes, key)))
    return np.concatenate(made)[:n]


@partial(jax.jit, static_argnums=0)
def _plan(algorithm: Any, state: Any, spec: Any, observation: Any, wishes: Any, key: jax.Array) -> jax.Array:
    return algorithm.plan(state, spec, observation, algorithm.reset(spec, AT_ONCE, wishes), key)


def judge(run: Run, plans: np.ndarray, model: Model) -> Imagined:
    """Plans `[n, H, D]` in network units, as the model sees them."""
    spec, blocks = run.spec, run.algorithm.blocks(run.spec)
    observations, actions = (
        np.asarray(spec.denormalise(name, jnp.asarray(plans[..., blocks.slice(name)])))
        for name in ("observations", "actions")
    )
    actions = np.clip(actions, spec.action_low, spec.action_high)
    n, rows = plans.shape[:2]
    after, rewards = model(observations.reshape(n * rows, -1), actions.reshape(n * rows, -1))
    predicted = np.asarray(after).reshape(n, rows, -1)
    steps = (observations[:, 1:], predicted[:, :-1])
    found, expected = (np.asarray(spec.normalise("observations", jnp.asarray(each))) for each in steps)
    error = np.sqrt(np.square(found - expected).mean(-1)).max(1, initial=0)
    return Imagined(observations, actions, predicted, np.asarray(rewards).reshape(n, rows), error)


def discounted(imagined: Imagined, run: Run) -> np.ndarray:
    """The model's rewards, summed with the planner's discount (1 where it has none): `[n]`."""
    weight = getattr(run.algorithm, "discount", 1.0) ** np.arange(imagined.rewards.shape[1])
    return imagined.rewards @ weight


def chosen(error: np.ndarray, quality: np.ndarray, error_quantile: float, quality_quantile: float) -> np.ndarray:
    """Of the share `error_quantile` with the smallest error those above the quantile of their quality: bool `[n]`."""
    near = error <= np.quantile(error, error_quantile)
    return near & (quality >= np.quantile(quality[near], quality_quantile))


def _model(dynamics: Run | Model, planner: Spec) -> Model:
    if not isinstance(dynamics, Run):
        return dynamics
    algorithm, state, spec = dynamics.algorithm, dynamics.state(), dynamics.spec
    if not hasattr(algorithm, "predict"):
        raise RunError(f"{algorithm.name} does not predict what follows a step; give a run of mbpo, or a function.")
    known, planned = ((each.observation_space, each.action) for each in (spec, planner))
    check_alike("run of the dynamics", *known, *planned, "the planner's run")
    return lambda observations, actions: algorithm.predict(state, spec, observations, actions)


__all__ = ["Imagined", "adapt"]
