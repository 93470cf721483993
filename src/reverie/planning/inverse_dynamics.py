"""Actions from states: what a planner of states alone executes its plans by (Ajay et al. 2023, section 4.2)."""

import equinox as eqx
import jax
import jax.numpy as jnp

from reverie.diffusion import Process, sample, vp_diffusion_ql
from reverie.networks import MLP, DenoisingMLP
from reverie.networks.layers import concatenate


class InverseDynamics(eqx.Module):
    """The action that leads from s to s': `[..., observation]`, `[..., observation] -> [..., action]`."""

    net: MLP
    target_dim: int = eqx.field(static=True)
    """Columns of s' that are told, the first."""

    def __init__(
        self,
        key,
        observation_dim: int,
        action_dim: int,
        *,
        hidden: tuple[int, ...] = (256, 256),
        target_dim: int | None = None,
    ):
        self.target_dim = observation_dim if target_dim is None else target_dim
        self.net = MLP(key, observation_dim + self.target_dim, action_dim, hidden=hidden, activation=jax.nn.relu)

    def __call__(self, observation, next_observation) -> jax.Array:
        return self.net(concatenate(observation, next_observation))

    def loss(self, observations, actions, mask=None) -> jax.Array:
        """Mean squared error over all pairs of rows of windows `[..., H, observation]`, with the actions
        `[..., H, action]` of their first rows; `mask` `[..., H]` is 1 in the episode. A scalar."""
        targets = observations[..., 1:, : self.target_dim]
        error = jnp.square(self(observations[..., :-1, :], targets) - actions[..., :-1, :]).mean(-1)
        return mean_of_pairs(error, mask)


class DiffusionInverseDynamics(eqx.Module):
    """A diffusion model of the actions, in [-1, 1], that lead from s to s' (Lu et al. 2025): where several do, each of
    them at times, and not their mean."""

    net: DenoisingMLP
    action_dim: int = eqx.field(static=True)
    steps: int = eqx.field(static=True)
    """Noise levels, and evaluations of the network for an action."""

    def __init__(
        self, key, observation_dim: int, action_dim: int, *, hidden: tuple[int, ...] = (256, 256, 256), steps: int = 10
    ):
        self.net = DenoisingMLP(key, action_dim, 2 * observation_dim, hidden=hidden)
        self.action_dim, self.steps = action_dim, steps

    @property
    def process(self) -> Process:
        return vp_diffusion_ql(self.steps)

    def loss(self, observations, actions, key, mask=None) -> jax.Array:
        """The denoising loss over all pairs of rows of windows, given as to `InverseDynamics.loss`. A scalar."""
        pairs = concatenate(observations[..., :-1, :], observations[..., 1:, :])
        taken = actions[..., :-1, :]
        flat = [x.reshape(-1, x.shape[-1]) for x in (taken, pairs)]
        error = self.process.loss(self.net, flat[0], key, flat[1]).reshape(taken.shape[:-1])
        return mean_of_pairs(error, mask)

    def sample(self, observation, next_observation, key, *, temperature: float = 1.0) -> jax.Array:
        """Actions `[..., action]` from states to states `[..., observation]`, by DDPM; the noise that it begins with is
        scaled by the temperature."""
        pair = concatenate(observation, next_observation)
        return sample(
            *(self.process, self.process.denoiser(self.net, pair), key, (*pair.shape[:-1], self.action_dim)),
            nfe=self.steps,
            clip_x0=(-1, 1),
            temperature=temperature,
        )


def mean_of_pairs(error, mask=None) -> jax.Array:
    """Of errors `[..., H - 1]`, a pair of rows each, where both rows are in the episode: `mask` `[..., H]` is 1."""
    if mask is None:
        return error.mean()
    valid = mask[..., 1:] * mask[..., :-1]
    return (valid * error).sum() / jnp.maximum(valid.sum(), 1)
