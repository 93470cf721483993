"""Locomotion data as D4RL made it (Fu et al. 2020, section 5), on today's simulators and from agents trained here.

random: the actions of a policy that has learned nothing. medium: a million steps of a SAC agent stopped at about a
third of the expert's return. medium-replay: the replay of this agent until then. expert: a million steps
of the agent trained to the expert's return. medium-expert: the two, one after the other. All act stochastically, as in
training.
"""

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from shutil import copytree
from typing import Any

import numpy as np

from reverie.baselines import SAC
from reverie.data import Dataset, concatenate
from reverie.data.replay import History
from reverie.environments.collector import Collector
from reverie.errors import DataError, ReverieError
from reverie.evaluation.rollout import RunPolicy
from reverie.evaluation.scores import REFERENCES
from reverie.paths import cache_folder
from reverie.terminal import Progress
from reverie.training import Run, fit_online, loop
from reverie.training.online_loop import RECENT

ENVIRONMENTS = {"hopper": "Hopper-v5", "halfcheetah": "HalfCheetah-v5", "walker2d": "Walker2d-v5"}
KINDS = {
    "random": "1M steps of a policy that has learned nothing",
    "medium": "1M steps of a SAC agent of a third of the expert's return",
    "medium-replay": "the replay of this agent until then",
    "expert": "1M steps of a SAC agent of the expert's return",
    "medium-expert": "medium and expert, one after the other",
}
LEVELS = {"medium": 1 / 3, "expert": 1.0}
"""Where the agents stop, from a random policy's return (0) to the expert's of `evaluation.REFERENCES` (1)."""
TOGETHER = 10
"""Environments stepped together."""
CHUNK = 1000
"""Steps of each between two looks at the progress bar."""


@dataclass(frozen=True)
class Recipe:
    """Which agent learns where, and how."""

    agent: Any
    """An algorithm that learns online."""
    environment: str
    low: float
    """A random policy's return."""
    high: float
    """The expert's."""
    longest: int = 3_000_000
    """Environment steps after which an agent below its level is given up."""
    settings: tuple[tuple[str, int], ...] = ()
    """Of `fit_online`, where not the usual ones."""

    def level(self, name: str) -> float:
        return self.low + LEVELS[name] * (self.high - self.low)


def usual(task: str) -> Recipe:
    """SAC with its paper's settings in one of `ENVIRONMENTS`."""
    reference = REFERENCES[ENVIRONMENTS[task]]
    return Recipe(SAC(), ENVIRONMENTS[task], reference.low, reference.high)


def collect(name: str, *, steps: int, seed: int = 0, progress: bool = False, recipe: Recipe | None = None) -> Dataset:
    """The data set "hopper-medium" and its like.

    Its agents are trained on first use, in `$REVERIE_CACHE/agents`, and go on there after a stop.

    Args:
        name: one of `ENVIRONMENTS`, a hyphen, one of `KINDS`.
        steps: of the set; of a medium-replay the most that the agent may take to its level.
        seed: of the agent, and of what it does.
        progress: shows bars on the terminal.
        recipe: another agent or task than the usual one.

    Raises:
        ReverieError: steps below 1, or no simulator installed.
        DataError: the agent does not reach its level in time. What it has learned stays.
    """
    if steps < 1:
        raise ReverieError(f"steps must be at least 1, but is {steps}.")
    task, _, kind = name.partition("-")
    recipe = recipe or usual(task)
    label = name if progress else None
    if kind == "medium-replay":
        agent = trained("medium", recipe, seed, progress, steps)
        data = replace(agent.histories[0].dataset(), attributes={"agent_steps": agent.step})
    elif kind == "medium-expert":
        counts = {"medium": steps - steps // 2, "expert": steps // 2}
        agents = {level: trained(level, recipe, seed, progress) for level in counts}
        data = concatenate(*(rollouts(agents[level], recipe, n, seed, label) for level, n in counts.items()))
    else:
        agent = untrained(recipe, seed) if kind == "random" else trained(kind, recipe, seed, progress)
        data = rollouts(agent, recipe, steps, seed, label)
    return replace(data, attributes=dict(data.attributes) | _attributes(name, kind, recipe, seed))


def _attributes(name: str, kind: str, recipe: Recipe, seed: int) -> dict[str, Any]:
    return {
        "name": f"{name} (regenerated)",
        "regenerated": True,
        "about": f"{KINDS[kind]}; D4RL's recipe on another simulator, not D4RL's data",
        "environment": recipe.environment,
        "agent": recipe.agent.name,
        "seed": seed,
        "gymnasium": version("gymnasium"),
        "mujoco": version("mujoco"),
    }


def trained(level: str, recipe: Recipe, seed: int, progress: bool = False, longest: int | None = None) -> Run:
    """The agent at its level. The expert goes on from where the medium one stopped."""
    folder, longest = _folder(level, recipe, seed), longest or recipe.longest
    if level == "expert" and not folder.exists():
        trained("medium", recipe, seed, progress)
        copytree(_folder("medium", recipe, seed), folder)
    settings: dict[str, Any] = dict(recipe.settings) | {
        "until": recipe.level(level),
        "seed": seed,
        "progress": progress,
    }
    run = fit_online(recipe.agent, recipe.environment, steps=longest, out=folder, resume=True, **settings)
    recent = float(np.mean(run.histories[0].returns[-RECENT:]))
    if recent < recipe.level(level):
        raise DataError(
            f"After {run.step} steps the {level} agent's return is {recent:.0f}, below {recipe.level(level):.0f}. Try "
            f"another seed, or more steps. What it has learned is in {str(folder)!r}."
        )
    return run


def _folder(level: str, recipe: Recipe, seed: int) -> Path:
    return cache_folder() / "agents" / f"{recipe.agent.name}-{recipe.environment}-{seed}" / level


def untrained(recipe: Recipe, seed: int) -> Run:
    """A policy as it is initialised."""
    with closing(Collector(recipe.environment, (seed,), 1)) as env:
        rngs = [np.random.default_rng(seed)]
        seen = collect_steps(env, lambda _: env.random_actions(rngs), 100, None)
    spec, keys = recipe.agent.prepare(seen)[1], loop.seed_keys((seed,))
    return Run(recipe.agent, spec, loop.initial_states(recipe.agent, keys, spec), 0, (seed,))


def rollouts(run: Run, recipe: Recipe, steps: int, seed: int, label: str | None) -> Dataset:
    """So many steps of the agent as it acts in training."""
    policy = RunPolicy(replace(run, algorithm=run.algorithm.exploring), seed)
    policy.reset(TOGETHER)
    with closing(Collector(recipe.environment, (seed,), TOGETHER, entropy=1)) as env:
        data = collect_steps(env, lambda seen: policy.act(seen[0])[None], steps, label)
    return replace(data, attributes={"agent_steps": run.step})


def collect_steps(env: Collector, choose: Callable[[np.ndarray], np.ndarray], steps: int, label: str | None) -> Dataset:
    """So many steps, one environment's episodes after another's; the last of each is cut where time is up."""
    history = History(env.low, env.high)
    with Progress(label or "", steps, show=label is not None, unit="steps") as bar:
        for done in range(0, steps, CHUNK * env.envs):
            left = steps - done
            made = env.steps(choose, min(CHUNK, -(-left // env.envs)))
            history.append({name: x[0] for name, x in made.items()})
            bar.more(min(left, CHUNK * env.envs))
    data = history.dataset()
    arrays: dict[str, Any] = {name: x[:steps] if len(x) == len(data) else x for name, x in data.arrays().items()}
    return type(data).from_arrays(**arrays)
