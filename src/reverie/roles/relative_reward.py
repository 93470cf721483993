"""Relative rewards (Nuti, Franzmeyer & Henriques 2023, "Extracting Reward Functions from Diffusion Models").

Two diffusers of one space, a base and an expert: what has the expert in mind that the base has not? A network of a
noisy window whose gradient is the difference of the two models' posterior means, learned where the base's chain goes.
It says of a window how much more like the expert's it is, and leads the base, whose network stays as it was.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, Self

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from reverie.data import Dataset, Gaussian, Spec, windows
from reverie.data.blocks import Blocks
from reverie.data.fields import describe
from reverie.data.normalisers import first_apart
from reverie.diffusion import Process, inpaint
from reverie.diffusion.process import expand
from reverie.diffusion.solvers import transition
from reverie.errors import RunError
from reverie.learning import Optimised
from reverie.networks import NoisyValue, TemporalUNet
from reverie.planning.windows import UNetWindows, WindowDiffusion
from reverie.protocols import Feedback
from reverie.settings import Acting, Count, Natural, NonNegative
from reverie.wishes import Wish, Wishes

ALIKE = ("parts", "horizon", "stride", "diffusion_steps", "width", "multipliers", "attention")
"""What the two planners, and the reward of their windows, must have in common."""


class WindowReward(eqx.Module):
    """A reward of a noisy window, through an MLP of all of it: `[..., H, D] -> [...]`."""

    # The paper's network is half a U-Net, whose second derivatives a CPU compiles for minutes.
    net: NoisyValue

    def __call__(self, x, t):
        return self.net(x.reshape(*x.shape[:-2], -1), t)


class State(eqx.Module):
    reward: Optimised
    reward_ema: WindowReward
    """Its average, which leads."""
    base: TemporalUNet
    """The two planners' networks, which stay as they are."""
    expert: TemporalUNet
    step: jax.Array


@dataclass(frozen=True)
class RelativeReward(UNetWindows):
    """Relative reward: what an expert's diffuser wants that a base's does not, as a function of a window."""

    name: ClassVar = "relative-reward"
    role: ClassVar[str] = "reward"
    paper: ClassVar = "Nuti et al. 2023"
    needs: ClassVar[tuple[str, ...]] = ("two runs of diffuser",)
    begins_from: ClassVar[str] = "pair_runs(base, expert), two runs of diffuser"
    """Without which there is nothing to learn."""

    batch_size: Count = 128
    """Windows an update."""
    hidden: tuple[int, ...] = (256, 256)
    """Widths of the reward network's hidden layers."""
    penalty: NonNegative = 1e-5
    """Of the reward's square, which its gradient leaves open but for a constant."""
    weighting: Literal["x0", "mean"] = "x0"
    """In which units the gradient's errors count: of the clean windows, or of the posterior means, as in the paper,
    which hardly move at the high noise levels, where plans part."""
    padding: Literal["zeros", "edge"] = "zeros"
    """What stands beyond an episode's end in the windows that are learned from, as in the planners' own."""

    @classmethod
    def like(cls, planner: Any, **settings: Any) -> Self:
        """With a planner's sizes of windows and networks."""
        known = {name: getattr(planner, name) for name in ALIKE if name != "parts"}
        return cls(**known | settings)

    def prepare(self, data: Dataset, spec: Spec | None = None):
        spec = spec or Spec.fit(data, observations=Gaussian, actions=Gaussian)
        columns = ("observations", "actions")
        return windows(data, spec, self.horizon, self.stride, pad=self.padding, columns=columns), spec

    def reward_network(self, key, spec: Spec) -> Any:
        """What is trained: `net(x, time feature)`, `[..., H, D] -> [...]`."""
        return WindowReward(NoisyValue(key, self.horizon * self.blocks(spec).size, hidden=self.hidden))

    def init(self, key, spec: Spec) -> State:
        keys = jax.random.split(key, 3)
        base, expert = (self.network(key, spec) for key in keys[1:])
        return self.begun(keys[0], spec, base, expert)

    def init_from(self, key, spec: Spec, other: Any, state: Any) -> State:
        pair = other.algorithm
        if not isinstance(pair, Pair):
            raise RunError(f"{self.name} begins from {self.begins_from}, and this one is of {pair.name}.")
        for field in ALIKE:
            mine, theirs = getattr(self, field), getattr(pair.planner, field)
            if mine != theirs:
                raise RunError(
                    f"{field} = {mine} of {self.name} is {theirs} in the runs; use RelativeReward.like(run.algorithm)."
                )
        return self.begun(key, spec, *(each.denoiser_ema for each in state))

    def begun(self, key, spec: Spec, base, expert) -> State:
        net = self.reward_network(key, spec)
        return State(Optimised.create(net, self.optimiser), net, base, expert, jnp.zeros((), jnp.int32))

    def update(self, state: State, batch, key):
        blocks = Blocks.like(batch, self.parts)
        x = blocks.join(batch)
        mask = self.inpaint_mask(x.shape[-2], blocks)
        reward, metrics = self.learn(state.reward, *self.aims(state, x, mask, key), mask)
        average = self.averaged(state.reward_ema, reward.params, state.step)
        state = replace(state, reward=reward, reward_ema=average, step=state.step + 1)
        return state, metrics

    def aims(self, state: State, x, mask, key) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Of windows x `[B, H, D]`, noised: the base's posterior means, where the gradient is asked for, the times
        `[B]`, and how far the expert's are from there, which it is to be."""
        hold, (noisy, t, _) = inpaint(mask, x), self.process.noised(key, x)
        noisy = hold(noisy, t)
        base, expert = (self.process.denoise(net, noisy, t) for net in (state.base, state.expert))
        kept, drawn = (expand(each, x) for each in posterior(self.process, t))
        return hold(kept * noisy + drawn * base, t), t, jnp.where(mask, 0, drawn * (expert - base))

    def learn(self, reward: Optimised, at, t, wanted, mask):
        """A step of the network towards the gradients that are wanted (algorithm 1): it, and its metrics, of which
        `unexplained` is the share of the wanted gradients' squares that is missed."""
        units = posterior(self.process, t)[1] if self.weighting == "x0" else jnp.ones_like(t)
        weight = jnp.where(mask, 0, 1 / expand(units, at) ** 2) / (~mask).mean()

        def loss(net):
            told, gradient = reward_and_gradient(self.process, net, at, t)
            error = (weight * jnp.square(gradient - wanted)).mean()
            return error + self.penalty * jnp.square(told).mean(), error

        (total, error), gradient = jax.value_and_grad(loss, has_aux=True)(reward.params)
        size = jnp.maximum((weight * jnp.square(wanted)).mean(), 1e-12)
        return reward.apply(gradient, self.optimiser), {"loss": total, "unexplained": error / size}

    def rewards(self, state: State, x) -> jax.Array:
        """Of clean windows `[..., H, D]` in network units, at the least noise: `[...]`. One constant is open."""
        return state.reward_ema(x, self.process.time_feature(jnp.float32(1 / self.diffusion_steps)))


