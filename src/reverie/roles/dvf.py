"""DVF (Mazoure, Talbott, Bautista, Hjelm, Toshev & Susskind 2023, "Value function estimation using conditional
diffusion models for control").

A diffusion model of the state some steps later, given a state (and an action), and a model of the reward of a state.
The value is the mean reward of futures drawn with the discount's offsets, divided by 1 - discount: nothing is
bootstrapped. To act, the best by that value of actions that a diffusion model of the behaviour draws.
"""

from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

from reverie.configs import EMA
from reverie.data import Dataset, Gaussian, Spec, futures, geometric_offsets, longest_offset
from reverie.diffusion import Process, edm, sample
from reverie.learning import Optimised
from reverie.networks import MLP, DenoisingMLP, LayerNormResNet
from reverie.networks.layers import concatenate
from reverie.rl import DiscreteDiffusionActor, select
from reverie.settings import Acting, Count, Fraction, Limit, Natural


class State(eqx.Module):
    behaviour: Optimised
    future: Optimised
    future_ema: LayerNormResNet
    """Of the model of futures, which is asked for them."""
    reward: Optimised
    survival: Optimised
    step: jax.Array


@dataclass(frozen=True)
class DVF(EMA, DiscreteDiffusionActor):
    """DVF: values as the mean reward of future states that a diffusion model draws."""

    name: ClassVar = "dvf"
    role: ClassVar[str] = "value"
    paper: ClassVar = "Mazoure et al. 2023"
    needs: ClassVar[tuple[str, ...]] = ("rewards", "terminals")

    standardise: bool = True
    """Whether the networks see observations of mean 0 and standard deviation 1, of which the process of the futures
    takes them to be."""
    discount: Annotated[float, Limit(0.01, 0.9999)] = 0.99
    """Of a reward one step later."""
    hidden: tuple[int, ...] = (256, 256, 256)
    """Widths of the hidden layers of the behaviour, of the rewards and of the survival."""
    width: Count = 256
    """Of the network of the futures."""
    blocks: Count = 3
    """Its residual blocks."""
    action_dropout: Fraction = 0.2
    """Share of the futures that are learned without the action, for the values of states."""
    ema_start: Natural = 1000
    """Updates during which the average is a copy."""
    candidates: Acting[Count] = 8
    """Actions drawn to act; the best by its value is taken."""
    draws: Acting[Count] = 32
    """Futures drawn for a value; the candidates of one state share their offsets and noise."""
    future_nfe: Acting[Count] = 8
    """Network function evaluations (NFE) for a future."""

    # What is learned.

    @property
    def future_process(self) -> Process:
        """Along which states are denoised; standardised ones."""
        return edm(sigma_data=1.0)

    def spec(self, data: Dataset) -> Spec:
        spec = super().spec(data)
        kept = {"longest_offset": jnp.array([longest_offset(data, self.discount)])}
        rewards = data.require_rewards()
        kept["reward_range"] = jnp.array([rewards.min(), rewards.max()])
        units = {"rewards": Gaussian.fit(rewards[:, None])}
        return replace(spec, normalisers=spec.normalisers | units, kept=kept)

    def prepare(self, data: Dataset, spec: Spec | None = None):
        data.require_rewards(), data.require_terminals()
        spec = spec or self.spec(data)
        return futures(data, spec, self.discount, int(spec.kept["longest_offset"][0])), spec

    def network(self, key, spec: Spec):
        return DenoisingMLP(key, spec.action_dim, spec.observation_dim, hidden=self.hidden)

    def init(self, key, spec: Spec) -> State:
        keys, told = jax.random.split(key, 4), spec.observation_dim + spec.action_dim + 1
        sizes, size = {"width": self.width, "blocks": self.blocks, "rate": 0.0}, spec.observation_dim
        future = LayerNormResNet(keys[1], size, told + 2, **sizes)  # type: ignore[arg-type]
        nets = (
            self.network(keys[0], spec),
            future,
            MLP(keys[2], told, 1, hidden=self.hidden),
            MLP(keys[3], told + 2, 1, hidden=self.hidden),
        )
        behaviour, learned, reward, survival = (Optimised.create(net, self.optimiser) for net in nets)
        return State(behaviour, learned, future, reward, survival, jnp.zeros((), jnp.int32))

    def update(self, state: State, batch, key):
        keys, by = jax.random.split(key, 3), self.optimiser
        pair = batch["observations"], batch["actions"]
        given = jax.random.bernoulli(keys[0], 1 - self.action_dropout, batch["offsets"].shape)
        when = told(*pair, given), offset_features(batch["offsets"], self.discount)

        def denoising_loss(net):
            error = self.future_process.loss(net, batch["futures"], keys[1], when)
            return (batch["weights"] * batch["alive"] * error).mean()

        def reward_loss(net):
            errors = [jnp.square(net(told(*pair, given))[..., 0] - batch["rewards"]) for given in (0.0, 1.0)]
            return errors[0].mean() + errors[1].mean()

        def survival_loss(net):
            logit = net(concatenate(*when))[..., 0]
            return (batch["weights"] * optax.sigmoid_binary_cross_entropy(logit, batch["alive"])).mean()

        future, future_error = state.future.minimise(denoising_loss, by)
        reward, reward_error = state.reward.minimise(reward_loss, by)
        survival, survival_error = state.survival.minimise(survival_loss, by)
        behaviour, error = state.behaviour.minimise(lambda net: self.denoising_loss(net, batch, keys[2]).mean(), by)
        average = self.averaged(state.future_ema, future.params, state.step)
        metrics = {"future_loss": future_error, "reward_loss": reward_error, "survival_loss": survival_error}
        state = State(behaviour, future, average, reward, survival, state.step + 1)
        return state, metrics | {"diffusion_loss": error}

    # What it is asked for.

    def future(self, state: State, spec: Spec, known, offsets, noise) -> tuple[jax.Array, jax.Array]:
        """States `[..., observation]` in network units at `offsets` `[...]` from what is `known` `[..., told]`, by
        noise of their shape; and the probabilities that the task has not ended by then, `[...]`."""
        when = known, offset_features(offsets, self.discount)
        states = sample(
            *(self.future_process, self.future_denoiser(state, when), jax.random.key(0), noise.shape),
            nfe=self.future_nfe,
            solver="dpm++2m",  # of which the initial noise is all that is random
            noise=noise,
        )
        return states, jax.nn.sigmoid(state.survival.params(concatenate(*when))[..., 0])

    def future_denoiser(self, state: State, when):
        """(x_t, t) -> x0_hat of future states, given `when`: what is known, and the offsets' features."""
        return self.future_process.denoiser(state.future_ema, when)

    def drawn(self, spec: Spec, key, draws: int, shape: tuple[int, ...] = ()) -> tuple[jax.Array, jax.Array]:
        """Offsets `[*shape, draws]`, one from each part of their distribution, and noise `[*shape, draws, obs]`."""
        offset_key, noise_key = jax.random.split(key)
        uniform = (jnp.arange(draws) + jax.random.uniform(offset_key, (*shape, draws))) / draws
        offsets = geometric_offsets(self.discount, spec.kept["longest_offset"][0], uniform)
        return offsets, jax.random.normal(noise_key, (*shape, draws, spec.observation_dim))

    def reward(self, state: State, spec: Spec, known) -> jax.Array:
        """Of what is `known` `[..., told]`, within the range of the data's: `[...]`, in the data's units."""
        return jnp.clip(spec.denormalise("rewards", state.reward.params(known))[..., 0], *spec.kept["reward_range"])

    def returns(self, state: State, spec: Spec, observations, actions, key) -> jax.Array:
        """Q of several actions `[n, N, action]` of each observation `[n, observation]`, both in network units; V, where
        there are none, of which N is 1: `[n, N]`, in the data's units.

        The reward now is the model's for the state and the action, and only those from the next step on are drawn:
        Q = r(s, a) + discount / (1 - discount) E[alive r(s_k)]. What is beyond the `longest_offset` counts as what is
        drawn.
        """
        now = observations[:, None]
        known = told_alone(now, spec.action_dim) if actions is None else told(now, actions, 1.0)
        offsets, noise = self.drawn(spec, key, self.draws, (len(observations), 1))
        shape = (*known.shape[:-1], self.draws)
        given = jnp.broadcast_to(known[..., None, :], (*shape, known.shape[-1]))
        states, alive = self.future(
            state, spec, given, jnp.broadcast_to(offsets, shape), jnp.broadcast_to(noise, (*shape, noise.shape[-1]))
        )
        later = self.reward(state, spec, told_alone(states, spec.action_dim))
        return self.reward(state, spec, known) + self.discount / (1 - self.discount) * (alive * later).mean(-1)

    def value(self, state: State, spec: Spec, observations, actions, key) -> jax.Array:
        """Q of actions `[n, action]`, or V where they are None, of observations `[n, observation]`, all in the
        environment's units: `[n]`."""
        actions = None if actions is None else spec.normalise("actions", actions)[:, None]
        return self.returns(state, spec, spec.normalise("observations", observations), actions, key)[:, 0]

    def future_states(self, state: State, spec: Spec, observations, actions, key, draws: int):
        """Of each observation `[n, observation]` and action `[n, action]` (or None) so many states some steps later
        `[n, draws, observation]`, all in the environment's units, how many steps later `[n, draws]`, and with which
        probability the task has not ended by then `[n, draws]`."""
        seen = spec.normalise("observations", observations)
        alone = actions is None
        known = told_alone(seen, spec.action_dim) if alone else told(seen, spec.normalise("actions", actions), 1.0)
        known = known[:, None]
        offsets, noise = self.drawn(spec, key, draws, (len(seen),))
        given = jnp.broadcast_to(known, (*offsets.shape, known.shape[-1]))
        states, alive = self.future(state, spec, given, offsets, noise)
        return spec.denormalise("observations", states), offsets, alive

    def choose(self, state: State, spec: Spec, observation, key):
        draw_key, value_key = jax.random.split(key)
        size = spec.action_dim
        actions = self.sample_candidates(state.behaviour.params, observation, draw_key, self.candidates, size)
        if self.candidates == 1:
            return actions[:, 0]
        return select(actions, self.returns(state, spec, observation, actions, value_key))


