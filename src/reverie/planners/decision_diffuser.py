"""Decision Diffuser (Ajay et al. 2023, "Is Conditional Generative Modeling all you need for Decision-Making?").

A U-Net denoises windows of states alone, told their return or a label by classifier-free guidance; what is asked for is
a matter of acting, several things at once too. Inverse dynamics find the action that leads to the plan's next state.
"""

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import equinox as eqx
import jax
import jax.numpy as jnp

from reverie.configs import SampleOptions
from reverie.data import CDF, Dataset, MinMax, Spec, rewards_to_go, windows
from reverie.data.blocks import Blocks
from reverie.diffusion import vp_cosine
from reverie.errors import DataError, ReverieError
from reverie.learning import Optimised
from reverie.planning import InverseDynamics, Plan, WindowDiffusion
from reverie.planning import conditions as given
from reverie.protocols import Feedback
from reverie.settings import Acting, Count, Fraction, NonNegative
from reverie.wishes import Wishes


class State(eqx.Module):
    """The networks in training, and their averages, which act."""

    denoiser: Optimised
    denoiser_ema: given.Told
    inverse: Optimised
    inverse_ema: Any
    step: jax.Array


@dataclass(frozen=True)
class DecisionDiffuser(WindowDiffusion, given.Conditional):
    """Decision Diffuser: windows of states that have a return, a label, or several at once."""

    name: ClassVar = "decision-diffuser"
    paper: ClassVar = "Ajay et al. 2023"
    needs: ClassVar = ("rewards, or labels",)
    parts: ClassVar = ("observations",)
    padding: ClassVar[dict[str, Any]] = {"pad": "zeros", "pad_timeouts": False}
    """Of `data.windows`: beyond a terminal windows have zeros, and beyond a timeout none reaches."""

    horizon: Count = 100
    """Rows of a window; a multiple of 2^(levels - 1)."""
    width: Count = 128
    """Channels of the U-Net's first level, and numbers of the condition's embedding."""
    multipliers: tuple[int, ...] = (1, 4, 8)
    """Channels of the levels, in multiples of the width."""
    diffusion_steps: Count = 200
    """Noise levels."""
    prediction: Literal["eps", "x0"] = "eps"
    """What the network predicts: the noise, as in the paper, or the clean window."""
    hidden: tuple[int, ...] = (256, 256)
    """Widths of the inverse dynamics' hidden layers."""
    discount: Fraction = 0.99
    """Discount of the rewards to go that windows are told."""
    termination_penalty: float = -100.0
    """Added to the last reward of an episode that ends by a terminal."""
    temperature: Acting[NonNegative] = 0.5
    """Scale of all noise in planning."""

    def __post_init__(self):
        super().__post_init__()
        if self.warm_start_steps and self.stride > 1:
            raise ReverieError(
                f"warm_start_steps shift the last plan by an environment step; stride = {self.stride} has none"
            )
        if self.return_to_go and self.discount == 0:
            raise ReverieError("discount = 0 knows no return to go; give more than 0, or return_to_go = False")

    @property
    def process(self):
        return vp_cosine(self.diffusion_steps, prediction=self.prediction)

    @property
    def sample_options(self) -> SampleOptions:
        return {"clip_x0": (-1, 1), "temperature": self.temperature, "noise_temperature": self.temperature}

    @property
    def past(self) -> int:
        """Rows of a window before the current one."""
        return 0

    def prepare(self, data: Dataset, spec: Spec | None = None):
        if not self.labels and data.rewards is None:
            raise DataError("The data have no rewards, so that nothing can be asked for; give them, or name labels.")
        returned = (self.discount, self.termination_penalty)
        if spec is None:
            spec = self.with_label_values(data, Spec.fit(data, observations=CDF, actions=CDF))
            if data.rewards is not None:
                to_go = rewards_to_go(data, *returned)[:, None]
                units = {"returns": MinMax.fit(to_go), given.EPISODE_RETURNS: MinMax.fit(to_go[data.episodes[:, 0]])}
                spec = replace(spec, normalisers=spec.normalisers | units)
        view = windows(
            *(data, spec, self.horizon - self.past, self.stride),
            discount=self.discount,
            termination_penalty=self.termination_penalty,
            history=self.past,
            **self.padding,
        )
        return self.labelled(view, data, spec), spec

    def inpaint_mask(self, horizon: int, blocks: Blocks):
        return (jnp.arange(horizon)[:, None] == 0) & blocks.mask("observations")

    def cond_dim(self, spec: Spec) -> int:
        return self.width

    def inverse_dynamics(self, key, spec: Spec) -> Any:
        return InverseDynamics(key, spec.observation_dim, spec.action_dim, hidden=self.hidden)

    def init(self, key, spec: Spec) -> State:
        net_key, told_key, inverse_key = jax.random.split(key, 3)
        net = given.Told(told_key, self.network(net_key, spec), given.condition_size(spec), self.cond_dim(spec))
        inverse = self.inverse_dynamics(inverse_key, spec)
        denoiser, actor = (Optimised.create(each, self.optimiser) for each in (net, inverse))
        return State(denoiser, net, actor, inverse, jnp.zeros((), jnp.int32))

    def update(self, state: State, batch, key):
        """Algorithm of section 4.2: both losses of the same windows. Neither network is in the other's loss."""
        noise_key, told_key = jax.random.split(key)
        condition = given.told(batch, told_key, self.told, state.denoiser_ema.size)
        denoiser, loss = state.denoiser.minimise(
            lambda net: self.denoising_loss(net, batch, noise_key, condition), self.optimiser
        )
        inverse, error = state.inverse.minimise(
            lambda net: net.loss(batch["observations"], batch["actions"], batch["mask"]), self.optimiser
        )
        denoiser_ema = self.averaged(state.denoiser_ema, denoiser.params, state.step)
        inverse_ema = self.averaged(state.inverse_ema, inverse.params, state.step)
        state = State(denoiser, denoiser_ema, inverse, inverse_ema, state.step + 1)
        return state, {"diffusion_loss": loss, "inverse_loss": error}

    def reset(self, spec: Spec, n: int, wishes: Wishes) -> tuple[Plan, given.Asked]:
        return Plan.none(n, self.horizon, self.blocks(spec).size), self.ask(wishes, n)

    def rewish(self, carry: tuple[Plan, given.Asked], wishes: Wishes) -> tuple[Plan, given.Asked]:
        plan, asked = carry
        return plan, self.ask_again(asked, wishes, len(plan.step))

    def act(self, state: State, spec: Spec, observation, carry, feedback: Feedback, key):
        """The action that leads to the plan's second state."""
        carry = self.received(carry, feedback)
        return self.follow(self.denoiser(state, spec, carry), state, spec, observation, carry, key)

    def received(self, carry: tuple[Plan, given.Asked], feedback: Feedback) -> tuple[Plan, given.Asked]:
        """What is asked for after what the last step brought."""
        plan, asked = carry
        return plan, given.still_to_come(asked, feedback["reward"], self.discount) if self.return_to_go else asked

    def denoiser(self, state: State, spec: Spec, carry: tuple[Plan, given.Asked]):
        """Of windows `[n, H, observation]` as they are asked for, (x_t, t) -> x0_hat."""

        def predict(x, t, condition):
            return self.process.denoise(state.denoiser_ema, x, t, condition)

        return given.guided(predict, carry[1], spec)

    def follow(self, denoiser, state: State, spec: Spec, observation, carry, key):
        """Act by a plan of this denoiser."""
        last, asked = carry
        rows = self.plan(denoiser, spec, observation, last, key)
        action = spec.denormalise("actions", state.inverse_ema(rows[:, 0], rows[:, 1]))
        return jnp.clip(action, spec.action_low, spec.action_high), (Plan(rows, last.step).shifted(), asked)

    def plan(self, denoiser, spec: Spec, observation, last: Plan, key) -> jax.Array:
        """Plans `[n, H, observation]`, in network units, from observations `[n, observation]`."""
        values, mask = self.observed(spec, observation), self.inpaint_mask(self.horizon, self.blocks(spec))
        return self.replanned(spec, denoiser, key, values, mask, last, **self.sample_options)