def posterior(process: Process, t) -> tuple[jax.Array, jax.Array]:
    """Of a discrete process at times t: the weights of x_t and of x0 in the mean of the step before (Ho et al. 2020,
    eq. 7)."""
    noisy, clean = process.level(t), process.level(jnp.asarray(t) - 1 / process.steps)  # type: ignore[operator]
    ratio, variance = transition(clean, noisy)
    return ratio * (clean.sigma / noisy.sigma) ** 2, clean.alpha * variance / noisy.sigma**2


def reward_and_gradient(process: Process, net, x, t) -> tuple[jax.Array, jax.Array]:
    """Of noisy windows `[..., H, D]` the reward `[...]` and its gradient by them."""
    told, pull = jax.vjp(lambda x: net(x, process.time_feature(t)), x)
    return told, pull(jnp.ones_like(told))[0]


class Led(eqx.Module):
    """A base's network whose posterior mean is moved by `scale` times the reward's gradient there, but for the last
    `stop` levels."""

    base: Any
    reward: Any
    mask: jax.Array
    """Of what is in-painted, and stays: bool `[H, D]`."""
    process: Process = eqx.field(static=True)
    scale: float = eqx.field(static=True)
    stop: int = eqx.field(static=True, default=0)

    def __call__(self, x, feature, cond=None):
        # The network predicts x0. What moves it by 1 / drawn moves the mean by 1.
        t = (feature + 1) / self.process.steps
        x0 = self.base(x, feature, cond)
        kept, drawn = (expand(each, x) for each in posterior(self.process, t))
        mean = jnp.where(self.mask, x, kept * x + drawn * x0)
        _, gradient = reward_and_gradient(self.process, self.reward, mean, t)
        still = self.mask | (expand(feature, x) < self.stop - 0.5)
        return jnp.where(still, x0, x0 + self.scale * gradient / drawn)


@dataclass(frozen=True, eq=False)
class Pair:
    """Two runs' algorithms, from which a relative reward is learned."""

    name: ClassVar[str] = "pair"
    role: ClassVar[str] = "pair of planners"
    paper: ClassVar[str] = "Nuti et al. 2023"
    needs: ClassVar[tuple[str, ...]] = ()

    planner: Any
    """The base."""


