"""Runs policies in environments: all seeds and all episodes stepped together."""

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from reverie.data.schemes import is_goal_environment
from reverie.environments.pointmaze import MAZES
from reverie.environments.policies import Observations, Policy, RandomPolicy, WaypointPolicy
from reverie.environments.registry import make
from reverie.errors import ReverieError
from reverie.evaluation.acting import RunPolicy
from reverie.evaluation.scores import FILE, REFERENCES, Latency, Reference, Scores, read
from reverie.evaluation.spaces import check_spaces, own_tasks, shown
from reverie.terminal import Progress

if TYPE_CHECKING:
    import gymnasium

SIGNALS = ("reward", "cost")
SUCCESS_KEYS = ("success", "is_success")
GOAL_KEYS = ("observation", "desired_goal")


def evaluate(
    run: Any,
    env: "str | Callable[[], gymnasium.Env]",
    episodes: int = 20,
    seed: int = 0,
    max_steps: int | None = None,
    progress: bool = True,
    reference: Reference | None = None,
    budget: float | None = None,
    video: "str | Path | None" = None,
    filmed: int = 4,
) -> Scores:
    """Lets every seed of a run, or a policy, play the same episodes and measures what comes of it.

    The seeds' and episodes' environments are stepped together, with one call of the policy a step for all of them; one
    that has ended is not stepped further. An action that leaves the action space is clipped into it. The environments
    of episode e are reset with the same seed for every trained seed, drawn from (`seed`, e), so that two policies
    evaluated with the same `seed` meet the same starts. In an environment of several tasks in turn a run that must be
    told its task, and is not asked for any, is told each episode's own. A run in a folder gets the scores appended to
    its `evaluation.json`.

    In the point mazes the returns are also given in per cent between a random policy and the way-point controller, both
    measured in this same call on the same episodes; in the environments of `REFERENCES` in per cent of those.

    Args:
        run: a trained run, or any batched policy (`environments.policies.Policy`), which counts as one seed.
        env: a name for `reverie.environments.make`, or a function that returns an environment.
        episodes: for each seed, at least 1.
        seed: of the starts and of the policy's randomness.
        max_steps: cuts episodes after so many steps, before the environment's own limit; needed where it has none.
        progress: shows a bar on the terminal.
        reference: what to put the returns in proportion to; found as above if None.
        budget: what an episode may cost, for the environments that report costs; if None what the run is asked for, or
            was trained for.
        video: a folder for films of the best and the worst of the first seed's first episodes; in the plane with the
            way taken, and what a planner plans.
        filmed: these, of which films are made; the more, the more memory, some 20 MB for a thousand steps.

    Raises:
        ReverieError: unknown environment or missing simulator; observations or actions of another size than the run
            was trained on; actions that are not continuous; an action that is not finite.
        RunError: the run's algorithm does not act.
    """
    if seed < 0:
        raise ReverieError(f"seed must be at least 0, but is {seed}.")
    if episodes < 1:
        raise ReverieError(f"episodes must be at least 1, but is {episodes}.")
    if max_steps is not None and max_steps < 1:
        raise ReverieError(f"max_steps must be at least 1, but is {max_steps}.")
    trained = hasattr(run, "algorithm")
    path = getattr(run, "path", None)
    if path is not None:
        read(Path(path) / FILE)  # a file that cannot be added to is no news to have after all the episodes
    seeds = tuple(run.seeds) if trained else (0,)
    starts = episode_starts(seed, episodes)
    with ExitStack() as stack:
        envs = [_closing(stack, make(env)) for _ in range(len(seeds) * episodes)]
        number_episodes(envs, episodes)
        name = environment_name(env, envs[0])
        policy: Policy = RunPolicy(run, seed, own_tasks(run, envs[0], episodes)) if trained else run
        seen = list(shown(envs, run) if trained else envs)
        check_spaces(seen[0], name, run if trained else None)
        if video is not None:
            from reverie.evaluation.video import film, write_films

            films = film(seen, min(filmed, episodes), policy)
        played = play(policy, seen, starts * len(seeds), max_steps, f"{policy.name} in {name}" if progress else None)
        reference = reference or reference_of(name, envs[:episodes], starts, max_steps, seed)
    scores = Scores(
        environment=name,
        policy=policy.name,
        seeds=seeds,
        step=getattr(run, "step", None),
        seed=seed,
        max_steps=max_steps,
        tasks=getattr(envs[0], "tasks", 1),
        latency=played.latency,
        reference=reference,
        budget=None if played.costs is None else budget_of(run, budget, (len(seeds), episodes)),
        **{key: value.reshape(len(seeds), episodes) for key, value in played.arrays().items()},
    )
    if path is not None:
        scores.save(Path(path) / FILE)
    if video is not None:
        write_films(films, scores.returns[0, : len(films)].tolist(), video, name)
    return scores


