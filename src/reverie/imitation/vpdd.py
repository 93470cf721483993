"""VPDD (He et al. 2024, "Learning an Actionable Discrete Diffusion Policy via Large-Scale Actionless Video
Pre-Training").

Three trainings, one after another: codes of a video's patches; the future video's tokens, by discrete diffusion, given
what was seen; and the tokens of actions beside them, by the same diffusion, from what the video's network makes of the
future. What one of them has learned the later ones leave alone. The first two need no actions: rows whose info
`has_actions` is 0 are for them alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from reverie.configs import Adam, RisingEMA
from reverie.data import Dataset, Field, Spec, windows
from reverie.diffusion import Categorical, classifier_free, inpaint, mask_and_replace, sample_tokens
from reverie.errors import DataError, ReverieError
from reverie.learning import Optimised, Stage, map_rows
from reverie.models import FrameCoder, revived, used
from reverie.networks import Linear, ObservationEncoder, TokenTransformer
from reverie.planning.chunks import ChunkPolicy, Overlap
from reverie.planning.demonstrated import COLUMN, Demonstrated, fitted, rows_with_actions
from reverie.settings import Acting, Count, Fraction, LearningRate, Natural, NonNegative


class Part(eqx.Module):
    """Reads what was seen, and says of masked tokens of one kind, a video's or actions', what they were."""

    frame: Linear
    others: ObservationEncoder | None
    other: Linear | None
    positions: jax.Array
    tokens: TokenTransformer

    def read(self, features, others, key=None) -> jax.Array:
        """The context `[..., M, width]`: a token for each patch `[..., T, P, dim]` of the frames seen, and one for all
        else that was seen with each of them. `key` is for random crops of other images."""
        patches = self.frame(features)
        tokens = patches.reshape(*patches.shape[:-3], -1, patches.shape[-1])
        if self.others is not None and self.other is not None:
            tokens = jnp.concatenate([tokens, self.other(self.others(others, key=key))], -2)
        return tokens + self.positions


class Network(eqx.Module):
    """A video's tokens, and beside them those of actions, told what the video's part makes of the future."""

    video: Part
    actions: Part

    def __call__(self, x, t, contexts) -> jax.Array:
        """Logits `[..., L, K]` of tokens `[..., L]`, the video's first, from what both parts read."""
        of_video, of_actions = contexts
        length = self.video.tokens.length
        future, logits = self.video.tokens(x[..., :length], t, of_video)
        seen = jnp.broadcast_to(of_actions, (*future.shape[:-2], *of_actions.shape[-2:]))
        both = logits, self.actions.tokens(x[..., length:], t, jnp.concatenate([future, seen], -2))[1]
        largest = max(each.shape[-1] for each in both)
        padded = [jnp.pad(each, [(0, 0)] * (x.ndim) + [(0, largest - each.shape[-1])]) for each in both]
        return jnp.concatenate(padded, -2)


class Learned(eqx.Module):
    net: Optimised
    ema: Part
    """Which acts."""
    step: jax.Array
    """Its own updates, int32 `[]`."""


class State(eqx.Module):
    coder: Optimised
    """Of frames to tokens."""
    share: jax.Array
    """Of all tokens that each code has had lately, `[codes]`."""
    video: Learned
    actions: Learned