@dataclass(frozen=True, eq=False)
class Steered:
    """A base planner, led by a relative reward."""

    name: ClassVar[str] = "steered"
    role: ClassVar[str] = "planner"
    paper: ClassVar[str] = "Nuti et al. 2023"
    needs: ClassVar[tuple[str, ...]] = ()

    planner: Any
    reward_scale: Acting[NonNegative] = 1.0
    """Of the reward's gradient: 0 is the base, 1 the expert, as far as the reward tells."""
    reward_stop: Acting[Natural] = 0
    """Noise levels at the end of the chain that are not led, as Diffuser's `guidance_stop`; the released code's 5 or 10
    of 20 in locomotion."""

    def led(self, state: tuple[Any, Any], spec: Spec) -> Any:
        """The planner's state, with the network that is led."""
        own, reward = state
        planner = self.planner
        mask = planner.inpaint_mask(planner.horizon, planner.blocks(spec))
        led = Led(own.denoiser_ema, reward, mask, planner.process, self.reward_scale, self.reward_stop)
        return replace(own, denoiser_ema=led)

    def wishes(self, spec: Spec) -> Mapping[str, Wish]:
        return self.planner.wishes(spec) if hasattr(self.planner, "wishes") else {}

    def reset(self, spec: Spec, n: int, wishes: Wishes) -> Any:
        return self.planner.reset(spec, n, wishes)

    def act(self, state: tuple[Any, Any], spec: Spec, observation, carry: Any, feedback: Feedback, key):
        return self.planner.act(self.led(state, spec), spec, observation, carry, feedback, key)


def pair_runs(base: Any, expert: Any) -> Any:
    """Two planners' runs as one, from which `fit(RelativeReward.like(base.algorithm), data, initial=...)` begins.

    Each seed of the base goes with that of the expert in its place. Raises RunError for planners other than diffuser
    and its kind, and where observations, actions, their units, windows, networks or numbers of seeds differ: train the
    expert with `initial=base`, for its units.
    """
    for run in (base, expert):
        _check_unconditional(run)
    _check_spaces(base, expert, "The base has {} that are {}, and the expert's are {}; give runs of one space.")
    _check_units(base.spec, expert.spec, ("observations", "actions"))
    for field in ALIKE:
        mine, other = getattr(base.algorithm, field), getattr(expert.algorithm, field)
        if mine != other:
            raise RunError(f"The base has {field} = {mine} and the expert {other}; train both with the same.")
    if len(base.seeds) != len(expert.seeds):
        raise RunError(f"The base has {len(base.seeds)} seeds and the expert {len(expert.seeds)}; give as many.")
    return replace(base, algorithm=Pair(base.algorithm), states=(base.states, expert.states), changes=(), asked={})


def steer_run(base: Any, reward: Any, scale: float = 1.0) -> Any:
    """The base's run, led by a relative reward's: `policy`, `evaluate` and `acting(reward_scale=...)` take it, and
    `acting(reward_stop=...)`.

    What the base itself is led by, its own value, remains: `base.acting(guidance_scale=0.0)` leaves that out. Raises
    RunError where the reward is of other windows, units or numbers of seeds.
    """
    if not isinstance(reward.algorithm, RelativeReward):
        raise RunError(f"{reward.algorithm.name} is no relative reward; give a run of relative-reward.")
    _check_unconditional(base)
    _check_spaces(base, reward, "The base has {} that are {}, and the reward's are {}; give the base it began from.")
    _check_units(base.spec, reward.spec, ("observations", "actions"))
    for field in ("parts", "horizon", "stride", "diffusion_steps"):
        mine, other = getattr(base.algorithm, field), getattr(reward.algorithm, field)
        if mine != other:
            raise RunError(f"The base has {field} = {mine} and the reward {other}; give the base it began from.")
    if len(base.seeds) != len(reward.seeds):
        raise RunError(f"The base has {len(base.seeds)} seeds and the reward {len(reward.seeds)}; give as many.")
    algorithm, states = Steered(base.algorithm, scale), (base.states, reward.states.reward_ema)
    return replace(base, algorithm=algorithm, states=states, changes=(("reward_scale", scale),), path=None)


def _check_unconditional(run: Any) -> None:
    """Raise RunError for anything but a diffuser of windows whose first observation alone is known."""
    planner, spec = run.algorithm, run.spec
    if isinstance(planner, WindowDiffusion) and planner.process.prediction == "x0" and not planner.cond_dim(spec):
        blocks = planner.blocks(spec)
        mask = planner.inpaint_mask(planner.horizon, blocks)
        known = RelativeReward.like(planner).inpaint_mask(planner.horizon, blocks)
        if np.array_equal(mask, known) and not hasattr(planner, "barriers"):
            return
    raise RunError(f"{planner.name} plans no windows from an observation alone; give runs of diffuser.")


def _check_spaces(one: Any, other: Any, sentence: str) -> None:
    for what, mine, theirs in (
        ("observations", one.spec.observation_space, other.spec.observation_space),
        ("actions", one.spec.action, other.spec.action),
    ):
        if mine != theirs:
            raise RunError(sentence.format(what, describe(mine), describe(theirs)))


def _check_units(one: Spec, other: Spec, names: tuple[str, ...]) -> None:
    for name in names:
        column = first_apart(*(spec.normalisers.get(name) for spec in (one, other)))
        if column is not None:
            raise RunError(
                f"The {name} of the two runs are in other units (column {column} is), where their networks do not "
                "compare; train the second with initial= the first."
            )