def budget_of(run: Any, budget: float | None, shape: tuple[int, int]) -> np.ndarray | None:
    """What each episode may cost, `shape`, in the environment's costs; None where nobody says."""
    wish = getattr(run, "wishes", {}).get("budget")
    if budget is None and wish is not None and wish.unit == "cost":
        budget = run.asked.get("budget", wish.default)  # one for all, or one for each of a seed's episodes
    elif budget is None:
        budget = getattr(getattr(run, "algorithm", None), "budget", None)
    return None if budget is None else np.broadcast_to(np.asarray(budget, np.float64), shape)


def number_episodes(envs: list, episodes: int) -> None:
    """Tells environments of several tasks in turn which episode each of them plays: the same for all seeds."""
    for i, env in enumerate(envs):
        if hasattr(env, "episode"):
            env.episode = i % episodes


def episode_starts(seed: int, episodes: int) -> list[int]:
    """The seeds that the episodes' environments are reset with."""
    return [int(np.random.SeedSequence([seed, e]).generate_state(1)[0]) for e in range(episodes)]


@dataclass
class Played:
    """What n episodes, side by side, came to."""

    returns: np.ndarray
    lengths: np.ndarray
    terminated: np.ndarray
    arrivals: np.ndarray
    """Steps until the first success; NaN before it."""
    bests: np.ndarray
    """The largest reward of a step."""
    reports_success: bool = False
    costs: np.ndarray | None = None
    """Undiscounted sums; None where the environment reports none."""
    feedback: dict[str, np.ndarray] = field(default_factory=dict)
    """What the last step brought, `[n]` each, zeros before the first."""
    seconds: list[float] = field(default_factory=list)
    """Of each call of the policy."""

    @classmethod
    def of(cls, n: int, signals: Sequence[str]) -> "Played":
        feedback = {name: np.zeros(n, np.float32) for name in signals}
        never = np.full(n, np.nan), np.full(n, -np.inf)
        return cls(np.zeros(n), np.zeros(n, int), np.zeros(n, bool), *never, feedback=feedback)

    @property
    def succeeded(self) -> np.ndarray:
        return ~np.isnan(self.arrivals)

    def arrays(self) -> dict[str, np.ndarray]:
        found = {"returns": self.returns, "lengths": self.lengths, "terminated": self.terminated}
        if self.reports_success:
            found |= {"successes": self.succeeded, "arrivals": self.arrivals, "bests": self.bests}
        return found | ({} if self.costs is None else {"costs": self.costs})

    @property
    def latency(self) -> Latency:
        milliseconds = 1000 * np.array(self.seconds)
        later = milliseconds[1:] if len(milliseconds) > 1 else milliseconds
        median, p99 = np.percentile(later, [50, 99])
        return Latency(float(median), float(p99), float(milliseconds[0]), len(self.returns))


def play(
    policy: Policy, envs: list, seeds: list[int], max_steps: int | None = None, label: str | None = None
) -> Played:
    """One episode in each environment, reset with its seed. A label shows a bar on the terminal."""
    played, running = Played.of(len(envs), getattr(policy, "signals", SIGNALS)), np.ones(len(envs), bool)
    seen = [env.reset(seed=seed)[0] for env, seed in zip(envs, seeds, strict=True)]
    observations = stack(seen, getattr(policy, "parts", None))
    policy.reset(len(envs))
    with Progress(label or "", _limit(envs[0], max_steps), show=label is not None, unit="steps") as bar:
        while running.any():
            actions = _timed_act(policy, observations, played)
            _check_actions(actions, running, envs[0].action_space.shape, policy.name, len(played.seconds))
            actions = np.clip(actions, envs[0].action_space.low, envs[0].action_space.high)
            # One after another: a pool of threads was no faster on two cores, for steps this short.
            for i in np.flatnonzero(running).tolist():
                seen, ended = _step(envs[i], actions[i], played, i)
                _put(observations, i, seen)
                running[i] = not ended and played.lengths[i] != max_steps
            bar.more(1, f"{int((~running).sum())}/{len(running)} ended")
    return played


