"""SynthER (Lu, Ball, Teh & Parker-Holder 2023, "Synthetic Experience Replay").

A diffusion model of single transitions, in the EDM's formulation (Karras et al. 2022), makes as many more of them as a
method of reinforcement learning can use.
"""

import warnings
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp

from reverie.configs import EMA, Adam, Sampling, SolverName
from reverie.data import Dataset, Spec
from reverie.data.blocks import Blocks
from reverie.diffusion import Process, edm, edm_churn, sample
from reverie.errors import ReverieWarning
from reverie.learning import Optimised
from reverie.networks import ResidualMLP
from reverie.networks.layers import parameter_count
from reverie.settings import Acting, Count, Natural, NonNegative
from reverie.synthesizers import transition
from reverie.synthesizers.chunked import Chunked
from reverie.terminal import wait


class State(eqx.Module):
    """The network in training, and its average, which generates."""

    denoiser: Optimised
    ema: ResidualMLP
    step: jax.Array


@dataclass(frozen=True)
class SynthER(Chunked, EMA, Sampling, Adam):
    """SynthER: more transitions like the data's, from a diffusion model of the whole transition as one vector."""

    name: ClassVar = "synther"
    paper: ClassVar = "Lu et al. 2023"
    betas: ClassVar = (0.9, 0.99)

    width: Count = 1024
    """Width of the network's blocks; the paper has 2048 for some sets."""
    blocks: Count = 6
    """Residual blocks."""
    batch_size: Count = 256
    """Transitions an update; the paper takes 1024 where the data has 800,000 rows or more."""
    decay_updates: Natural = 100_000
    """Updates over which the learning rate falls to 0 by a cosine: as many as the run's --steps; 0 for a constant
    rate."""
    gradient_clip: NonNegative = 1.0
    """Largest norm of a gradient; 0 for any."""
    standardise_terminals: bool = False
    """Whether ends of the task are standardised too. The released code leaves them 0 and 1: where they are rare, their
    standard deviation is far below what the process expects, and short trainings make too few of them."""
    nfe: Acting[Count] = 255
    """Network function evaluations (NFE) for a transition; the paper's 128 steps of Heun's method are 255."""
    solver: Acting[SolverName] = "edm-churn"
    """How transitions are denoised: a name from reverie.diffusion.SOLVERS. dpm++2m needs a far smaller NFE."""
    churn: Acting[NonNegative] = 80.0
    """Fresh noise while edm-churn denoises, S_churn of Karras et al.; 0 for none."""

    @property
    def process(self) -> Process:
        return edm(sigma_data=1.0)

    def prepare(self, data: Dataset, spec: Spec | None = None):
        data.require_rewards(), data.require_terminals()
        data = data.with_next_observations()
        spec = spec or transition.fit(data, self.standardise_terminals)
        self.warn_of_memorising(len(data), spec)
        return transition.view(data, spec), spec

    def warn_of_memorising(self, rows: int, spec: Spec) -> None:
        """Warn where the network could store the data: at two bits a parameter (Allen-Zhu & Li 2024) and 32 a number,
        that is from about ten parameters a number on."""
        columns = transition.blocks(spec).size
        parameters = parameter_count(jax.eval_shape(self.network, jax.random.key(0), spec))
        if 10 * rows * columns < parameters:
            warnings.warn(
                f"{rows} transitions of {columns} numbers are few for a network of {parameters} parameters, which may "
                f"learn them by heart and generate copies; choose a width below {self.width}, or give more data.",
                ReverieWarning,
                stacklevel=3,
            )

    def network(self, key, spec: Spec) -> ResidualMLP:
        return ResidualMLP(key, transition.blocks(spec).size, width=self.width, blocks=self.blocks)

    def init(self, key, spec: Spec) -> State:
        net = self.network(key, spec)
        return State(Optimised.create(net, self.optimiser), net, jnp.zeros((), jnp.int32))

    def update(self, state: State, batch, key) -> tuple[State, dict[str, jax.Array]]:
        x = Blocks.like(batch, transition.PARTS).join(batch)
        denoiser, loss = state.denoiser.minimise(lambda net: self.process.loss(net, x, key).mean(), self.optimiser)
        ema = self.averaged(state.ema, denoiser.params, state.step)
        return State(denoiser, ema, state.step + 1), {"diffusion_loss": loss}

    def chunk_rows(self, ready: State, spec: Spec, key, rows: int):
        parts = self.rows(ready.ema, spec, key)
        wait(parts["actions"])
        return parts

    def computed(self, state: State, spec: Spec, key):
        return self.rows(state.ema, spec, key)

    @partial(jax.jit, static_argnums=0)
    def rows(self, net, spec: Spec, key) -> dict[str, jax.Array]:
        """A chunk of transitions, in the data's units."""
        x = self.sample(self.process.denoiser(net), key, (self.chunk, transition.blocks(spec).size))
        return transition.split(x, spec)

    def sample(self, denoiser, key, shape) -> jax.Array:
        """Vectors in network units; by default with the paper's numbers for the stochastic sampler of Karras et al."""
        churned = edm_churn(self.churn, minimum=0.05, maximum=50.0, noise_scale=1.003)
        solver = churned if self.solver == "edm-churn" else self.solver
        return sample(self.process, denoiser, key, shape, nfe=self.nfe, solver=solver, schedule="karras")
