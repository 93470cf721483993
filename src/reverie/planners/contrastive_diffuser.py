"""Contrastive Diffuser (Shan et al. 2024, "Contrastive Diffuser: Planning Towards High Return States via Contrastive
Learning").

Diffuser, whose denoiser is also told where to go: the states that it predicts are drawn to states of high return, and
pushed from states of low return. The value still guides.
"""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp

from reverie.data import Dataset, Spec
from reverie.data.blocks import Blocks
from reverie.planners.diffuser import Diffuser
from reverie.planning.contrast import contrastive_loss, return_ranks, soft_threshold
from reverie.settings import Count, Fraction, NonNegative, Positive


@dataclass(frozen=True)
class ContrastiveDiffuser(Diffuser):
    """Contrastive Diffuser: windows whose predicted states are drawn to high returns, guided towards a high value."""

    name: ClassVar = "contrastive-diffuser"
    paper: ClassVar = "Shan et al. 2024"

    contrast: NonNegative = 1.0
    """Weight of the contrastive loss, the paper's lambda; 0 is Diffuser."""
    contrasts: Count = 64
    """States of high return, and as many of low, that an update's predictions are compared with."""
    return_threshold: Fraction = 0.7
    """Rank of the return to go, from 0 to 1, above which a state counts as one of high return."""
    softness: Positive = 0.05
    """Width of the threshold, in ranks: so far above it a state is drawn as high with a weight of 0.73."""
    temperature: Positive = 0.5
    """Squared distance, in the observations' variances, at which a state's weight falls by e."""

    def prepare(self, data: Dataset, spec: Spec | None = None):
        view, spec = super().prepare(data, spec)
        return view.joined({"ranks": jnp.asarray(return_ranks(data, self.discount, self.termination_penalty))}), spec

    def denoising_loss(self, net, batch, key, condition=None, importance=1.0, regulariser=None) -> jax.Array:
        """Diffuser's loss with the contrastive one, of all rows in the episode but the first, which is known."""
        if not self.contrast:
            return super().denoising_loss(net, batch, key, condition, importance, regulariser)
        # Not 0 or 1, which are the keys that the loss splits this one into.
        high, low = self.contrasted(batch, jax.random.fold_in(key, 2))
        states, valid = Blocks.like(batch, self.parts).slice("observations"), batch["mask"][:, 1:]

        def contrast(windows):
            loss = contrastive_loss(windows[:, 1:, states], high, low, self.temperature)
            more = regulariser(windows) if regulariser else 0.0
            return self.contrast * (valid * loss).sum(1) / jnp.maximum(valid.sum(1), 1) + more

        return super().denoising_loss(net, batch, key, condition, importance, contrast)

    def contrasted(self, batch, key) -> tuple[jax.Array, jax.Array]:
        """States of the batch of high and of low return, `[contrasts, observation]` each, by a soft threshold."""
        states, outside = batch["observations"].reshape(-1, batch["observations"].shape[-1]), batch["mask"].ravel() == 0
        logits = soft_threshold(batch["ranks"].ravel(), self.return_threshold, self.softness)
        drawn = [
            jax.random.categorical(each, jnp.where(outside, -jnp.inf, logit), shape=(self.contrasts,))
            for each, logit in zip(jax.random.split(key), logits, strict=True)
        ]
        return states[drawn[0]], states[drawn[1]]