def offset_features(offsets, discount: float) -> jax.Array:
    """Of offsets `[...]` what networks see, between 0 and 1: `[..., 2]`."""
    offsets = jnp.asarray(offsets, jnp.float32)
    return jnp.stack([jnp.log(offsets) / (1 - jnp.log(1 - discount)), discount**offsets], -1)


def told(observations, actions, given) -> jax.Array:
    """Observations beside actions where these are `given` (1, or 0: zeros instead), and whether they are:
    `[..., observation + action + 1]`."""
    mark = jnp.broadcast_to(jnp.asarray(given, jnp.float32), actions.shape[:-1])[..., None]
    return concatenate(observations, actions * mark, mark)


def told_alone(observations, action_dim: int) -> jax.Array:
    """As `told` of observations without actions."""
    return told(observations, jnp.zeros((*observations.shape[:-1], action_dim)), 0.0)


def values(run: Any, observations, actions=None, seed: int | None = None, key: int = 0) -> np.ndarray:
    """Q of a run's observations `[n, observation]` and actions `[n, action]`, or V without actions, in the
    environment's units: `[n]`."""
    rows = 256
    state, spec = run.state(seed), run.spec
    given = (np.asarray(each, np.float32) for each in (observations, actions) if each is not None)
    pieces = zip(*(np.split(each, range(rows, len(each), rows)) for each in given), strict=True)
    made = (
        _value(run.algorithm, state, spec, piece, jax.random.fold_in(jax.random.key(key), number))
        for number, piece in enumerate(pieces)
    )
    return np.concatenate([np.asarray(each) for each in made])


@partial(jax.jit, static_argnums=0)
def _value(algorithm: DVF, state: State, spec: Spec, given: Any, key) -> jax.Array:
    return algorithm.value(state, spec, given[0], given[1] if len(given) > 1 else None, key)