@dataclass(frozen=True)
class VPDD(RisingEMA, Adam, ChunkPolicy):
    """VPDD: actions beside an imagined video, by discrete diffusion that is trained on videos without actions first."""

    name: ClassVar = "vpdd"
    paper: ClassVar = "He et al. 2024"

    image: str = "image"
    """The observations' part that is the video, where they have parts. A vector does as well, as one token a frame."""
    horizon: Count = 8
    """Actions of a chunk, from that of the oldest observation on."""
    action_horizon: Acting[Count] = 4
    """Actions that are executed of a chunk before the next one is."""
    frames: Count = 2
    """Frames of the future that are imagined."""
    frame_stride: Count = 4
    """Steps from one of them to the next, and from the current one to the first."""
    patch: Count = 8
    """Pixels of the side of what becomes one token."""
    codes: Count = 128
    """Different tokens of a video."""
    bins: Count = 48
    """Different tokens of an action's number: equal parts of its range."""
    code_updates: Natural = 20_000
    """Updates of the first stage, which learns the codes."""
    video_updates: Natural = 100_000
    """Updates of the second stage, which learns videos; the third, of all that follow, learns actions beside them."""
    diffusion_steps: Count = 100
    """Steps over which tokens are masked."""
    auxiliary: NonNegative = 5e-4
    """Weight of the cross-entropy beside the divergence of the steps."""
    condition_drop: Fraction = 0.1
    """How often what was seen is left out in training, so that `guidance_scale` has something to guide from."""
    width: Count = 256
    """Of the transformers and the autoencoder."""
    heads: Count = 8
    """Of the transformers' attention."""
    depth: Count = 6
    """Layers of the transformer of videos, and of that of actions."""
    learning_rate: LearningRate = 2e-4
    """Adam's step size."""
    nfe: Acting[Natural] = 0
    """Network function evaluations (NFE) for one chunk; 0 for one a step of the diffusion."""
    guidance_scale: Acting[NonNegative] = 1.0
    """Of what was seen, in log-probabilities: 1 is the model itself, as in the released sampling; more goes further
    from what it says unseeing, by twice the evaluations."""
    temperature: Acting[Fraction] = 1.0
    """Of tokens: 1 draws from the model, 0 takes the likeliest."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.nfe > self.diffusion_steps:
            raise ReverieError(f"nfe = {self.nfe} exceeds diffusion_steps = {self.diffusion_steps}")

    @property
    def stages(self) -> tuple[Stage, ...]:
        return (
            Stage(self.learn_codes, self.code_updates),
            Stage(self.learn_video, self.video_updates, derive=self.derive_tokens),
            Stage(self.learn_actions, derive=self.derive_tokens),
        )

    def field(self, spec: Spec) -> Field:
        """Of the video's frames."""
        space = spec.observation_space
        if isinstance(space, Field):
            return space
        if self.image not in space:
            raise DataError(f"The observations have no part {self.image!r}; name one of {', '.join(space)} as image.")
        return space[self.image]

    def split(self, observations) -> tuple[Any, Any]:
        """The frames, and all else that is seen."""
        if not isinstance(observations, Mapping):
            return observations, {}
        return observations[self.image], {name: x for name, x in observations.items() if name != self.image}

    def process(self, videos: int, actions: int = 0) -> Categorical:
        """Of so many tokens; both kinds are masked alike, and each is replaced by its own kind (section 3.2)."""
        return mask_and_replace(np.repeat([self.codes, self.bins], [videos, actions]), self.diffusion_steps)

    def others(self, spec: Spec) -> dict[str, Field]:
        """All that is observed beside the video. Raises ReverieError for a crop where no image is among it."""
        space = spec.observation_space
        rest = {} if isinstance(space, Field) else {name: x for name, x in space.items() if name != self.image}
        if self.crop and not any(each.kind == "image" for each in rest.values()):
            raise ReverieError(
                f"crop = {self.crop}, but the observations have no image beside the video, which is read whole; leave "
                "crop at 0"
            )
        return rest

    def prepare(self, data: Dataset, spec: Spec | None = None):
        known = rows_with_actions(data)
        spec = spec or fitted(data, known)
        self.field(spec), self.others(spec)
        columns = ("observations", "actions", *([COLUMN] if COLUMN in data.infos else []))
        ahead = max(self.horizon - self.current, 1 + self.frames * self.frame_stride)
        options: Any = {"history": self.current, "pad": "edge", "past": ("observations",)}
        view = windows(data, spec, ahead, columns=columns, **options)
        return (view if known.all() or not known.any() else Demonstrated.of(view, known)), spec

    def init(self, key, spec: Spec) -> State:
        coder_key, video_key, action_key = jax.random.split(key, 3)
        coder = FrameCoder(coder_key, self.field(spec), patch=self.patch, codes=self.codes, width=self.width)
        video = self.part(video_key, coder, spec, self.codes, self.frames * coder.tokens)
        actions = self.part(action_key, coder, spec, self.bins, self.horizon * spec.action_dim)
        begun = (Learned(Optimised.create(x, self.optimiser), x, jnp.zeros((), jnp.int32)) for x in (video, actions))
        return State(Optimised.create(coder, self.optimiser), jnp.zeros(self.codes), *begun)

    def part(self, key, coder: FrameCoder, spec: Spec, count: int, length: int) -> Part:
        """Of `length` tokens of `count`."""
        keys, rest = jax.random.split(key, 5), self.others(spec)
        others = ObservationEncoder(keys[0], rest, self.encoding) if rest else None
        seen = self.observation_horizon * (coder.tokens + bool(rest))
        return Part(
            *(Linear(keys[1], coder.codebook.codes.shape[-1], self.width), others),
            None if others is None else Linear(keys[2], others.dim, self.width),
            0.02 * jax.random.normal(keys[3], (seen, self.width)),
            TokenTransformer(keys[4], count, length, width=self.width, heads=self.heads, depth=self.depth),
        )

    def learn_codes(self, state: State, batch, key):
        frames = self.split(batch["observations"])[0]
        (_, found), gradient = jax.value_and_grad(lambda coder: coder.loss(frames), has_aux=True)(state.coder.params)
        features, tokens, metrics = found
        coder = state.coder.apply(gradient, self.optimiser)
        book, share = revived(coder.params.codebook, used(state.share, tokens), features, key)
        coder = replace(coder, params=eqx.tree_at(lambda net: net.codebook, coder.params, book))
        return replace(state, coder=coder, share=share), metrics

    def derive_tokens(self, state: State, view, key) -> dict[str, Any]:
        """Every frame's, which the later stages do not change."""
        frames, coder = self.split(view.rows["observations"])[0], state.coder.params
        flat = frames.reshape(len(frames), -1)
        return {"tokens": map_rows(lambda rows, key: coder(rows.reshape(-1, *frames.shape[1:])), flat, key)}

    def future(self, batch) -> jax.Array:
        """The tokens of the frames to imagine, `[B, frames P]`."""
        rows = self.current + self.frame_stride * np.arange(1, self.frames + 1)
        return batch["tokens"][:, rows].reshape(len(batch["tokens"]), -1)

    def context(self, state: State, part: Part, observations, key=None) -> jax.Array:
        frames, others = self.split(observations)
        return part.read(jax.lax.stop_gradient(state.coder.params.features(frames)), others, key)

    def shown(self, observations, key) -> jax.Array:
        """Whether a row is shown what was seen, `[B, 1, 1]`; now and then it is not."""
        return jax.random.bernoulli(key, 1 - self.condition_drop, (len(jax.tree.leaves(observations)[0]), 1, 1))

    def moved(self, part: Learned, loss) -> tuple[Learned, dict[str, jax.Array]]:
        """A step down `loss(part)`, which gives the scalar and its metrics."""
        gradient, metrics = jax.grad(loss, has_aux=True)(part.net.params)
        net = part.net.apply(gradient, self.optimiser)
        return Learned(net, self.averaged(part.ema, net.params, part.step), part.step + 1), metrics

    def learn_video(self, state: State, batch, key):
        drop_key, crop_key, key = jax.random.split(key, 3)
        tokens, shown = self.future(batch), self.shown(batch["observations"], drop_key)
        process = self.process(tokens.shape[-1])

        def loss(part: Part):
            context = shown * self.context(state, part, batch["observations"], crop_key)
            each = process.loss(lambda x, t: part.tokens(x, t, context)[1], tokens, key, auxiliary=self.auxiliary)
            return each.mean(), {"video_loss": each.mean()}

        video, metrics = self.moved(state.video, loss)
        return replace(state, video=video), metrics

    def learn_actions(self, state: State, batch, key):
        """The video's part stays as it acts. Where a row has no action its tokens are masked, and nothing is learned of
        them."""
        drop_key, crop_key, key = jax.random.split(key, 3)
        videos, actions = self.future(batch), self.tokens(batch["actions"][:, : self.horizon])
        mask, shown = batch["mask"][:, : self.horizon], self.shown(batch["observations"], drop_key)
        known = batch.get(COLUMN, jnp.ones_like(batch["mask"]))[:, : self.horizon] * (mask if self.mask_padding else 1)
        process = self.process(videos.shape[-1], actions[0].size)
        each_known = jnp.repeat(known, actions.shape[-1], -1)
        unknown = jnp.concatenate([jnp.zeros(videos.shape), 1 - each_known], -1) > 0
        x0 = jnp.concatenate([videos, actions.reshape(len(actions), -1)], -1)

        def loss(part: Part):
            net = Network(state.video.ema, part)
            contexts = [shown * x for x in self.contexts(state, net, batch["observations"], crop_key)]
            how: Any = {"auxiliary": self.auxiliary, "project": inpaint(unknown, process.mask)}
            costs = process.token_losses(lambda x, t: net(x, t, contexts), x0, key, **how)
            value = (each_known * costs[:, videos.shape[-1] :]).sum() / jnp.maximum(each_known.sum(), 1)
            return value, {"action_loss": value}

        learned, metrics = self.moved(state.actions, loss)
        return replace(state, actions=learned), metrics

    def contexts(self, state: State, net: Network, observations, key=None) -> tuple[jax.Array, jax.Array]:
        """What both parts read; other images are cropped alike for both."""
        video, actions = (self.context(state, part, observations, key) for part in (net.video, net.actions))
        return video, actions

    def tokens(self, actions) -> jax.Array:
        """Of actions in network units, int of their shape."""
        return jnp.clip(jnp.floor((actions + 1) / 2 * self.bins), 0, self.bins - 1).astype(jnp.int32)

    def actions(self, tokens) -> jax.Array:
        """The middle of their bins, in network units."""
        return (tokens + 0.5) / self.bins * 2 - 1

    def choose(self, state: State, spec: Spec, observations, overlap: Overlap, key):
        """Actions that are executed meanwhile are held, so that the others agree with them."""
        net, chunks = Network(state.video.ema, state.actions.ema), overlap.rows
        n, videos, contexts = len(chunks), net.video.tokens.length, self.contexts(state, net, observations)
        denoiser = classifier_free(net, contexts, (jnp.zeros(()), jnp.zeros(())), self.guidance_scale)
        before = jnp.concatenate([jnp.zeros((n, videos), jnp.int32), self.tokens(chunks).reshape(n, -1)], -1)
        frozen = jnp.repeat(overlap.frozen, chunks.shape[-1], -1)
        hold = inpaint(jnp.pad(frozen, ((0, 0), (videos, 0))), before)
        process = self.process(videos, chunks[0].size)
        how: Any = {"nfe": self.nfe or self.diffusion_steps, "temperature": self.temperature, "project": hold}
        return self.actions(sample_tokens(process, denoiser, key, before.shape, **how)[:, videos:]).reshape(
            chunks.shape
        )
