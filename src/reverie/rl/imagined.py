"""An actor and a critic that learn from trajectories that a model of the world imagines under the actor.

A2C (Mnih et al. 2016) with generalised advantage estimates, as PolyGRAD (Rigter et al. 2024) has it: the gradient of
the log-probability times the advantage, and none through the model. An algorithm adds the model, how it learns and how
it imagines.
"""

from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple, Self

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

from reverie.configs import Hidden
from reverie.data import Dataset, Gaussian, Spec, windows
from reverie.data.replay import Replay, WindowReplay
from reverie.errors import ReverieError
from reverie.learning import Optimised, ema, optimiser
from reverie.networks import MLP
from reverie.settings import Acting, Count, Fraction, LearningRate, NonNegative, Positive

from .actors import Normal, NormalActor
from .on_policy import advantages
from .policy import StepPolicy

TOLERANCE, RATIO, SEARCHES = 0.2, 0.8, 50
"""Of the search for a step: how far off it may end, by what it changes the step, and how often at most."""


class Imagined(NamedTuple):
    """B trajectories of H states, under the actor."""

    seen: jax.Array
    """What actor and critic see of the states, `[H, B, n]`."""
    actions: jax.Array
    """`[H - 1, B, action]`, in network units and not clipped to the bounds."""
    rewards: jax.Array
    """`[H - 1, B]`, in network units."""
    terminals: jax.Array
    """`[H - 1, B]`, 1 where a step ends the task. What comes after it does not count."""


class ValueCritic(eqx.Module):
    """V in training, and its slow copy, by which returns are judged."""

    online: Optimised
    target: MLP


class ImaginedState(eqx.Module):
    actor: Optimised
    critic: ValueCritic
    pace: jax.Array
    """Share of the optimiser's step that the actor took last."""
    model: Any
    """Of the world; the algorithm's own."""


