"""Locomotion data as D4RL made it (Fu et al. 2020, section 5), on today's simulators and from agents trained here.

The agents are SAC's of one training a task, as they were when their return first reached a share of the expert's:
`agents/TASK-PERCENT.safetensors`, made by `recipes/agents.py`.

random: the actions of a policy that has learned nothing. medium, expert: one agent's. medium-expert: the two, one after
the other. mixture: equal steps of all agents: many ways to run in the same states. All act stochastically, as in
training. medium-replay: the replay of an agent that is trained for it until it is medium.

velocity-mixture: as mixture, with the costs of Safety Gymnasium's velocity tasks, of which the agents knew nothing.
"""

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from reverie.baselines import SAC
from reverie.collection.recipe import Entry, Part, Rows, Suite
from reverie.data import Dataset
from reverie.data.replay import History
from reverie.environments.collector import Collector
from reverie.errors import DataError
from reverie.evaluation.acting import RunPolicy
from reverie.evaluation.scores import REFERENCES
from reverie.paths import cache_folder
from reverie.training import Run, fit_online, load, loop
from reverie.training.online_loop import RECENT

ENVIRONMENTS = {"hopper": "Hopper-v5", "halfcheetah": "HalfCheetah-v5", "walker2d": "Walker2d-v5"}
SHIPPED = Path(__file__).parent / "agents"
RANDOM, MEDIUM, EXPERT = 0, 33, 100
"""Agents by their return in per cent, from a random policy's (0) to the expert's of `evaluation.REFERENCES` (100)."""
TOGETHER = 10
"""Environments stepped together."""
SIZE = 100_000
"""Steps of a part."""


def agent() -> SAC:
    """What learns. Half the paper's width: 2.6 times as many updates a second on one core."""
    return SAC(hidden=(128, 128), critic_hidden=(128, 128))


def return_of(task: str, percent: float) -> float:
    """That an agent of so many per cent has."""
    reference = REFERENCES[ENVIRONMENTS[task]]
    return reference.low + percent / 100 * (reference.high - reference.low)


def shipped(task: str) -> tuple[int, ...]:
    """The agents of a task that there are, in per cent, the worst first."""
    return tuple(sorted(int(file.stem.split("-")[1]) for file in SHIPPED.glob(f"{task}-*.safetensors")))


@dataclass(frozen=True)
class AgentsPart(Part):
    """A part by one agent."""

    percent: int