def _timed_act(policy: Policy, observations: Observations, played: Played) -> np.ndarray:
    # A copy: the policy may keep what it is shown, and the rows are overwritten below.
    shown, feedback = jax.tree.map(np.copy, (observations, played.feedback))
    began = time.perf_counter()
    actions = np.asarray(policy.act(shown, feedback))
    played.seconds.append(time.perf_counter() - began)
    return actions


def _step(env, action: np.ndarray, played: Played, i: int) -> tuple[Any, bool]:
    seen, reward, terminated, truncated, info = env.step(action.astype(env.action_space.dtype))
    played.returns[i] += float(reward)
    played.bests[i] = max(played.bests[i], float(reward))
    played.lengths[i] += 1
    played.terminated[i] = terminated
    if "cost" in info:
        played.costs = np.zeros(len(played.returns)) if played.costs is None else played.costs
        played.costs[i] += float(info["cost"])
    for name, row in played.feedback.items():
        row[i] = float(reward) if name == "reward" else float(info.get(name, 0.0))
    for key in SUCCESS_KEYS:
        if key in info:
            played.reports_success = True
            if info[key] and np.isnan(played.arrivals[i]):
                played.arrivals[i] = played.lengths[i]
    return seen, terminated or truncated


def stack(observations: list, parts: Sequence[str] | None = None) -> Observations:
    """Of all environments, `[n, ...]`: of dictionaries the `parts`, or all where none are given; of a goal environment
    then what it is and what is wanted, not what it was told."""
    if not isinstance(observations[0], dict):
        return np.stack(observations)
    names = parts or (GOAL_KEYS if is_goal_environment(observations[0]) else sorted(observations[0]))
    return {name: np.stack([one[name] for one in observations]) for name in names}


def _put(observations: Observations, i: int, seen: Any) -> None:
    if isinstance(observations, dict):
        for key, rows in observations.items():
            rows[i] = seen[key]
    else:
        observations[i] = seen


def _check_actions(actions: np.ndarray, running: np.ndarray, shape: tuple, name: str, step: int) -> None:
    if actions.shape != (len(running), *shape):
        raise ReverieError(
            f"{name} gives actions of shape {actions.shape} for {len(running)} environments whose actions have shape "
            f"{shape}; train it on data of this environment."
        )
    wrong = running & ~np.isfinite(actions).reshape(len(actions), -1).all(axis=1)
    if wrong.any():
        i = int(np.argmax(wrong))
        raise ReverieError(
            f"{name} gave the action {actions[i].tolist()} in environment {i} of {len(running)} at step {step}: its "
            f"networks have diverged, or what it observed was not finite."
        )


def reference_of(name: str, envs: list, starts: list[int], max_steps: int | None, seed: int) -> Reference | None:
    """What the returns are put in proportion to: published, or measured on these episodes; None for neither."""
    if name not in MAZES:
        return REFERENCES.get(name.partition("@")[0])  # of chunks the same
    low, high = (
        play(policy, envs, starts, max_steps, None).returns
        for policy in (RandomPolicy(envs[0].action_space, seed), WaypointPolicy(name))
    )
    if low.mean() == high.mean():
        return None
    note = "a random policy and the way-point controller on the same episodes"
    return Reference(float(low.mean()), float(high.mean()), note)


def _closing(stack: ExitStack, env):
    stack.callback(env.close)
    return env


def environment_name(env: Any, made: Any) -> str:
    """Of what `environments.make` was given and what it made."""
    if isinstance(env, str):
        return env
    return made.spec.id if made.spec is not None else type(made.unwrapped).__name__


def _limit(env, max_steps: int | None) -> int | None:
    own = env.spec.max_episode_steps if env.spec is not None else None
    return min((limit for limit in (own, max_steps) if limit is not None), default=None)
