"""PolyGRAD (Rigter, Yamada & Posner 2024, "World Models via Policy-Guided Trajectory Diffusion").

A diffusion model of whole windows of states, rewards and ends, told their actions, that makes trajectories of a policy
that it has never seen: while the states are denoised, the actions, which begin as noise, are moved by the gradient of
their log-probability at the states to come. Nothing is asked step after step. An actor and a critic learn from them.
"""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from reverie.data import Dataset, Spec
from reverie.diffusion import Process, sample, vp_cosine
from reverie.diffusion.hooks import inpaint
from reverie.diffusion.process import expand
from reverie.diffusion.solvers import Solver, posterior
from reverie.errors import DataError
from reverie.learning import Optimised, ema
from reverie.models import pack
from reverie.networks import ResidualMLP
from reverie.networks.layers import concatenate
from reverie.rl import Imagined, ImaginedActorCritic, Normal, NormalActor, drawn_rows
from reverie.settings import Acting, Count, Fraction, NonNegative, Positive

STRONGEST = 100.0
"""The largest strength of the policy's gradient. What is beyond the policy's variance changes nothing."""


class Model(eqx.Module):
    denoiser: Optimised
    average: ResidualMLP
    """Which imagines."""
    log_strength: jax.Array
    """Of lambda, by which the policy's gradient moves the actions."""


@dataclass(frozen=True)
class PolyGRAD(ImaginedActorCritic):
    """PolyGRAD: an actor-critic learned from trajectories that a diffusion model imagines whole, under its policy."""

    name: ClassVar = "polygrad"
    role: ClassVar[str] = "dynamics"
    paper: ClassVar = "Rigter et al. 2024"

    horizon: Count = 10
    """States of a window, all denoised at once."""
    diffusion_steps: Count = 128
    """Noise levels, each of which denoises the states and moves the actions once."""
    width: Count = 1024
    """Of the network that denoises windows."""
    blocks: Count = 6
    """Its residual blocks."""
    ema_decay: Fraction = 0.99
    """Of its average, which imagines, at each update."""
    strength: Positive = 0.005
    """Lambda, by which the gradient of the policy's log-probability moves the actions at each level; at first."""
    strength_rate: NonNegative = 3e-3
    """How fast its logarithm follows the spread of the imagined actions, that this be the policy's; 0 for a fixed
    one."""
    farthest: Positive = 3.0
    """Where the actions are kept around the policy's mean, in its standard deviations."""
    stochastic: Acting[bool] = False
    """Whether to act by a sample of the policy, as in training, or by its mean."""

    @property
    def sequence(self) -> int:
        return self.horizon

    @property
    def process(self) -> Process:
        return vp_cosine(self.diffusion_steps, prediction="x0")

    def prepare(self, data: Dataset, spec: Spec | None = None):
        longest = int(np.diff(data.episodes).max())
        if longest < self.horizon and not data.require_terminals().any():
            raise DataError(
                f"No episode holds a window of horizon {self.horizon} nor ends its task: the longest has {longest} "
                "steps; shorten the horizon."
            )
        return super().prepare(data, spec)

    # What is learned of the world.

    def init_model(self, key, spec: Spec) -> Model:
        told = self.horizon * spec.action_dim
        size = self.horizon * (spec.observation_dim + 2)
        net = ResidualMLP(key, size, told, width=self.width, blocks=self.blocks, embed_dim=max(size + told, 128))
        return Model(Optimised.create(net, self.optimiser), net, jnp.log(jnp.float32(self.strength)))

    def learn_model(self, model: Model, batch, key):
        loss_key, start_key = jax.random.split(key)
        x, known = as_windows(batch)
        size = batch["observations"].shape[-1]
        first = given(self.horizon, x.shape[-1], size)

        def loss(net):
            each = self.process.loss(
                *(self.on_windows(net), x, loss_key, batch["actions"]), mask=~first, project=inpaint(first, x)
            )
            return (known * each).sum() / jnp.maximum(known.sum(), 1)

        denoiser, error = model.denoiser.minimise(loss, self.optimiser)
        average = ema(model.average, denoiser.params, self.ema_decay)
        starts = drawn_rows(batch["observations"], batch["mask"], start_key, self.imagined)
        return Model(denoiser, average, model.log_strength), {"diffusion_loss": error}, starts

    def on_windows(self, net):
        """The network as one of windows `[B, H, observation + 2]` and actions `[B, H, action]`. These are told in the
        bounds, as an environment takes them, and fainter in more noise, as the states are."""

        def call(x, feature, actions):
            actions = jnp.clip(actions, -1, 1)
            faint = expand(self.process.alpha((jnp.asarray(feature) + 1) / self.diffusion_steps), actions) * actions
            flat = (each.reshape(*each.shape[:-2], -1) for each in (x, faint))
            return net(next(flat), feature, next(flat)).reshape(x.shape)

        return call

    def denoise(self, model: Model, x, t, actions) -> jax.Array:
        """Clean windows for noisy ones x `[B, H, observation + 2]` and their actions `[B, H, action]`."""
        return self.process.denoise(self.on_windows(model.average), x, t, actions)

    # What is imagined.

    def imagine(self, model: Model, actor: NormalActor, starts, key) -> tuple[Imagined, Model, dict[str, jax.Array]]:
        x, actions = self.windows(model, actor, starts, key)
        observations = x[..., :-2]
        policy = self.policy(actor, observations)
        away = ((actions - policy.mean) / policy.std)[:, :-1]
        log_strength = self.tuned(model.log_strength, away.std())
        metrics = {"action_std": away.std(), "action_mean": away.mean(), "strength": jnp.exp(log_strength)}
        return of_windows(x, actions), replace(model, log_strength=log_strength), metrics

    def tuned(self, log_strength, spread) -> jax.Array:
        """The logarithm of lambda after actions of this standard deviation, in the policy's: larger where it is more
        than 1."""
        return jnp.minimum(log_strength + self.strength_rate * (spread - 1), np.log(STRONGEST))

    def windows(self, model: Model, actor: NormalActor, starts, key) -> tuple[jax.Array, jax.Array]:
        """Windows `[n, H, observation + 2]` from the states `[n, observation]` on, in network units, and the actions
        `[n, H, action]` in them: what is denoised and what is moved, at the same levels."""
        n, size = starts.shape
        clean_dim, action_dim = size + 2, actor.net.layers[-1].weight.shape[-1]
        strength = jnp.exp(model.log_strength)
        shape = (n, self.horizon, clean_dim + action_dim)
        values = jnp.zeros(shape).at[:, 0, :size].set(starts)

        def denoise(x, t):
            noisy, actions = jnp.split(x, [clean_dim], -1)
            clean = self.denoise(model, noisy, t, actions).at[:, 0, :size].set(starts)
            policy = self.policy(actor, clean[..., :size])
            return concatenate(clean, self.moved(policy, actions, strength))

        def step(row, x, x0, noise, memory):
            mean, std = posterior(row, x, x0)
            return concatenate(mean[..., :clean_dim], x0[..., clean_dim:]) + std * noise, memory

        x = sample(
            *(self.process, denoise, key, shape),
            nfe=self.diffusion_steps,
            solver=Solver(step),
            project=inpaint(given(self.horizon, shape[-1], size), values),
        )
        return tuple(jnp.split(x, [clean_dim], -1))  # type: ignore[return-value]

    def moved(self, policy: Normal, actions, strength) -> jax.Array:
        """Actions `[..., action]` nearer to the policy: kept within `farthest` standard deviations, then moved by
        strength times the gradient of the log-probability, never beyond the mean."""
        reach = self.farthest * policy.std
        actions = jnp.clip(actions, policy.mean - reach, policy.mean + reach)
        gradient = jax.grad(lambda actions: policy.log_prob(actions).sum())(actions)
        return actions + jnp.minimum(strength, jnp.square(policy.std)) * gradient


