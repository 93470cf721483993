"""Decision Diffuser (Ajay et al. 2023, "Is Conditional Generative Modeling all you need for Decision-Making?").

A U-Net denoises windows of states alone, told their return or a label by classifier-free guidance; what is asked for is
a matter of acting, several things at once too. Inverse dynamics find the action that leads to the plan's next state.
"""

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp

from reverie.configs import SampleOptions
from reverie.data import CDF, Dataset, MinMax, Spec, rewards_to_go, windows
from reverie.diffusion import vp_cosine
from reverie.errors import DataError, ReverieError
from reverie.planning import Plan, ToldState, ToldStates, WindowDiffusion
from reverie.planning import conditions as given
from reverie.protocols import Feedback
from reverie.settings import Count
from reverie.wishes import Wishes


@dataclass(frozen=True)
class DecisionDiffuser(ToldStates, WindowDiffusion, given.Conditional):
    """Decision Diffuser: windows of states that have a return, a label, or several at once."""

    name: ClassVar = "decision-diffuser"
    paper: ClassVar = "Ajay et al. 2023"
    needs: ClassVar = ("rewards, or labels",)
    padding: ClassVar[dict[str, Any]] = {"pad": "zeros", "pad_timeouts": False}
    """Of `data.windows`: beyond a terminal windows have zeros, and beyond a timeout none reaches."""

    diffusion_steps: Count = 200
    """Noise levels."""
    prediction: Literal["eps", "x0"] = "eps"
    """What the network predicts: the noise, as in the paper, or the clean window."""

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

    def reset(self, spec: Spec, n: int, wishes: Wishes) -> tuple[Plan, given.Asked]:
        return Plan.none(n, self.horizon, self.blocks(spec).size), self.ask(wishes, n)

    def rewish(self, carry: tuple[Plan, given.Asked], wishes: Wishes) -> tuple[Plan, given.Asked]:
        plan, asked = carry
        return plan, self.ask_again(asked, wishes, len(plan.step))

    def act(self, state: ToldState, spec: Spec, observation, carry, feedback: Feedback, key):
        """The action that leads to the plan's second state."""
        carry = self.received(carry, feedback)
        return self.follow(self.denoiser(state, spec, carry), state, spec, observation, carry, key)

    def received(self, carry: tuple[Plan, given.Asked], feedback: Feedback) -> tuple[Plan, given.Asked]:
        """What is asked for after what the last step brought."""
        plan, asked = carry
        return plan, given.still_to_come(asked, feedback["reward"], self.discount) if self.return_to_go else asked

    def denoiser(self, state: ToldState, spec: Spec, carry: tuple[Plan, given.Asked]):
        """Of windows `[n, H, observation]` as they are asked for, (x_t, t) -> x0_hat."""

        def predict(x, t, condition):
            return self.process.denoise(state.denoiser_ema, x, t, condition)

        return given.guided(predict, carry[1], spec)

    def follow(self, denoiser, state: ToldState, spec: Spec, observation, carry, key):
        """Act by a plan of this denoiser."""
        last, asked = carry
        rows = self.plan(denoiser, spec, observation, last, key)
        action = spec.denormalise("actions", state.inverse_ema(rows[:, 0], rows[:, 1]))
        return jnp.clip(action, spec.action_low, spec.action_high), (Plan(rows, last.step).shifted(), asked)

    def plan(self, denoiser, spec: Spec, observation, last: Plan, key) -> jax.Array:
        """Plans `[n, H, observation]`, in network units, from observations `[n, observation]`."""
        values, mask = self.observed(spec, observation), self.inpaint_mask(self.horizon, self.blocks(spec))
        return self.replanned(spec, denoiser, key, values, mask, last, **self.sample_options)
