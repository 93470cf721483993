"""Critics: Q(s, a) by bootstrapping, and what all methods that learn one share."""

from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp

from reverie.data import Dataset, Gaussian, Spec
from reverie.learning import Optimised, ema, optimiser
from reverie.networks import MLP, apply_ensemble, ensemble, mish
from reverie.networks.layers import Activation, concatenate
from reverie.settings import Fraction, Limit

from .policy import StepPolicy
from .rewards import REWARDS, Rewards


class QNetwork(eqx.Module):
    """n independent Q(s, a): s `[..., observation]`, a `[..., action]` -> `[n, ...]`."""

    nets: MLP

    def __init__(
        self,
        key,
        observation_dim: int,
        action_dim: int,
        *,
        n: int = 2,
        hidden: tuple[int, ...] = (256, 256),
        activation: Activation = mish,
        layer_norm: bool = False,
    ):
        size = observation_dim + action_dim

        def make(key):
            return MLP(key, size, 1, hidden=hidden, activation=activation, layer_norm=layer_norm)

        self.nets = ensemble(make, key, n)

    def __call__(self, observation, action) -> jax.Array:
        return apply_ensemble(self.nets, concatenate(observation, action))[..., 0]

    def members(self, which) -> "QNetwork":
        """Some of them, by a slice or their numbers `[k]`: an index into all values would have the others computed."""
        return eqx.tree_at(lambda q: q.nets, self, jax.tree.map(lambda leaf: leaf[which], self.nets))

    @property
    def first(self) -> "QNetwork":
        """The first of them alone, `[1, ...]`."""
        return self.members(slice(1))


def minimum(values) -> jax.Array:
    """The smallest of the critics' values `[n, ...]`: `[...]`. To be used where it is differentiated.

    The gradient of `min` is NaN where none of the values equals the smallest, which happens when a compiler computes
    them twice and rounds differently.
    """
    return jnp.take_along_axis(values, values.argmin(0)[None], 0)[0]


def lower_bound(values, rho) -> jax.Array:
    """The mean of the critics' values `[n, ...]` less `rho` times their standard deviation: `[...]`."""
    return values.mean(0) - rho * values.std(0)


def conservatism(q: QNetwork, batch, candidates, log_density) -> jax.Array:
    """log sum exp Q over importance-weighted actions `[K, B, d]`, whose log densities are `[K, B]`, minus Q of the
    data's (Kumar et al. 2020, eq. 4); summed over the critics."""
    everywhere = jax.nn.logsumexp(q(batch["observations"], candidates) - log_density, axis=1)
    return (everywhere - q(batch["observations"], batch["actions"])).mean(-1).sum()


def magnitude(q) -> jax.Array:
    """Mean of |Q| over values of any shape, without a gradient: the unit in which a loss of an actor has Q. At least
    1e-6, so that values which are all 0 move nothing."""
    return jax.lax.stop_gradient(jnp.maximum(jnp.abs(q).mean(), 1e-6))


class Critic(eqx.Module):
    """The Q networks in training, and the slow copy that is bootstrapped from."""

    online: Optimised
    target: QNetwork


@dataclass(frozen=True)
class WithCritics(StepPolicy):
    """A policy with Q networks, however they learn."""

    needs: ClassVar[tuple[str, ...]] = ("rewards", "terminals")
    activation: ClassVar[Any] = staticmethod(jax.nn.relu)
    advice: ClassVar = (
        "Where the values explode, put the rewards on another scale (--rewards returns or --rewards standard), lower "
        "the learning rate or clip the gradients (--gradient-clip 1)."
    )

    critic_hidden: tuple[int, ...] = (256, 256)
    """Widths of the critics' hidden layers."""
    critic_layer_norm: bool = True
    """Whether the critics' hidden layers are normalised (Ba et al. 2016), which bounds what they say of actions far
    from the data's. Most papers' critics are not."""
    discount: Fraction = 0.99
    """Of a reward one step later."""
    rewards: Rewards = "raw"
    """Their scale: raw, standard (mean 0, standard deviation 1), returns (episodes' returns span 1000), minus-one
    (r - 1), antmaze (4 (r - 1/2))."""
    critics: Annotated[int, Limit(2)] = 2
    """Q networks."""

    @property
    def critic_optimiser(self):
        return optimiser(self.learning_rate, clip=self.gradient_clip or None)

    def spec(self, data: Dataset) -> Spec:
        spec = super().spec(data)
        mean, scale = REWARDS[self.rewards](data)
        rewards = Gaussian(jnp.full(1, mean, jnp.float32), jnp.full(1, scale, jnp.float32))
        return replace(spec, normalisers=spec.normalisers | {"rewards": rewards})

    def q_network(self, key, spec: Spec) -> QNetwork:
        return self.q_network_of(key, spec.observation_dim + spec.action_dim)

    def q_network_of(self, key, size: int) -> QNetwork:
        """Critics of so many numbers, an observation's and an action's together."""
        return QNetwork(
            *(key, size, 0),
            n=self.critics,
            hidden=self.critic_hidden,
            activation=self.activation,
            layer_norm=self.critic_layer_norm,
        )


@dataclass(frozen=True)
class ActorCritic(WithCritics):
    """A policy whose critics learn by bootstrapping from target critics."""

    tau: Fraction = 0.005
    """How far the target critics move towards the critics in an update."""

    def init_critic(self, key, spec: Spec) -> Critic:
        net = self.q_network(key, spec)
        return Critic(Optimised.create(net, self.critic_optimiser), net)

    @property
    def successor_discount(self) -> float:
        """Of a transition's successor."""
        return self.discount

    def learn_q(self, critic: Critic, batch, next_value, penalty=None) -> tuple[Critic, dict[str, jax.Array]]:
        """A step of every Q towards the td_target r + discount V(s'), where V `[B]` (or `[n, B]`, one a critic) is
        `next_value`, and down `penalty(q_network)` where there is one. Where a batch says which of its transitions are
        `valid`, the others do not count."""
        td_target = batch["rewards"] + self.successor_discount * (1 - batch["terminals"]) * next_value
        td_target = jax.lax.stop_gradient(td_target)

        def loss(q):
            values = q(batch["observations"], batch["actions"])
            error = (batch.get("valid", 1.0) * jnp.square(values - td_target)).mean(-1).sum()
            more = {"q_penalty": penalty(q)} if penalty else {}
            return sum(more.values(), error), {"q_loss": error} | more

        gradient, metrics = jax.grad(loss, has_aux=True)(critic.online.params)
        online = critic.online.apply(gradient, self.critic_optimiser)
        target = ema(critic.target, online.params, 1 - self.tau)
        return Critic(online, target), metrics | {"td_target": td_target.mean()}
