"""What algorithms' states are made of: parameters with their optimiser's state, and exponential moving averages."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, Self

import equinox as eqx
import jax
import jax.numpy as jnp
import optax

from reverie.errors import ReverieError


def optimiser(
    lr: float,
    *,
    betas: tuple[float, float] = (0.9, 0.999),
    clip: float | None = None,
    schedule: Literal["constant", "cosine"] = "constant",
    steps: int | None = None,
    warmup: int = 0,
    weight_decay: float = 0.0,
    accumulate: int = 1,
) -> optax.GradientTransformation:
    """Adam, or AdamW when `weight_decay` is positive, with what the papers of this field put around it.

    `betas` are the decays of the gradients' moving averages; `clip` bounds the gradients' global norm. The rate rises
    linearly from 0 over the first `warmup` steps; "cosine" then takes it to 0 at step `steps` (required for it). With
    `accumulate` = k the mean gradient of k calls makes one step, and `steps` and `warmup` count those. The result is
    no pytree: rebuild it from the configuration where it is needed, and keep only its state.

    Raises ReverieError when "cosine" has no `steps`, or `steps` is not above `warmup`.
    """
    if schedule == "cosine" and (steps is None or steps <= warmup):
        raise ReverieError(f"The cosine schedule needs steps > warmup = {warmup}; steps is {steps}.")
    decayed = optax.cosine_decay_schedule(lr, steps - warmup) if schedule == "cosine" and steps else lr
    rate = optax.warmup_constant_schedule(0.0, lr, warmup) if warmup else decayed
    if warmup and callable(decayed):
        rate = optax.join_schedules([optax.linear_schedule(0.0, lr, warmup), decayed], [warmup])
    b1, b2 = betas
    step = optax.adamw(rate, b1, b2, weight_decay=weight_decay) if weight_decay else optax.adam(rate, b1, b2)
    if clip is not None:
        step = optax.chain(optax.clip_by_global_norm(clip), step)
    if accumulate > 1:
        step = optax.MultiSteps(step, accumulate).gradient_transformation()
    return step


class Optimised(eqx.Module):
    """Parameters and the state of the optimiser that moves them."""

    params: Any
    moments: optax.OptState

    @classmethod
    def create(cls, params: Any, by: optax.GradientTransformation) -> Self:
        return cls(params, by.init(params))

    def apply(self, grads: Any, by: optax.GradientTransformation) -> Self:
        """One step of the optimiser `by` down the gradients `grads` (of the structure of `params`)."""
        updates, moments = by.update(grads, self.moments, self.params)
        return type(self)(optax.apply_updates(self.params, updates), moments)

    def minimise(self, loss: Callable[[Any], jax.Array], by: optax.GradientTransformation) -> tuple[Self, jax.Array]:
        """One step of `by` down the gradient of `loss(params)`, and the loss before it."""
        value, grads = jax.value_and_grad(loss)(self.params)
        return self.apply(grads, by), value


def ema(average: Any, params: Any, decay: float | jax.Array) -> Any:
    """decay * average + (1 - decay) * params, leaf by leaf. A target network's tau is 1 - decay."""
    return jax.tree.map(lambda a, p: decay * a + (1 - decay) * p, average, params)


def delayed_ema(
    average: Any, params: Any, step: jax.Array, *, decay: float = 0.995, every: int = 10, start: int = 2000
) -> Any:
    """Diffuser's moving average (Janner et al., 2022, released code): moved on every `every`-th step only, and until
    step `start` a plain copy of the parameters.

    `step` (scalar integer) counts the updates before this one, so that the first one copies.
    """
    moving = jnp.where(step < start, 0.0, decay)
    # Where nothing moves decay is exactly 1, where it copies exactly 0: both keep their operand bit for bit.
    return ema(average, params, jnp.where(step % every == 0, moving, 1.0))
