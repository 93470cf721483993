"""DIPO (Yang et al. 2023, "Policy Representation via Diffusion Probability Model for Reinforcement Learning").

The actions in the replay are moved along Q's gradient, again at each visit; the diffusion policy is fitted to them.
"""

from dataclasses import dataclass, replace
from typing import ClassVar

import jax
import jax.numpy as jnp
import optax

from reverie.rl import OnlineDiffusion, OnlineState, minimum
from reverie.settings import Acting, Count, Natural, NonNegative

IMPROVED = "improved_actions"
"""The replay's column of the actions as they have been moved so far; td_target's is of those that were done."""


@dataclass(frozen=True)
class DIPO(OnlineDiffusion):
    """DIPO: stored actions climb Q, and a diffusion policy is fitted to them."""

    name: ClassVar = "dipo"
    paper: ClassVar = "Yang et al. 2023"
    copies: ClassVar = {IMPROVED: "actions"}
    writes: ClassVar = (IMPROVED,)

    critic_hidden: tuple[int, ...] = (256, 256, 256)
    """Widths of the critics' hidden layers; two of 256 in the paper's table, three in the released code."""
    gradient_clip: NonNegative = 2.0
    """Largest norm of a gradient, the actor's and the critics'; 0 for any. The released code's, whose table has 1 for
    Hopper, 0.8 for Ant, and 2 for Walker2d, HalfCheetah and Humanoid."""
    diffusion_steps: Count = 100
    """Noise levels."""
    exploring_noise: NonNegative = 0.0
    """Standard deviation of what is added to an action while data is collected."""
    step_noise: Acting[NonNegative] = 0.0
    """Of the denoising steps when it acts, in units of theirs: the released code is evaluated without (the first noise
    it draws), which may leave one of several ways. They have all of it while data is collected and in td_target."""
    action_steps: Natural = 20
    """Of Adam up Q, for each action that is drawn; with 0 the policy clones what was done."""
    action_rate: NonNegative = 0.03
    """The step size of these, in units of half the bounds' width."""
    action_clip: NonNegative = 0.3
    """Largest norm of Q's gradient by an action, for each of its dimensions (of a whole batch's, in the released
    code)."""
    accumulate: bool = True
    """Whether the moved actions replace the stored ones, as in the paper. The released code writes them
    to a copy, and begins at the action that was done at every visit."""

    @property
    def exploring(self) -> "DIPO":
        return replace(super().exploring, step_noise=1.0)

    def acted(self, net, observation, key, n: int, action_dim: int) -> jax.Array:
        return self.sample_candidates(net, observation, key, n, action_dim, noise_temperature=self.step_noise)

    def update(self, state: OnlineState, batch, key):
        next_key, actor_key = jax.random.split(key)
        critic, metrics = self.learn_q(state.critic, batch, self.next_value(state, batch, next_key))
        moved = self.climb(critic.online.params, batch["observations"], batch[IMPROVED])
        state = OnlineState(state.actor, state.slow, critic)
        state, loss = self.learn_actor(state, batch | {IMPROVED: moved}, actor_key)
        metrics |= {"diffusion_loss": loss, "moved": jnp.abs(moved - batch["actions"]).mean()}
        return state, metrics, {IMPROVED: moved if self.accumulate else batch[IMPROVED]}

    def climb(self, q, observation, actions) -> jax.Array:
        """The actions `[B, action]` moved up the smallest Q, within the bounds."""
        by = optax.adam(self.action_rate, eps=1e-5)
        gradient = jax.grad(lambda actions: minimum(q(observation, actions)).sum())
        most = self.action_clip * actions.shape[-1]

        def step(carry, _):
            actions, moments = carry
            slope = gradient(actions)
            norm = jnp.linalg.norm(slope, axis=-1, keepdims=True)
            change, moments = by.update(-slope * jnp.minimum(1.0, most / (norm + 1e-6)), moments)
            return (jnp.clip(actions + change, -1, 1), moments), None

        (actions, _), _ = jax.lax.scan(step, (actions, by.init(actions)), length=self.action_steps)
        return actions

    def actor_loss(self, net, state: OnlineState, batch, key) -> jax.Array:
        return self.process.loss(net, batch[IMPROVED], key, batch["observations"]).mean()
