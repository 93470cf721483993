"""XQL (Garg et al. 2023, "Extreme Q-Learning: MaxEnt RL without Entropy"), which the survey calls EQL.

Implicit Q-learning whose V is the soft maximum of Q, beta log E exp(Q / beta), by Gumbel regression.
"""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp

from reverie.baselines.iql import ImplicitRegression
from reverie.settings import Positive


@dataclass(frozen=True)
class XQL(ImplicitRegression):
    """XQL: IQL with the soft maximum of Q in place of its expectile."""

    name: ClassVar = "xql"
    paper: ClassVar = "Garg et al. 2023"

    v_layer_norm: bool = True
    """Whether V's hidden layers are normalised, as in the released code: its loss is exponential in V's errors."""
    beta: Positive = 2.0
    """Temperature of the soft maximum, in Q's units; 1 to 10 in locomotion, chosen a task, and 0.6 in AntMaze."""

    def v_loss(self, u):
        """exp z - z - 1 of z = u / beta (eq. 10), with z clipped at 7 and the loss divided by the batch's largest
        exp z, as the released code does: the minimum stays where it is and the gradient cannot explode."""
        z = jnp.minimum((1 / self.beta) * u, 7.0)
        largest = jax.lax.stop_gradient(jnp.maximum(z.max(), -1.0))
        return (jnp.exp(z - largest) - (z + 1) * jnp.exp(-largest)).mean()
