"""PlayFusion (Chen et al. 2023): play that is told of in sentences, by diffusion with discrete bottlenecks."""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar, Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp

from reverie.data import Dataset, Spec
from reverie.diffusion import Process, vp_cosine
from reverie.imitation.diffusion_policy import ChunkDenoising
from reverie.learning import Optimised
from reverie.models import revived, used
from reverie.networks import MLP, Codebook, CodebookLosses, ObservationEncoder, TemporalUNet
from reverie.networks.layers import concatenate, standardise
from reverie.planning.chunks import ChunkCarry, in_a_row
from reverie.planning.sentences import SENTENCES, sentence_wish, told, with_sentences
from reverie.planning.windows import DenoiserState
from reverie.settings import Count, Natural, NonNegative
from reverie.wishes import Wishes


class Quantised(NamedTuple):
    """What training needs of a codebook."""

    features: jax.Array
    """What was quantised, `[..., dim]`."""
    indices: jax.Array
    losses: CodebookLosses


class Discrete(eqx.Module):
    """Features `[..., dim]`, standardised, as the nearest of `count` codes; with a count of 0 as they are."""

    codebook: Codebook | None

    def __init__(self, key, count: int, dim: int):
        self.codebook = Codebook(key, count, dim) if count else None

    def __call__(self, x) -> tuple[jax.Array, Quantised | None]:
        # Without a learned scale, which would grow faster than codes can follow.
        x = standardise(x)
        if self.codebook is None:
            return x, None
        quantised, indices, losses = self.codebook(x)
        return quantised, Quantised(x, indices, losses)


class Network(eqx.Module):
    """Reads observations and a sentence, and denoises chunks given what it read."""

    encoder: ObservationEncoder
    language: MLP
    skill: Discrete
    bottleneck: Discrete
    unet: TemporalUNet

    def told(self, sentences) -> tuple[jax.Array, Quantised | None]:
        """The skills of encoded sentences `[B, d]`."""
        # Encodings are of length 1; the layer was made for numbers of about 1.
        return self.skill(self.language(sentences * sentences.shape[-1] ** 0.5))

    def read(self, observations, skill, key=None) -> jax.Array:
        """The condition: observation histories and the skill, side by side."""
        return concatenate(in_a_row(self.encoder(observations, key=key)), skill)

    def denoise(self, x, t, condition) -> tuple[jax.Array, Quantised | None]:
        found: list[Quantised | None] = []

        def quantise(features):
            features, quantised = self.bottleneck(features)
            found.append(quantised)
            return features

        return self.unet(x, t, condition, quantise), found[0]


class Told(eqx.Module):
    """The network that was told a sentence, as a denoiser of chunks is used in acting."""

    net: Network
    sentences: jax.Array

    def read(self, observations):
        return self.net.read(observations, self.net.told(self.sentences)[0])

    def denoiser(self, x, t, condition):
        return self.net.denoise(x, t, condition)[0]


class PlayState(DenoiserState):
    """The average that acts has the codebooks in training: a code is the nearest to other features from one update to
    another, and its average over time is near none."""

    sentences: jax.Array
    """Encodings of the data's sentences `[K + 1, d]`, which stay as they are."""
    shares: dict[str, jax.Array]
    """How much each code has been used lately `[codes]`, by the codebook's name."""