def given(horizon: int, width: int, size: int) -> jax.Array:
    """Where the first state is in a window: bool `[horizon, width]`."""
    return (jnp.arange(horizon)[:, None] == 0) & (jnp.arange(width) < size)


def as_windows(batch) -> tuple[jax.Array, jax.Array]:
    """Of a batch what is denoised, `[B, H, observation + 2]`: state, reward, and 1 from the step on that ends the task
    and -1 before. And what is known of it, `[B]`: 0 where an episode was cut within it."""
    inside, ends = batch["mask"], batch["mask"] * batch["terminals"]
    ended = jax.lax.cummax(ends, 1)
    rewards = batch["rewards"] * inside
    x = concatenate(batch["observations"], rewards[..., None], 2 * ended[..., None] - 1)
    return x, jnp.maximum(inside.min(-1), ended[:, -1])


def of_windows(x, actions) -> Imagined:
    """Trajectories, of windows `[n, H, observation + 2]` and their actions `[n, H, action]`."""
    x, actions = jnp.swapaxes(x, 0, 1), jnp.swapaxes(actions, 0, 1)
    ends = (x[:-1, :, -1] > 0).astype(jnp.float32)
    return Imagined(x[..., :-2], actions[:-1], x[:-1, :, -2], ends)


def imagine(run: Any, states, seed: int | None = None, key: int = 0) -> Dataset:
    """A trajectory of `horizon` - 1 steps from each of the states `[n, observation]`, in the environment's units, under
    the run's policy, as it explores. Those that do not end their task are cut, by a timeout."""
    begun = jnp.asarray(states, jnp.float32)
    rows = jax.device_get(_imagined(run.algorithm, run.state(seed), run.spec, begun, jax.random.key(key)))
    bounds: Any = {"action_low": run.spec.action_low, "action_high": run.spec.action_high}
    name = f"imagined by {run.algorithm.name}"
    arrays: Any = pack(rows)
    return Dataset.from_arrays(**arrays, **bounds, attributes={"name": name, "synthetic": True})


@partial(jax.jit, static_argnums=0)
def _imagined(algorithm: PolyGRAD, state, spec: Spec, states, key) -> dict[str, jax.Array]:
    starts = spec.normalise("observations", states)
    imagined, *_ = algorithm.imagine(state.model, state.actor.params, starts, key)
    seen = spec.denormalise("observations", imagined.seen)
    actions = spec.denormalise("actions", jnp.clip(imagined.actions, -1, 1))
    ends = imagined.terminals > 0.5
    rows = {
        "observations": seen[:-1],
        "actions": jnp.clip(actions, spec.action_low, spec.action_high),
        "rewards": spec.denormalise("rewards", imagined.rewards[..., None])[..., 0],
        "next_observations": seen[1:],
        "terminals": ends,
        "valid": ~jnp.pad(jax.lax.cummax(ends.astype(jnp.int32), 0), ((1, 0), (0, 0)))[:-1].astype(bool),
    }
    return {name: jnp.swapaxes(each, 0, 1) for name, each in rows.items()}
