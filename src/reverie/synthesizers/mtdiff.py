"""MTDiff-s (He et al. 2023, "Diffusion Model is an Effective Planner and Data Synthesizer for Multi-Task Reinforcement
Learning"): trajectories of many tasks by one diffusion model, which is told the task by steps of a demonstration.

What is denoised are transitions in a row, actions and rewards too, given the prompt alone: a task that has few data is
learned beside those that have many.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from reverie.configs import SolverName
from reverie.data import Dataset, MinMax, Spec, windows
from reverie.data.blocks import Blocks
from reverie.diffusion import sample
from reverie.errors import ReverieError
from reverie.networks import PromptTransformer
from reverie.planning.prompted import PromptDiffusion, PromptState
from reverie.planning.tasks import Prompts, task_names
from reverie.settings import Acting, Count
from reverie.synthesizers import transition
from reverie.synthesizers.chunked import Chunked
from reverie.terminal import wait


@dataclass(frozen=True)
class MTDiffSynthesizer(Chunked, PromptDiffusion):
    """MTDiff-s: trajectories of many tasks, told by a demonstration."""

    name: ClassVar = "mtdiff-s"
    paper: ClassVar = "He et al. 2023"
    needs: ClassVar[tuple[str, ...]] = ("tasks", "rewards", "terminals")
    infos: ClassVar[Mapping[str, Any]] = {"task": np.int32}
    """Of what is made."""

    horizon: Count = 16
    """Transitions of a window, which lies inside an episode; each that is made is an episode of its own."""
    diffusion_steps: Count = 50
    """Noise levels."""
    solver: Acting[SolverName] = "dpm++2m"
    """How data are denoised: a name from reverie.diffusion.SOLVERS. With few evaluations ddpm makes data that are too
    narrow."""
    part_tokens: bool = False
    """Give the transformer a token for each part of a transition, as the released code does, and not one for all."""
    task: Acting[str] = ""
    """What is made: a task by its name or number; all of them in equal parts if empty."""

    def prepare(self, data: Dataset, spec: Spec | None = None):
        data.require_rewards(), data.require_terminals()
        data = data.with_next_observations()
        spec = spec or self.with_prompts(data, Spec.fit(data, **dict.fromkeys(transition.PARTS, MinMax)))
        view = windows(data, spec, self.horizon, columns=("observations", "actions", "rewards", "terminals"))
        after = spec.normalise("next_observations", data.next_observations)
        return self.by_task(view.joined({"next_observations": after}), data, spec), spec

    def sizes(self, spec: Spec) -> Sequence[int]:
        widths = [width or 1 for _, width in transition.blocks(spec).widths]
        return widths if self.part_tokens else [sum(widths)]

    def rows(self, batch: Mapping[str, Any]) -> jax.Array:
        return Blocks.like(batch, transition.PARTS).join(batch)

    def ready(self, state: PromptState, spec: Spec) -> tuple[PromptTransformer, Prompts, jax.Array]:
        """The network, the prompts, and the tasks that are made."""
        net: Any = state.denoiser_ema
        return net, self.prompts(spec), jnp.asarray(self.made(spec))

    def made(self, spec: Spec) -> list[int]:
        """The numbers of the tasks that are made. Raises ReverieError for one that is not there."""
        names, asked = task_names(spec), str(self.task)
        found = {**{str(number): number for number in range(len(names))}, **{n: i for i, n in enumerate(names)}}
        if asked and asked not in found:
            raise ReverieError(f"task = {asked!r} is none of 0 to {len(names) - 1}, or by name {', '.join(names)}.")
        return [found[asked]] if asked else list(range(len(names)))

    def chunk_rows(self, ready: Any, spec: Spec, key, rows: int) -> dict[str, Any]:
        parts = self.windows(ready, spec, key)
        wait(parts["actions"])
        return parts

    def computed(self, state: PromptState, spec: Spec, key) -> dict[str, jax.Array]:
        return self.windows(self.ready(state, spec), spec, key)

    def about(self, spec: Spec) -> dict[str, Any]:
        return {"tasks": task_names(spec)}

    @partial(jax.jit, static_argnums=0)
    def windows(self, ready: Any, spec: Spec, key) -> dict[str, jax.Array]:
        """A chunk of transitions, window after window, in the data's units, with the task of each and where a window
        ends. The tasks are in turn, from any one on."""
        net, prompts, tasks = ready
        turn_key, prompt_key, key = jax.random.split(key, 3)
        count = -(-self.chunk // self.horizon)
        task = tasks[(jax.random.randint(turn_key, (), 0, len(tasks)) + jnp.arange(count)) % len(tasks)]
        denoiser = self.process.denoiser(net, (prompts.draw(prompt_key, task),))
        shape = (count, self.horizon, transition.blocks(spec).size)
        options: Any = {"nfe": self.nfe or self.diffusion_steps, "solver": self.solver, **self.sample_options}
        x = sample(self.process, denoiser, key, shape, **options)
        parts = transition.split(x.reshape(-1, shape[-1]), spec)
        last = jnp.arange(count * self.horizon) % self.horizon == self.horizon - 1
        return parts | {"timeouts": last & ~parts["terminals"], "infos/task": jnp.repeat(task, self.horizon)}
