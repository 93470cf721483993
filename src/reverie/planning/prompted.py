"""Diffusion of several tasks by one transformer that is told the task by a prompt (He et al. 2023, "Diffusion Model is
an Effective Planner and Data Synthesizer for Multi-Task Reinforcement Learning")."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import optax

from reverie.configs import EMA, Adam, SampleOptions, Sampling
from reverie.data import Spec
from reverie.diffusion import Process, vp_diffusion_ql
from reverie.learning import Optimised
from reverie.networks import PromptTransformer
from reverie.planning.tasks import TASK, Prompted, Prompts
from reverie.planning.windows import DenoiserState
from reverie.settings import Acting, Count, Fraction, LearningRate, NonNegative


class PromptState(DenoiserState):
    """With the demonstrations that prompts are drawn from, which stay as they are."""

    prompts: Prompts


@dataclass(frozen=True)
class PromptDiffusion(Prompted, EMA, Sampling, Adam):
    """What MTDiff's planner and synthesizer share: the network, its training, and how it samples."""

    steering: ClassVar[tuple[int, ...]] = ()
    """Places, among the prompt and what else is given, of what steers all tokens."""

    horizon: Count = 32
    """Rows of a window."""
    width: Count = 64
    """Of the transformer's embeddings."""
    heads: Count = 2
    """Of attention; they divide the width."""
    depth: Count = 3
    """Layers of the transformer."""
    dropout: Fraction = 0.0
    """Of what the transformer's layers add, in training."""
    diffusion_steps: Count = 20
    """Noise levels."""
    batch_size: Count = 64
    """Windows an update, equally many of each task."""
    learning_rate: LearningRate = 5e-4
    """Adam's step size."""
    noise_temperature: Acting[NonNegative] = 1.0
    """Scale of the noise of each step of a solver that draws some; 0 for none but the first."""

    @property
    def process(self) -> Process:
        return vp_diffusion_ql(self.diffusion_steps)

    def sizes(self, spec: Spec) -> Sequence[int]:
        """Of the parts of a row that is denoised, each a token."""
        raise NotImplementedError

    def given_sizes(self, spec: Spec) -> list[tuple[int, int]]:
        """Rows and columns of what is given beside the prompt, in order."""
        return []

    def rows(self, batch: Mapping[str, Any]) -> jax.Array:
        """What is denoised of a batch, `[B, H, D]`."""
        raise NotImplementedError

    def given(self, batch: Mapping[str, Any], key) -> list[jax.Array]:
        """What is given beside the prompt, `[B, rows, columns]` each."""
        return []

    def weight(self, batch: Mapping[str, Any]) -> Any:
        """Of the entries in the loss; broadcasts to the rows."""
        return 1.0

    def network(self, key, spec: Spec) -> PromptTransformer:
        prompt = self.prompt_shape(spec)
        sizes: Any = {"width": self.width, "heads": self.heads, "depth": self.depth, "rate": self.dropout}
        given = [prompt, *self.given_sizes(spec)]
        return PromptTransformer(key, self.sizes(spec), self.horizon, given, steering=self.steering, **sizes)

    def init(self, key, spec: Spec) -> PromptState:
        net = self.network(key, spec)
        step = jnp.zeros((), jnp.int32)
        return PromptState(Optimised.create(net, self.optimiser), net, step, self.prompts(spec))

    def update(self, state: PromptState, batch, key):
        prompt_key, given_key, noise_key, dropout_key = jax.random.split(key, 4)
        told = (state.prompts.draw(prompt_key, batch[TASK]), *self.given(batch, given_key))

        def loss(net: PromptTransformer):
            def denoiser(x, t, condition):
                return net(x, t, condition, key=dropout_key)

            options: Any = {"weight": self.weight(batch), "penalty": optax.huber_loss}
            return self.process.loss(denoiser, self.rows(batch), noise_key, told, **options).mean()

        denoiser, value = state.denoiser.minimise(loss, self.optimiser)
        ema = self.averaged(state.denoiser_ema, denoiser.params, state.step)
        return PromptState(denoiser, ema, state.step + 1, state.prompts), {"diffusion_loss": value}

    @property
    def sample_options(self) -> SampleOptions:
        return {"clip_x0": (-1.0, 1.0), "noise_temperature": self.noise_temperature}