@dataclass(frozen=True)
class ImaginedActorCritic(Hidden, StepPolicy):
    """A Gaussian policy, and V, learned from what a model imagines. An algorithm adds `sequence`, `init_model`,
    `learn_model` and `imagine`."""

    needs: ClassVar[tuple[str, ...]] = ("rewards", "terminals")

    standardise: bool = True
    """Whether the networks see observations of mean 0 and standard deviation 1."""
    critic_hidden: tuple[int, ...] = (256, 256)
    """Widths of V's hidden layers."""
    policy_layer_norm: bool = True
    """Layer norm before each ELU of the actor and of V, as in PolyGRAD's released code."""
    imagined: Count = 256
    """Trajectories imagined in an update, each from a state of the batch."""
    discount: Fraction = 0.99
    """Of a reward one step later."""
    gae_lambda: Fraction = 0.9
    """Of the generalised advantage estimate: 0 trusts V alone, 1 the imagined rewards."""
    actor_learning_rate: LearningRate = 3e-5
    """Adam's largest step size for the actor."""
    critic_learning_rate: LearningRate = 3e-4
    """Adam's step size for V."""
    policy_gradient_clip: NonNegative = 0.1
    """Largest norm of the actor's gradient, and of V's; 0 for any."""
    policy_change: NonNegative = 0.01
    """Mean change of the log-probability of the imagined actions in an update, for which the actor's step is made
    shorter, to within a fifth; 0 for the whole step."""
    entropy_weight: NonNegative = 1e-5
    """Of the policy's entropy, beside advantages of unit variance."""
    initial_std: Positive = 1.0
    """The policy's standard deviation at first, in half the bounds' width."""
    min_std: NonNegative = 0.1
    """Its smallest."""
    tau: Fraction = 0.005
    """How far V's slow copy moves towards V in an update."""
    stochastic: Acting[bool] = False
    """Whether to act by a sample of the policy, as in training, or by its mean."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.initial_std <= self.min_std:
            raise ReverieError(f"initial_std = {self.initial_std} must exceed min_std = {self.min_std}")

    @property
    def exploring(self) -> Self:
        """How it acts while it collects data."""
        return replace(self, stochastic=True)

    # The data: several steps in a row.

    @property
    def sequence(self) -> int:
        """How many steps in a row the model learns from."""
        raise NotImplementedError

    def spec(self, data: Dataset) -> Spec:
        """Rewards are divided by the root of their mean square, so that their sign and their zero stay."""
        spec = super().spec(data)
        scale = float(np.sqrt(np.square(data.require_rewards(), dtype=np.float64).mean())) or 1.0
        rewards = Gaussian(jnp.zeros(1), jnp.full(1, scale, jnp.float32))
        return replace(spec, normalisers=spec.normalisers | {"rewards": rewards})

    def prepare(self, data: Dataset, spec: Spec | None = None):
        """Batches of `sequence` steps in a row, `[B, sequence, ...]`; beyond an episode's end its last stands, and
        `mask` is 0."""
        self.check_needs(data)
        spec = spec or self.spec(data)
        columns = ("observations", "actions", "rewards", "terminals")
        return windows(data, spec, self.sequence, pad="edge", columns=columns), spec

    def online_view(self, replay: Replay) -> WindowReplay:
        """What batches are drawn from online."""
        return WindowReplay(replay, self.sequence)

    # The model.

    def init_model(self, key, spec: Spec) -> Any:
        raise NotImplementedError

    def learn_model(self, model, batch, key) -> tuple[Any, dict[str, jax.Array], Any]:
        """One step of the model: itself, metrics, and `imagined` states to begin from `[imagined, ...]`."""
        raise NotImplementedError

    def imagine(self, model, actor: NormalActor, starts, key) -> tuple[Imagined, Any, dict[str, jax.Array]]:
        """Trajectories from the starts under the actor, the model after it, and metrics."""
        raise NotImplementedError

    def seen_dim(self, spec: Spec) -> int:
        """How many numbers actor and critic see of a state."""
        return spec.observation_dim

    # The policy.

    def init(self, key, spec: Spec) -> ImaginedState:
        actor_key, critic_key, model_key = jax.random.split(key, 3)
        size = self.seen_dim(spec)
        body: Any = {"activation": jax.nn.elu, "layer_norm": self.policy_layer_norm}
        actor = NormalActor(actor_key, size, spec.action_dim, hidden=self.hidden, **body)
        log_std = jnp.full(spec.action_dim, np.log(self.initial_std - self.min_std), jnp.float32)
        actor = eqx.tree_at(lambda actor: actor.log_std, actor, log_std)
        v = MLP(critic_key, size, 1, hidden=self.critic_hidden, **body)
        actor_rate, critic_rate = self.policy_optimisers
        critic = ValueCritic(Optimised.create(v, critic_rate), v)
        model = self.init_model(model_key, spec)
        return ImaginedState(Optimised.create(actor, actor_rate), critic, jnp.ones(()), model)

    @property
    def policy_optimisers(self) -> tuple[optax.GradientTransformation, optax.GradientTransformation]:
        """The actor's and V's."""
        clip = self.policy_gradient_clip or None
        return optimiser(self.actor_learning_rate, clip=clip), optimiser(self.critic_learning_rate, clip=clip)

    def policy(self, actor: NormalActor, seen) -> Normal:
        """Of what is seen `[..., n]`: a Gaussian over actions `[..., action]`, in network units."""
        drawn = actor(seen)
        return Normal(drawn.mean, drawn.std + self.min_std)

    def update(self, state: ImaginedState, batch, key) -> tuple[ImaginedState, dict[str, jax.Array]]:
        model_key, imagine_key = jax.random.split(key)
        model, metrics, starts = self.learn_model(state.model, batch, model_key)
        imagined, model, told = self.imagine(model, state.actor.params, starts, imagine_key)
        state, more = self.learn_policy(replace(state, model=model), imagined)
        return state, metrics | told | more

    def learn_policy(self, state: ImaginedState, imagined: Imagined) -> tuple[ImaginedState, dict[str, jax.Array]]:
        """A step up the log-probabilities times the advantages, and one of V towards the returns."""
        gains, targets = self.judged(state.critic.target, imagined)
        weight = alive(imagined.terminals)
        weight /= weight.sum()
        mean = (weight * gains).sum()
        std = jnp.sqrt((weight * jnp.square(gains - mean)).sum())
        scaled = (gains - mean) / (std + 1e-8)
        seen = imagined.seen[:-1]

        def actor_loss(actor):
            policy = self.policy(actor, seen)
            entropy = jnp.log(policy.std).sum(-1)  # but for a constant
            return -(weight * (policy.log_prob(imagined.actions) * scaled + self.entropy_weight * entropy)).sum()

        def critic_loss(v):
            return (weight * jnp.square(v(seen)[..., 0] - targets)).sum() / 2

        loss, gradient = jax.value_and_grad(actor_loss)(state.actor.params)
        actor, pace, change = self.paced(state.actor, gradient, state.pace, seen, imagined.actions, weight)
        online, error = state.critic.online.minimise(critic_loss, self.policy_optimisers[1])
        critic = ValueCritic(online, ema(state.critic.target, online.params, 1 - self.tau))
        metrics = {
            "actor_loss": loss,
            "v_loss": error,
            "policy_change": change,
            "pace": pace,
            "imagined_reward": (weight * imagined.rewards).sum(),
            "imagined_ends": imagined.terminals.mean(),
            "policy_std": self.policy(actor.params, seen).std.mean(),
        }
        return ImaginedState(actor, critic, pace, state.model), metrics

    def judged(self, v, imagined: Imagined) -> tuple[jax.Array, jax.Array]:
        """Advantages and returns of the imagined steps by `v`, `[H - 1, B]` both."""
        values = v(imagined.seen)[..., 0]
        gains = advantages(
            *(imagined.rewards, values[:-1], values[1:], imagined.terminals, jnp.zeros_like(imagined.terminals)),
            discount=self.discount,
            trace=self.gae_lambda,
        )
        return gains, gains + values[:-1]

    def paced(self, actor: Optimised, gradient, pace, seen, actions, weight) -> tuple[Optimised, jax.Array, jax.Array]:
        """The actor after such a share of the optimiser's step that its log-probabilities change by `policy_change`,
        or after the whole of it if they change less; the share, and the change."""
        step, moments = self.policy_optimisers[0].update(gradient, actor.moments, actor.params)
        before = self.policy(actor.params, seen).log_prob(actions)

        def after(pace):
            return optax.apply_updates(actor.params, jax.tree.map(lambda leaf: pace * leaf, step))

        def change(pace):
            return (weight * jnp.abs(self.policy(after(pace), seen).log_prob(actions) - before)).sum()

        if not self.policy_change:
            return Optimised(after(1.0), moments), jnp.ones(()), change(1.0)

        def off(carry):
            pace, changed, count = carry
            ratio = changed / self.policy_change
            longest = (ratio < 1) & (pace >= 1)
            return (jnp.abs(ratio - 1) > TOLERANCE) & ~longest & (count < SEARCHES)

        def search(carry):
            pace, changed, count = carry
            pace = jnp.where(changed > self.policy_change, pace * RATIO, jnp.minimum(pace / RATIO, 1.0))
            return pace, change(pace), count + 1

        pace, changed, _ = jax.lax.while_loop(off, search, (pace, change(pace), jnp.zeros((), jnp.int32)))
        return Optimised(after(pace), moments), pace, changed

    def choose(self, state: ImaginedState, spec: Spec, observation, key):
        policy = self.policy(state.actor.params, observation)
        return policy.sample(key) if self.stochastic else policy.mean


def alive(terminals) -> jax.Array:
    """1 for the steps up to the first that ends the task, with it, `[H - 1, B]`; 0 after it."""
    return jnp.concatenate([jnp.ones_like(terminals[:1]), jnp.cumprod(1 - terminals, 0)[:-1]])


def drawn_rows(rows: Any, inside, key, n: int) -> Any:
    """n of the rows `[B, H, ...]` (an array, or a tree of these) that are `inside` (1 or 0, `[B, H]`): `[n, ...]`."""
    size = inside.size
    index = jax.random.choice(key, size, (n,), p=inside.reshape(-1) / inside.sum())
    return jax.tree.map(lambda x: x.reshape(size, *x.shape[2:])[index], rows)