@dataclass(frozen=True)
class PlayFusion(ChunkDenoising):
    """PlayFusion: Diffusion Policy that is told a sentence, with codebooks of skills and in the U-Net's bottleneck."""

    name: ClassVar = "playfusion"
    paper: ClassVar = "Chen et al. 2023"
    needs: ClassVar = ("sentences",)

    backbone: Literal["unet"] = "unet"
    """The network: a temporal U-Net, whose channels are scaled and shifted by the observations and the sentence."""
    diffusion_steps: Count = 100
    """Noise levels."""
    sentence_encoder: str = "words"
    """What turns sentences into vectors: hashed counts of words and their pairs, or module:Class@argument, such as
    sentence_transformers:SentenceTransformer@all-MiniLM-L6-v2."""
    sentence_features: Count = 512
    """Numbers of the hashed counts."""
    skill_features: Count = 64
    """Numbers that a sentence becomes before its codebook."""
    skill_codes: Natural = 64
    """Codes for what a sentence becomes; 0 leaves it continuous."""
    bottleneck_codes: Natural = 256
    """Codes for each place of the U-Net's bottleneck; 0 leaves it continuous."""
    skill_commitment: NonNegative = 0.025
    """Weight in the loss of how far a sentence's features are from their code. With a large one sentences stay with the
    code that they began with."""
    bottleneck_commitment: NonNegative = 0.5
    """The same of the bottleneck's features."""

    @property
    def process(self) -> Process:
        return vp_cosine(self.diffusion_steps)

    @property
    def codes(self) -> dict[str, int]:
        """How many each codebook has."""
        return {"skill": self.skill_codes, "bottleneck": self.bottleneck_codes}

    def prepare(self, data: Dataset, spec: Spec | None = None):
        view, spec = super().prepare(data, spec)
        spec = with_sentences(spec, data, self.sentence_encoder, self.sentence_features)
        return told(view, data, spec), spec

    def network(self, key, spec: Spec) -> Network:  # type: ignore[override]
        keys, skill = jax.random.split(key, 5), self.skill_features
        encoder = ObservationEncoder(keys[0], spec.observation_space, self.encoding)
        sizes: Any = {"width": self.width, "multipliers": self.multipliers, "film": True}
        told = self.observation_horizon * encoder.dim + skill
        return Network(
            encoder,
            MLP(keys[1], spec.kept[SENTENCES]["encodings"].shape[-1], skill, hidden=(2 * skill,)),
            Discrete(keys[2], self.codes["skill"], skill),
            Discrete(keys[3], self.codes["bottleneck"], self.width * self.multipliers[-1]),
            TemporalUNet(keys[4], spec.action_dim, cond_dim=told, **sizes),
        )

    def init(self, key, spec: Spec) -> PlayState:
        net = self.network(key, spec)
        step, sentences = jnp.zeros((), jnp.int32), jnp.asarray(spec.kept[SENTENCES]["encodings"])
        shares = {name: jnp.zeros(count) for name, count in self.codes.items() if count}
        return PlayState(Optimised.create(net, self.optimiser), net, step, sentences, shares)

    def update(self, state: PlayState, batch, key):  # type: ignore[override]
        crop_key, revival_key, key = jax.random.split(key, 3)

        def loss(net: Network):
            skill, of_skill = net.told(state.sentences[batch[SENTENCES]])
            found: list[Quantised | None] = []

            def denoiser(x, t, condition):
                out, of_bottleneck = net.denoise(x, t, condition)
                found.append(of_bottleneck)
                return out

            mask = batch["mask"][..., None] if self.mask_padding else None
            condition = net.read(batch["observations"], skill, crop_key)
            value = self.process.loss(denoiser, batch["actions"], key, condition, mask=mask).mean()
            metrics = {"diffusion_loss": value}
            quantised = {"skill": of_skill, "bottleneck": found[0]}
            for name, commitment in (("skill", self.skill_commitment), ("bottleneck", self.bottleneck_commitment)):
                codebook, of = getattr(net, name).codebook, quantised[name]
                if of is not None:
                    value += of.losses.total(commitment).mean()
                    metrics[f"{name}_error"] = of.losses.codebook.mean()
                    metrics[f"{name}_perplexity"] = codebook.perplexity(of.indices)
            return value, (metrics, quantised)

        (_, (metrics, quantised)), gradient = jax.value_and_grad(loss, has_aux=True)(state.denoiser.params)
        denoiser, shares = state.denoiser.apply(gradient, self.optimiser), dict(state.shares)
        net, ema = denoiser.params, self.averaged(state.denoiser_ema, denoiser.params, state.step)
        for name, of in quantised.items():
            if of is not None:
                place = partial(lambda name, net: getattr(net, name).codebook, name)
                share = used(shares[name], of.indices)
                book, shares[name] = revived(place(net), share, of.features, revival_key)
                net, ema = eqx.tree_at(place, net, book), eqx.tree_at(place, ema, book)
        denoiser = replace(denoiser, params=net)
        return PlayState(denoiser, ema, state.step + 1, state.sentences, shares), metrics

    def wishes(self, spec: Spec):
        return {"sentence": sentence_wish(spec, self.sentence_encoder)}

    def reset(self, spec: Spec, n: int, wishes: Wishes) -> ChunkCarry:
        return super().reset(spec, n, wishes)._replace(told=jnp.asarray(wishes["sentence"]))

    def rewish(self, carry: ChunkCarry, wishes: Wishes) -> ChunkCarry:
        return self.anew(carry)._replace(told=jnp.asarray(wishes["sentence"]))

    def next_chunk(self, state, spec: Spec, carry: ChunkCarry, key) -> ChunkCarry:
        net: Network = state.denoiser_ema
        return super().next_chunk(replace(state, denoiser_ema=Told(net, carry.told)), spec, carry, key)
