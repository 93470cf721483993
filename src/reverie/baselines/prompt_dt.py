"""Prompt-DT (Xu et al. 2022, "Prompting Decision Transformer for Few-Shot Policy Generalization").

A Decision Transformer of several tasks that reads some steps of a demonstration before its history.
"""

from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from reverie.baselines.decision_transformer import DecisionTransformer, History, Network, State
from reverie.data import Dataset, Spec
from reverie.networks import StepEmbedding
from reverie.planning.tasks import BEST_EPISODES, TASK, Prompted, Prompts, ranges_by_task, task_names, task_numbers
from reverie.protocols import Feedback
from reverie.settings import Count
from reverie.wishes import Wish, Wishes

SCALES = "task_scales"
"""Of a specification's `kept`: what counts as a return of 1 of every task, float32 `[K]`."""


class PromptState(State):
    """With the demonstrations, which stay as they are."""

    prompts: Prompts


class Prompting(eqx.Module):
    """A network, and an embedding of prompts' observations and actions that is not the history's: a step of another
    episode is not taken for one of this."""

    net: Network
    prompt: StepEmbedding


class After(eqx.Module):
    """The network after a prompt `[..., P, s + a]`, whose steps are numbered from 0 on."""

    read: Prompting
    prompt: jax.Array

    def __call__(self, to_go, observations, actions, timesteps, *, valid=None, key=None) -> jax.Array:
        parts = jnp.split(self.prompt, [observations.shape[-1]], -1)
        tokens = self.read.prompt.tokens(parts, jnp.arange(self.prompt.shape[-2]))
        before = tokens.reshape(*tokens.shape[:-3], -1, tokens.shape[-1])
        return self.read.net(to_go, observations, actions, timesteps, before=before, valid=valid, key=key)


class Carry(NamedTuple):
    """A history, and the task's prompt `[n, P, s + a]`, in the environment's units."""

    history: History
    prompt: jax.Array


@dataclass(frozen=True)
class PromptDT(Prompted, DecisionTransformer):
    """Prompt-DT: a Decision Transformer of several tasks, told the task by steps of a demonstration.

    Returns are in units of each task's own, the largest magnitude of its episodes' returns, where the paper has numbers
    chosen by hand. Of a prompt the released code also shows the returns and the steps' numbers in their episode; here
    they are numbered in the prompt, and a demonstration of one's own needs no rewards.
    """

    prompts_at_end: ClassVar[bool] = True

    name: ClassVar = "prompt-dt"
    paper: ClassVar = "Xu et al. 2022"
    needs: ClassVar[tuple[str, ...]] = ("tasks", "rewards")

    prompt_starts: Count = 1
    """Steps, the last possible ones, at which prompts begin: 1 for a demonstration's end, in training and in acting, as
    in the released code (which leaves out the last step)."""

    def prepare(self, data: Dataset, spec: Spec | None = None):
        data.require_rewards()
        known = spec or self.with_prompts(data, Spec.fit(data))
        tasks = task_numbers(data, known)
        scales = known.kept[SCALES] if spec else task_scales(data, tasks, len(task_names(known)))
        scaled = replace(data, rewards=(data.rewards / np.asarray(scales)[tasks]).astype(np.float32))
        view, fitted = super().prepare(scaled, spec)
        if spec is None:
            best = ranges_by_task(scaled.returns, tasks[data.episodes[:, 0]], len(scales))[:, 1]
            fitted = replace(fitted, kept=known.kept | {SCALES: jnp.asarray(scales), BEST_EPISODES: jnp.asarray(best)})
        return self.by_task(view, data, fitted), fitted

    def init(self, key, spec: Spec) -> PromptState:
        return PromptState(super().init(key, spec).actor, self.prompts(spec))

    def network(self, key, spec: Spec) -> Prompting:
        parts = (spec.observation_dim, spec.action_dim)
        prompt = StepEmbedding(jax.random.fold_in(key, 2), parts, self.prompt_steps, width=self.width)
        return Prompting(super().network(key, spec), prompt)

    def told(self, state: Any, net: Prompting, batch, key) -> After:
        # No number that dropout, which splits the key, can meet.
        return After(net, state.prompts.draw(jax.random.fold_in(key, 2), batch[TASK]))

    def wishes(self, spec: Spec) -> dict[str, Wish]:
        target = super().wishes(spec)["target_return"]
        about = "the episode's return, in units of the task's largest magnitude in the data; its best if not given"
        best = self.best_episodes(spec)
        return {TASK: self.task_wish(spec), "target_return": replace(target, help=about, unit="share", default=best)}

    def reset(self, spec: Spec, n: int, wishes: Wishes) -> Carry:  # type: ignore[override]  # of its own carry
        return Carry(super().reset(spec, n, wishes), jnp.asarray(wishes[TASK]))

    def rewish(self, carry: Carry, wishes: Wishes) -> Carry:  # type: ignore[override]
        """Another return of the whole episode, or another task; what was received counts as it was."""
        return Carry(super().rewish(carry.history, wishes), jnp.asarray(wishes.get(TASK, carry.prompt)))

    def act(self, state: PromptState, spec: Spec, observation, carry: Carry, feedback: Feedback, key):  # type: ignore[override]
        actor: Any = After(state.actor.params, self.in_network_units(spec, carry.prompt))
        paid = {**feedback, "reward": feedback["reward"] / self.scale_of(spec, carry.prompt)}
        shown = State(replace(state.actor, params=actor))
        action, history = super().act(shown, spec, observation, carry.history, paid, key)
        return action, Carry(history, carry.prompt)

    def scale_of(self, spec: Spec, prompt) -> jax.Array:
        """Of the rewards of the prompts' tasks, `[n]`: of a demonstration of one's own the largest of all, as its
        task's is not known."""
        scales: Any = spec.kept[SCALES]
        return self.of_tasks(spec, prompt, scales, scales.max())


def task_scales(data: Dataset, tasks: np.ndarray, count: int) -> np.ndarray:
    """The largest magnitude of the returns of each task's episodes, 1 where all are 0: float32 `[count]`. `tasks` int
    `[N]` are the steps'."""
    found = np.zeros(count)
    np.maximum.at(found, tasks[data.episodes[:, 0]], np.abs(data.returns))
    return np.where(found > 0, found, 1.0).astype(np.float32)