@dataclass(frozen=True)
class Rollouts:
    """Steps of agents, equally many of each."""

    name: str
    environment: str
    agents: tuple[int, ...]
    """In per cent."""
    folder: Path = field(default=SHIPPED, repr=False)
    size: int = SIZE
    """Steps of a part."""

    @property
    def files(self) -> list[Path]:
        return [self.file(percent) for percent in self.agents if percent != RANDOM]

    def file(self, percent: int) -> Path:
        return self.folder / f"{self.task}-{percent}.safetensors"

    @property
    def task(self) -> str:
        return self.name.split("-")[0]

    def parts(self, steps: int, seed: int) -> list[AgentsPart]:
        shares = [steps // len(self.agents) + (i < steps % len(self.agents)) for i in range(len(self.agents))]
        found: list[AgentsPart] = []
        for percent, share in zip(self.agents, shares, strict=True):
            for start in range(0, share, self.size):
                found.append(AgentsPart(len(found), min(self.size, share - start), seed, percent))
        return found

    def collect(self, part: AgentsPart, progress: bool = False) -> Rows:
        seed = int(part.rng().integers(2**32))
        run = self.run(part.percent, part.seed)
        policy = RunPolicy(replace(run, algorithm=run.algorithm.exploring), seed)
        policy.reset(TOGETHER)
        with closing(Collector(self.environment, (part.seed,), TOGETHER, entropy=part.index + 1)) as env:
            return collect_steps(env, lambda seen: policy.act(seen[0])[None], part.steps)

    def run(self, percent: int, seed: int) -> Run:
        """The agent."""
        if percent == RANDOM:
            return untrained(agent(), self.environment, seed)
        return load(self.file(percent))

    def dataset(self, rows: Rows, steps: int, seed: int) -> Dataset:
        about = {"agents": list(self.agents), "agent": agent().name}
        return regenerated(self.name, self.environment, rows, about | {"steps": steps, "seed": seed})


@dataclass(frozen=True)
class Replay:
    """The replay of an agent that is trained until it is medium, in `$REVERIE_CACHE/agents`, where it goes on after a
    stop."""

    name: str
    environment: str
    until: float
    """Its return."""
    learner: Any
    settings: tuple[tuple[str, int], ...] = ()
    """Of `fit_online`, where not the usual ones."""

    def parts(self, steps: int, seed: int) -> list[Part]:
        return [Part(0, steps, seed)]

    def collect(self, part: Part, progress: bool = False) -> Rows:
        folder = cache_folder() / "agents" / f"{self.learner.name}-{self.environment}-{part.seed}"
        settings: dict[str, Any] = dict(self.settings) | {"until": self.until, "progress": progress}
        run = fit_online(
            self.learner, self.environment, steps=part.steps, seed=part.seed, out=folder, resume=True, **settings
        )
        recent = float(np.mean(run.histories[0].returns[-RECENT:]))
        if recent < self.until:
            raise DataError(
                f"After {run.step} steps the agent's return is {recent:.0f}, below {self.until:.0f}. Try another seed, "
                f"or more steps. What it has learned is in {str(folder)!r}."
            )
        return _rows(run.histories[0].dataset())

    def dataset(self, rows: Rows, steps: int, seed: int) -> Dataset:
        about = {"agent": self.learner.name, "agent_steps": len(rows["actions"]), "seed": seed}
        return regenerated(self.name, self.environment, rows, about)


def regenerated(name: str, environment: str, rows: Rows, about: dict[str, Any]) -> Dataset:
    """The rows as a data set that says what it is."""
    bounds: dict[str, Any] = {key: rows.pop(key)[0] for key in ("action_low", "action_high")}
    arrays: dict[str, Any] = dict(rows)
    attributes = {
        "name": f"{name} (regenerated)",
        "regenerated": True,
        "about": "D4RL's recipe on another simulator and by other agents, not D4RL's data",
        "environment": environment,
        "gymnasium": version("gymnasium"),
        "mujoco": version("mujoco"),
    }
    return Dataset.from_arrays(**arrays, **bounds, attributes=attributes | about)


def untrained(algorithm: Any, environment: str, seed: int) -> Run:
    """A policy as it is initialised."""
    with closing(Collector(environment, (seed,), 1)) as env:
        rngs = [np.random.default_rng(seed)]
        rows = collect_steps(env, lambda _: env.random_actions(rngs), 100)
    spec, each = algorithm.prepare(regenerated("", environment, rows, {}))[1], loop.each_seed((seed,))
    return Run(algorithm, spec, loop.initial_states(algorithm, each, spec), 0, (seed,))


def collect_steps(env: Collector, choose: Callable[[np.ndarray], np.ndarray], steps: int) -> Rows:
    """So many steps, one environment's episodes after another's; the last of each is cut where time is up."""
    history = History(env.low, env.high)
    made = env.steps(choose, -(-steps // env.envs))
    history.append({name: x[0] for name, x in made.items()})
    return _rows(history.dataset(), steps)


def _rows(data: Dataset, steps: int | None = None) -> Rows:
    """The first `steps`, the last one an episode's end, and the actions' bounds as columns of one row."""
    arrays = data.arrays()
    bounds = {key: arrays.pop(key)[None] for key in ("action_low", "action_high")}
    rows = {key: x[:steps] for key, x in arrays.items()}
    cut = np.arange(len(rows["actions"])) == len(rows["actions"]) - 1
    return rows | bounds | {"timeouts": rows["timeouts"] | (cut & ~rows["terminals"])}


def suite() -> Suite:
    return Suite(
        "D4RL's locomotion recipe: SAC agents trained here, of so many per cent of the expert's return, run with noise",
        "Gymnasium's v5 tasks (MIT), MuJoCo (Apache-2.0)",
        {name: entry for task in ENVIRONMENTS for name, entry in _entries(task).items()},
    )


def _entries(task: str) -> dict[str, Entry]:
    environment, agents = ENVIRONMENTS[task], shipped(task)
    kinds: dict[str, tuple[Sequence[int], int, str]] = {
        "random": ((RANDOM,), 1_000_000, "an agent that has learned nothing")
    }
    if MEDIUM in agents:
        best = agents[-1]
        # An agent that was not trained to the expert's return is not called an expert.
        top = "expert" if best == EXPERT else f"level-{best}"
        kinds |= {
            "medium": ((MEDIUM,), 1_000_000, f"the agent of {MEDIUM} %"),
            top: ((best,), 1_000_000, f"the agent of {best} %"),
            f"medium-{top}": ((MEDIUM, best), 2_000_000, f"the agents of {MEDIUM} and of {best} %"),
            "mixture": (agents, 1_000_000, f"equal steps of the agents of {', '.join(map(str, agents))} %"),
        }
    if MEDIUM in agents:
        kinds["velocity-mixture"] = (agents, 1_000_000, f"mixture, where a step in {task}-velocity may cost 1")
    found: dict[str, Entry] = {}
    for kind, (chosen, steps, about) in kinds.items():
        env = f"{task}-velocity" if kind.startswith("velocity-") else environment
        recipe = Rollouts(f"{task}-{kind}", env, tuple(chosen))
        found[recipe.name] = Entry(recipe, steps, about, steps / 12_000, steps / 340_000)
    replay = Replay(f"{task}-medium-replay", environment, return_of(task, MEDIUM), agent())
    about = f"all steps of an agent that is trained for this until it is of {MEDIUM} %; at most so many"
    return found | {replay.name: Entry(replay, 3_000_000, about, 20, 15)}
