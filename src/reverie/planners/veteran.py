"""Diffusion Veteran (Lu, Han, Shen & Li 2025, "What Makes a Good Diffusion Planner for Decision Making?").

A transformer denoises windows of states, several environment steps apart, from the current one. Nothing is guided: of
several plans a critic chooses the best, and another diffusion model finds the action that leads to its next row.
"""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp

from reverie.configs import SolverName
from reverie.data import Dataset, Gaussian, MinMax, Spec, rewards_to_go, windows
from reverie.diffusion import Process, vp_linear
from reverie.errors import ReverieError
from reverie.learning import Optimised, ema, where_due
from reverie.networks import WindowCritic, WindowTransformer
from reverie.planning import DiffusionInverseDynamics, WindowPlanner, best_plans
from reverie.protocols import Feedback
from reverie.settings import Acting, Count, Fraction, LearningRate, Natural, NonNegative
from reverie.wishes import Wishes


class State(eqx.Module):
    """The networks in training, and the averages that act."""

    denoiser: Optimised
    denoiser_ema: WindowTransformer
    critic: Optimised
    inverse: Optimised
    inverse_ema: DiffusionInverseDynamics
    step: jax.Array


@dataclass(frozen=True)
class DiffusionVeteran(WindowPlanner):
    """Diffusion Veteran: the best of several unguided plans of states, followed by an inverse dynamics."""

    name: ClassVar = "diffusion-veteran"
    paper: ClassVar = "Lu et al. 2025"
    needs: ClassVar = ("rewards",)
    parts: ClassVar = ("observations",)

    horizon: Count = 4
    """Rows of a window, at least 2."""
    width: Count = 256
    """Of the transformers' embeddings."""
    heads: Count = 8
    """Of attention; twice as many divide the width."""
    depth: Count = 2
    """Layers of the denoiser."""
    critic_depth: Count = 2
    """Layers of the critic."""
    inverse_hidden: tuple[int, ...] = (256, 256, 256)
    """Widths of the inverse dynamics' hidden layers."""
    inverse_steps: Count = 10
    """Noise levels of the inverse dynamics, and its evaluations for an action."""
    diffusion_steps: Count = 20
    """Evaluations of the denoiser for a plan where `nfe` is 0; noise levels are continuous."""
    discount: Fraction = 0.997
    """Discount of the rewards to go that the critic learns."""
    termination_penalty: float = -100.0
    """Added to the last reward of an episode that ends by a terminal."""
    critic_updates: Natural = 200_000
    """Updates after which the critic learns no more: the released code chooses by its critic of then, before it knows
    the returns of its windows by heart."""
    return_weight: NonNegative = 0.0
    """Windows weigh exp(return_weight (R - 1)) in the denoiser's loss, R the return in [-1, 1]; 0 for all alike."""
    learning_rate: LearningRate = 3e-4
    """Adam's step size."""
    batch_size: Count = 128
    """Windows an update."""
    ema_decay: Fraction = 0.9999
    """Of the denoiser's average, at each of its steps."""
    ema_every: Count = 1
    """Updates between two steps of the average."""
    inverse_ema_decay: Fraction = 0.995
    """Of the inverse dynamics' average, which moves in every update."""
    solver: Acting[SolverName] = "ddim"
    """How plans are denoised: a name from reverie.diffusion.SOLVERS."""
    candidates: Acting[Count] = 50
    """Plans an observation; the one that the critic likes best is followed."""
    action_temperature: Acting[NonNegative] = 0.5
    """Scale of the noise that an action is denoised from."""

    def __post_init__(self):
        super().__post_init__()
        if self.horizon < 2:
            raise ReverieError(f"horizon = {self.horizon}, but a plan needs a row to go to; give at least 2")
        if self.warm_start_steps:
            raise ReverieError(
                f"warm_start_steps = {self.warm_start_steps} has no last plan to start from: diffusion-veteran plans "
                "anew at every step; leave it at 0"
            )

    @property
    def process(self) -> Process:
        return vp_linear()

    def prepare(self, data: Dataset, spec: Spec | None = None):
        if spec is None:
            spec = Spec.fit(data, observations=Gaussian)
            returns = rewards_to_go(data, self.discount, self.termination_penalty)[:, None]
            units = {"returns": MinMax.fit(returns), "actions": MinMax(spec.action_low, spec.action_high)}
            spec = replace(spec, normalisers=spec.normalisers | units)
        view = windows(
            *(data, spec, self.horizon, self.stride),
            pad="edge",
            discount=self.discount,
            termination_penalty=self.termination_penalty,
        )
        return view, spec

    def network(self, key, spec: Spec) -> WindowTransformer:
        return WindowTransformer(key, spec.observation_dim, width=self.width, heads=self.heads, depth=self.depth)

    def init(self, key, spec: Spec) -> State:
        key, critic_key, inverse_key = jax.random.split(key, 3)
        sizes = (spec.observation_dim, spec.action_dim)
        net = self.network(key, spec)
        critic = WindowCritic(critic_key, sizes[0], width=self.width, heads=self.heads, depth=self.critic_depth)
        inverse = DiffusionInverseDynamics(inverse_key, *sizes, hidden=self.inverse_hidden, steps=self.inverse_steps)
        learners = [Optimised.create(each, self.optimiser) for each in (net, critic, inverse)]
        return State(learners[0], net, learners[1], learners[2], inverse, jnp.zeros((), jnp.int32))

    def update(self, state: State, batch, key):
        plan_key, action_key = jax.random.split(key)
        states, returns = batch["observations"], batch["returns"]
        importance = jnp.exp(self.return_weight * (returns - 1))
        denoiser, loss = state.denoiser.minimise(
            lambda net: self.denoising_loss(net, batch, plan_key, importance=importance), self.optimiser
        )

        def learn(kept):
            return kept[0].minimise(lambda net: jnp.square(net(states) - returns).mean(), self.optimiser)

        due, kept = state.step < self.critic_updates, (state.critic, jnp.zeros(()))
        critic, critic_loss = where_due(due, learn, kept)
        inverse, inverse_loss = state.inverse.minimise(
            lambda net: net.loss(states, batch["actions"], action_key, batch["mask"]), self.optimiser
        )
        averages = (
            self.averaged(state.denoiser_ema, denoiser.params, state.step),
            ema(state.inverse_ema, inverse.params, self.inverse_ema_decay),
        )
        metrics = {"diffusion_loss": loss, "critic_loss": critic_loss, "inverse_loss": inverse_loss}
        return State(denoiser, averages[0], critic, inverse, averages[1], state.step + 1), metrics

    def reset(self, spec: Spec, n: int, wishes: Wishes) -> tuple:
        return ()

    def act(self, state: State, spec: Spec, observation, carry, feedback: Feedback, key):
        """The action that leads to the next row of the best of several plans, which are made anew at every step."""
        plan_key, action_key = jax.random.split(key)
        rows = self.plan(state, spec, observation, plan_key)
        action = state.inverse_ema.sample(rows[:, 0], rows[:, 1], action_key, temperature=self.action_temperature)
        return spec.denormalise("actions", action), carry

    def plan(self, state: State, spec: Spec, observation, key) -> jax.Array:
        """The best plans `[n, H, observation]`, in network units, for observations `[n, observation]`."""
        values: Any = jnp.repeat(self.observed(spec, observation)[:, None], self.candidates, 1)
        mask = self.inpaint_mask(self.horizon, self.blocks(spec))
        denoiser = self.process.denoiser(state.denoiser_ema)
        plans = self.denoise(denoiser, key, values, mask, **self.begun(spec, values, mask))
        return best_plans(plans, state.critic.params(plans))
