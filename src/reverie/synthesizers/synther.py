"""SynthER (Lu, Ball, Teh & Parker-Holder 2023, "Synthetic Experience Replay").

A diffusion model of single transitions, in the EDM's formulation (Karras et al. 2022), makes as many more of them as a
method of reinforcement learning can use.
"""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp

from reverie.checks import check_fields
from reverie.data import Dataset, Spec, concatenate
from reverie.diffusion import SOLVERS, Process, edm, edm_churn, sample
from reverie.errors import ReverieError, ReverieWarning
from reverie.networks import ResidualMLP
from reverie.networks.layers import parameter_count
from reverie.synthesizers import transition
from reverie.training.progress import wait
from reverie.training.state import Optimised, delayed_ema, optimiser


class State(eqx.Module):
    """The network in training, and its running average, which generates."""

    denoiser: Optimised
    average: ResidualMLP
    step: jax.Array


@dataclass(frozen=True)
class SynthER:
    """SynthER: more transitions like the data's, from a diffusion model of the whole transition as one vector."""

    name: ClassVar = "synther"
    role: ClassVar = "synthesizer"
    paper: ClassVar = "Lu et al. 2023"
    needs: ClassVar = ("rewards", "terminals")
    acting_fields: ClassVar = ("calls", "solver", "churn", "chunk")
    limits: ClassVar[dict[str, Any]] = {
        **dict.fromkeys(("width", "blocks", "batch_size", "decay_updates", "average_every", "calls", "chunk"), 1),
        **dict.fromkeys(("gradient_clip", "average_start", "churn"), 0),
        "learning_rate": (1e-12, 1.0),
        "average_decay": (0.0, 1.0),
    }
    """The smallest value, or the smallest and the largest, of the fields that have them."""

    width: int = 1024
    """Width of the network's blocks; the paper has 2048 for some sets."""
    blocks: int = 6
    """Residual blocks."""
    batch_size: int = 256
    """Transitions an update; the paper takes 1024 where the data has 800,000 rows or more."""
    learning_rate: float = 3e-4
    """Adam's step size."""
    decay_updates: int = 100_000
    """Updates over which the learning rate falls to 0 by a cosine: as many as the run's --steps."""
    gradient_clip: float = 1.0
    """Largest norm of a gradient; 0 for any."""
    average_decay: float = 0.995
    """Decay of the parameters' running average."""
    average_every: int = 10
    """Updates between two steps of the average."""
    average_start: int = 2000
    """Updates during which the average is a copy."""
    standardise_terminals: bool = False
    """Whether ends of the task are standardised too. The released code leaves them 0 and 1: where they are rare, their
    deviation is far below what the process expects, and short trainings make too few of them."""
    calls: int = 255
    """Network calls for a transition; the paper's 128 steps of Heun's method are 255."""
    solver: str = "edm-churn"
    """How transitions are denoised: a name from reverie.diffusion.SOLVERS. dpm++2m needs far fewer calls."""
    churn: float = 80.0
    """Fresh noise while edm-churn denoises, S_churn of Karras et al.; 0 for none."""
    chunk: int = 1000
    """Transitions generated, and kept on the disk, at a time. Another number makes other data."""

    def __post_init__(self):
        check_fields(self, self.limits)
        if self.solver not in SOLVERS:
            raise ReverieError(f"solver {self.solver!r} is unknown; choose one of {', '.join(SOLVERS)}")

    @property
    def process(self) -> Process:
        return edm(sigma_data=1.0)

    @property
    def optimiser(self):
        clip, steps = self.gradient_clip or None, self.decay_updates
        return optimiser(self.learning_rate, betas=(0.9, 0.99), clip=clip, schedule="cosine", steps=steps)

    def prepare(self, data: Dataset):
        data.require_rewards(), data.require_terminals()
        data = data.with_next_observations()
        spec = transition.fit(data, self.standardise_terminals)
        self.warn_of_memorising(len(data), spec)
        return transition.view(data, spec), spec

    def warn_of_memorising(self, rows: int, spec: Spec) -> None:
        """Warn where the network could store the data: at two bits a parameter (Allen-Zhu & Li 2024) and 32 a number,
        that is from about ten parameters a number on."""
        columns = sum(transition.sizes(spec))
        parameters = parameter_count(jax.eval_shape(self.network, jax.random.key(0), spec))
        if 10 * rows * columns < parameters:
            warnings.warn(
                f"{rows} transitions of {columns} numbers are few for a network of {parameters} parameters, which may "
                f"learn them by heart and generate copies; choose a width below {self.width}, or give more data.",
                ReverieWarning,
                stacklevel=3,
            )

    def network(self, key, spec: Spec) -> ResidualMLP:
        return ResidualMLP(key, sum(transition.sizes(spec)), width=self.width, blocks=self.blocks)

    def init(self, key, spec: Spec) -> State:
        net = self.network(key, spec)
        return State(Optimised.create(net, self.optimiser), net, jnp.zeros((), jnp.int32))

    def update(self, state: State, batch, key) -> tuple[State, dict[str, jax.Array]]:
        x = transition.join(batch)
        denoiser, loss = state.denoiser.minimise(lambda net: self.process.loss(net, x, key).mean(), self.optimiser)
        decay, every, start = self.average_decay, self.average_every, self.average_start
        average = delayed_ema(state.average, denoiser.params, state.step, decay=decay, every=every, start=start)
        return State(denoiser, average, state.step + 1), {"diffusion_loss": loss}

    def generate(self, state: State, spec: Spec, key, n: int) -> Dataset:
        """n transitions, each an episode of one step, whose next observation is known."""
        return concatenate(*self.chunks(state, spec, key, n))

    def chunks(self, state: State, spec: Spec, key, n: int, start: int = 0) -> Iterator[Dataset]:
        """Rows start, ..., n - 1 of `generate`, a chunk at a time; `start` is a multiple of `chunk`.

        Chunk i is a function of the state and of `fold_in(key, i)` alone.
        """
        for first in range(start, n, self.chunk):
            parts = self.rows(state.average, spec, jax.random.fold_in(key, first // self.chunk))
            wait(parts["actions"])
            name = f"synthetic data by {self.name}"
            yield transition.dataset(parts, spec, min(self.chunk, n - first), name=name, synthetic=True)

    @partial(jax.jit, static_argnums=0)
    def rows(self, net, spec: Spec, key) -> dict[str, jax.Array]:
        """A chunk of transitions, in the data's units."""
        x = self.sample(self.process.denoiser(net), key, (self.chunk, sum(transition.sizes(spec))))
        return transition.split(x, spec)

    def sample(self, denoiser, key, shape) -> jax.Array:
        """Vectors in network units; by default with the paper's numbers for the stochastic sampler of Karras et al."""
        churned = edm_churn(self.churn, minimum=0.05, maximum=50.0, noise_scale=1.003)
        solver = churned if self.solver == "edm-churn" else self.solver
        return sample(self.process, denoiser, key, shape, calls=self.calls, solver=solver, grid="karras")
