"""MTDiff-p (He et al. 2023, "Diffusion Model is an Effective Planner and Data Synthesizer for Multi-Task Reinforcement
Learning"): actions of many tasks by one diffusion model, which is told the task by steps of a demonstration.

Only actions are denoised, given the last observations. How well to do is asked for by classifier-free guidance; the
prompt is always there.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from reverie.data import Dataset, MinMax, Spec
from reverie.diffusion import classifier_free, sample
from reverie.networks import PromptTransformer
from reverie.planning import ChunkActor, ChunkCarry, Overlap
from reverie.planning.conditions import RETURN
from reverie.planning.prompted import PromptDiffusion, PromptState
from reverie.planning.tasks import (
    BEST_EPISODES,
    RANGES,
    TASK,
    mean_rewards_to_go,
    ranges_by_task,
    shares_by_task,
    step_tasks,
    task_names,
)
from reverie.settings import Acting, Count, Fraction, NonNegative
from reverie.wishes import Wish, Wishes

BEST = 0.9
"""Of a task's range of returns: the default wish of earlier runs, which do not know what their episodes begin with."""


class Asked(NamedTuple):
    """What is asked for, a row an environment."""

    prompt: Any
    """`[n, prompt_steps, observation + action]`, in the environment's units."""
    returns: Any
    """Shares of the task's range, `[n]`."""


class Told(NamedTuple):
    """The network that acts, and what it is asked for."""

    net: PromptTransformer
    asked: Asked


@dataclass(frozen=True)
class MTDiffPlanner(ChunkActor, PromptDiffusion):
    """MTDiff-p: actions of many tasks, told by a demonstration and asked for a return."""

    name: ClassVar = "mtdiff-p"
    role: ClassVar = "planner"
    paper: ClassVar = "He et al. 2023"
    needs: ClassVar[tuple[str, ...]] = ("tasks", "rewards")
    steering: ClassVar[tuple[int, ...]] = (1,)

    horizon: Count = 32
    """Actions of a chunk, from that of the oldest observation on."""
    discount: Fraction = 0.99
    """Discount of the mean reward to go that is asked for."""
    told: Fraction = 0.8
    """Share of the chunks that are told their return in training."""
    action_weight: NonNegative = 1.0
    """Loss weight of the current step's action; the released code's is 10."""
    guidance_scale: Acting[float] = 1.2
    """Scale of the return that is asked for: 1 samples actions of that return, 0 does not ask for any."""

    def prepare(self, data: Dataset, spec: Spec | None = None):
        means = mean_rewards_to_go(data, self.discount)
        if spec is None:
            spec = self.with_prompts(data, Spec.fit(data, observations=MinMax, actions=MinMax))
            tasks = step_tasks(data, spec)
            learned = tasks >= 0
            count, starts = len(task_names(spec)), data.episodes[:, 0]
            ranges, begun = ranges_by_task(means[learned], tasks[learned], count), starts[learned[starts]]
            highest = ranges_by_task(means[begun], tasks[begun], count)[:, 1]
            known = {RANGES: ranges, BEST_EPISODES: shares_by_task(highest, np.arange(count), ranges)}
            spec = replace(spec, kept=spec.kept | jax.tree.map(jnp.asarray, known))
        view, spec = super().prepare(data, spec)
        returns = shares_by_task(means, step_tasks(data, spec), np.asarray(spec.kept[RANGES]))
        view = view.joined({}, {"returns": jnp.asarray(returns[np.asarray(view.starts)])})
        return self.by_task(view, data, spec), spec

    def sizes(self, spec: Spec) -> tuple[int, ...]:
        return (spec.action_dim,)

    def given_sizes(self, spec: Spec) -> list[tuple[int, int]]:
        return [(1, 2), (self.observation_horizon, spec.observation_dim)]

    def rows(self, batch: Mapping[str, Any]) -> jax.Array:
        return batch["actions"]

    def given(self, batch: Mapping[str, Any], key) -> list[jax.Array]:
        told = jax.random.bernoulli(key, self.told, batch["returns"].shape)
        return [returns_told(batch["returns"], told), batch["observations"]]

    def weight(self, batch: Mapping[str, Any]) -> jax.Array:
        weight = jnp.ones(self.horizon).at[self.current].set(self.action_weight)
        return (weight * batch["mask"] if self.mask_padding else weight)[..., None]

    def wishes(self, spec: Spec) -> dict[str, Wish]:
        about = "discounted mean of the rewards to go, from the task's lowest in the data, 0, to its highest, 1"
        # The released code asks for 9 of 10 at every step. The range is of all steps, and at the first ones of an
        # episode that is paid for its end nothing like 0.9 of it was ever seen.
        default = self.best_episodes(spec) if BEST_EPISODES in spec.kept else BEST
        wish = Wish(about, "share of the task's range", default=default, low=0.0, high=1.0)
        return {TASK: self.task_wish(spec), RETURN: wish}

    def reset(self, spec: Spec, n: int, wishes: Wishes) -> ChunkCarry:
        return self.rewish(super().reset(spec, n, wishes)._replace(told=Asked(None, None)), wishes)

    def rewish(self, carry: ChunkCarry, wishes: Wishes) -> ChunkCarry:
        asked = {"prompt": wishes.get(TASK, carry.told.prompt), "returns": wishes.get(RETURN, carry.told.returns)}
        return self.anew(carry)._replace(told=Asked(**jax.tree.map(jnp.asarray, asked)))

    def next_chunk(self, state: PromptState, spec: Spec, carry: ChunkCarry, key) -> ChunkCarry:
        net: Any = state.denoiser_ema
        return super().next_chunk(Told(net, carry.told), spec, carry, key)

    def choose(self, state: Told, spec: Spec, observations, overlap: Overlap, key) -> jax.Array:
        net, asked = state
        prompt = self.in_network_units(spec, asked.prompt)

        def predict(x, t, returns):
            return self.process.denoise(net, x, t, (prompt, returns, observations))

        shown = returns_told(asked.returns, jnp.ones_like(asked.returns))
        denoiser = classifier_free(predict, shown, jnp.zeros_like(shown), self.guidance_scale)
        nfe = self.nfe or self.diffusion_steps
        shape = overlap.rows.shape
        return sample(self.process, denoiser, key, shape, nfe=nfe, solver=self.solver, **self.sample_options)


def returns_told(returns, told) -> jax.Array:
    """A row `[..., 1, 2]` that tells the returns `[...]` where they are `told`, and is 0 elsewhere."""
    told = jnp.asarray(told, jnp.float32)
    return jnp.stack([told * returns, told], -1)[..., None, :]
