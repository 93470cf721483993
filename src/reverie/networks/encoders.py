"""Encoders: an observation of vectors, images, tokens or several agents becomes one vector of features."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array

from ..errors import ReverieError
from .convolution import GroupNorm, ImageConv
from .embeddings import sinusoidal
from .layers import Draw, Key, Linear, concatenate
from .mlp import MLP
from .transformer import Transformer


class Described(Protocol):
    """Anything that says its kind and its shape, such as `reverie.data.Field`."""

    @property
    def kind(self) -> str: ...

    @property
    def shape(self) -> tuple[int, ...]: ...


Part = tuple[str, tuple[int, ...]] | Described
"""(kind, shape) of one observation. Kinds: "vector" (n,), "image" (H, W, C), "tokens" (L,), "agents" (agents, n)."""

Description = Part | Mapping[str, Part]
"""What an observation is: one part, or several by name."""


@dataclass(frozen=True)
class Encoding:
    """How an `ObservationEncoder` reads each kind of part."""

    hidden: tuple[int, ...] = ()
    """Widths of an MLP that reads a vector (or all agents' vectors in a row), the last its output. Empty: no MLP."""
    image_features: int = 64
    image_widths: tuple[int, ...] = (16, 32, 64)
    """Channels of the ResNet's stages, multiples of 8; every stage but the first halves the image."""
    image_depth: int = 1
    """Residual blocks in a stage."""
    keypoints: int = 32
    """Places in the image that the spatial softmax reports."""
    crop: tuple[int, int] | None = None
    """Height and width of the crop that is read: a random one where a key is given, else the centre."""
    vocabulary: int = 0
    """How many different tokens there are."""
    token_features: int = 64
    token_depth: int = 0
    """Layers of a transformer over the tokens' embeddings; 0 is the embeddings' mean."""


class ImageBlock(eqx.Module):
    """ResNet's basic block with group norm: `[H, W, B, n_in] -> [ceil(H / stride), ceil(W / stride), B, n_out]`."""

    first: ImageConv
    first_norm: GroupNorm
    second: ImageConv
    second_norm: GroupNorm
    skip: Linear | None
    stride: int = eqx.field(static=True)

    def __init__(self, key: Key, n_in: int, n_out: int, *, stride: int = 1):
        draw = Draw.of(key)
        self.first, self.first_norm = ImageConv(draw, n_in, n_out, 3, stride=stride), GroupNorm(n_out)
        self.second, self.second_norm = ImageConv(draw, n_out, n_out, 3), GroupNorm(n_out)
        self.skip = None if n_in == n_out and stride == 1 else Linear(draw, n_in, n_out)
        self.stride = stride

    def __call__(self, x: Array) -> Array:
        h = jax.nn.relu(self.first_norm(self.first(x)))
        h = self.second_norm(self.second(h))
        return jax.nn.relu(h + (x if self.skip is None else self.skip(x[:: self.stride, :: self.stride])))


class ImageEncoder(eqx.Module):
    """A small ResNet with group norm and spatial softmax: image `[..., H, W, C]` -> `[..., out_dim]`.

    As in Diffusion Policy: group norm, because batch norm's statistics and an EMA of the parameters disagree (Chi et
    al., 2023); the spatial softmax (Levine et al., 2016) says where each of `keypoints` features is. An image of uint8
    is scaled to [-1, 1] here, one of floats is taken as it is. H and W are free, but for two limits that raise a
    ReverieError: not below `crop`, and enough for more than one place in the last features, of which the softmax tells.
    """

    stem: ImageConv
    norm: GroupNorm
    blocks: tuple[ImageBlock, ...]
    keypoints: Linear
    out: Linear
    crop: tuple[int, int] | None = eqx.field(static=True)

    def __init__(
        self,
        key: Key,
        channels: int,
        out_dim: int = 64,
        *,
        widths: tuple[int, ...] = (16, 32, 64),
        depth: int = 1,
        keypoints: int = 32,
        crop: tuple[int, int] | None = None,
    ):
        draw = Draw.of(key)
        self.stem, self.norm = ImageConv(draw, channels, widths[0], 5, stride=2), GroupNorm(widths[0])
        blocks, n_in = [], widths[0]
        for stage, width in enumerate(widths):
            for i in range(depth):
                blocks.append(ImageBlock(draw, n_in, width, stride=2 if stage and i == 0 else 1))
                n_in = width
        self.blocks = tuple(blocks)
        self.keypoints, self.out = Linear(draw, n_in, keypoints), Linear(draw, 2 * keypoints, out_dim)
        self.crop = crop

    def __call__(self, image: Array, *, key: Array | None = None) -> Array:
        """With a `crop`: at random, each image at its own place, where a `key` is given; else the centre."""
        images = image.reshape(-1, *image.shape[-3:])
        if self.crop is not None:
            images = centre_crop(images, self.crop) if key is None else random_crop(images, self.crop, key)
        h = jnp.moveaxis(scale_pixels(images), 0, 2)
        h = jax.nn.relu(self.norm(self.stem(h)))
        for block in self.blocks:
            h = block(h)
        if h.shape[0] * h.shape[1] == 1:
            raise ReverieError(
                f"Of images of {image.shape[-3]} x {image.shape[-2]} pixels a single place is left, which says "
                "nothing of where things are; give larger images, or an encoder of fewer image_widths."
            )
        features = self.out(spatial_softmax(self.keypoints(h)))
        return features.reshape(*image.shape[:-3], -1)


def scale_pixels(image: Array) -> Array:
    """uint8 to floats in [-1, 1]; floats as they are."""
    return image / jnp.float32(127.5) - 1 if image.dtype == jnp.uint8 else image


def centre_crop(images: Array, size: tuple[int, int]) -> Array:
    """`[..., H, W, C] -> [..., h, w, C]`. Raises ReverieError where the image is smaller."""
    top, left = (spare // 2 for spare in margins(images, size))
    return images[..., top : top + size[0], left : left + size[1], :]


def random_crop(images: Array, size: tuple[int, int], key: Array) -> Array:
    """`[B, H, W, C] -> [B, h, w, C]`, every image at a place of its own. Raises ReverieError where they are smaller."""
    most = jnp.asarray(margins(images, size))
    corners = jax.random.randint(key, (len(images), 2), 0, most + 1)
    shape = (*size, images.shape[-1])
    return jax.vmap(lambda image, at: jax.lax.dynamic_slice(image, (at[0], at[1], 0), shape))(images, corners)


def margins(images: Array, size: tuple[int, int]) -> tuple[int, int]:
    """How many rows and columns a crop leaves."""
    height, width = images.shape[-3:-1]
    if size[0] > height or size[1] > width:
        raise ReverieError(
            f"A crop of {size[0]}x{size[1]} does not fit in images of {height}x{width}: choose a smaller crop."
        )
    return height - size[0], width - size[1]


def spatial_softmax(x: Array) -> Array:
    """Where each channel is: the mean place under the softmax over all places, `[H, W, B, C] -> [B, 2 C]`.

    First every channel's column, then every channel's row, both from -1 (left, top) to 1.
    """
    height, width = x.shape[:2]
    weights = jax.nn.softmax(x, (0, 1))
    column = jnp.einsum("hwbc,w->bc", weights, jnp.linspace(-1, 1, width))
    row = jnp.einsum("hwbc,h->bc", weights, jnp.linspace(-1, 1, height))
    return jnp.concatenate([column, row], -1)


class TokenEncoder(eqx.Module):
    """The mean of the tokens' embeddings, after a transformer where `depth` is not 0: int `[..., L] -> [..., out_dim]`.

    Tokens are 0 to vocabulary - 1. A negative one is padding and changes nothing; padding alone gives 0. One that is
    too large gives NaN.
    """

    table: Array
    transformer: Transformer | None

    def __init__(self, key: Key, vocabulary: int, out_dim: int = 64, *, depth: int = 0, heads: int = 4):
        draw = Draw.of(key)
        self.table = draw.normal((vocabulary, out_dim))
        self.transformer = Transformer(draw, out_dim, heads=heads, depth=depth) if depth else None

    def __call__(self, tokens: Array) -> Array:
        valid = tokens >= 0
        h = jnp.take(self.table, jnp.where(valid, tokens, 0), axis=0)
        if self.transformer is not None:
            h = self.transformer(h + sinusoidal(jnp.arange(tokens.shape[-1]), h.shape[-1]), valid=valid)
        total = jnp.where(valid[..., None], h, 0).sum(-2)
        return total / jnp.maximum(valid.sum(-1), 1)[..., None]


Encoder = MLP | ImageEncoder | TokenEncoder | None
"""What reads a part; None takes it as it is."""


class ObservationEncoder(eqx.Module):
    """An observation, one part or a mapping of parts by name, as one vector `[..., dim]`.

    The description may be a `Spec`'s `observation_space`. Parts have any leading shape that broadcasts together, such
    as [batch, history]. Their features lie side by side in the order of their sorted names. A single vector is returned
    as it is, without a parameter. Raises ReverieError for a kind that does not exist, and for an observation that lacks
    a part or has one of another shape.
    """

    encoders: tuple[Encoder, ...]
    parts: tuple[tuple[str | None, str, tuple[int, ...]], ...] = eqx.field(static=True)
    dim: int = eqx.field(static=True)

    def __init__(self, key: Key, description: Description, encoding: Encoding = Encoding()):
        draw = Draw.of(key)
        named = sorted(description.items()) if isinstance(description, Mapping) else [(None, description)]
        self.parts = tuple((name, *kind_and_shape(part)) for name, part in named)
        self.encoders = tuple(make_encoder(draw, kind, shape, encoding) for _, kind, shape in self.parts)
        self.dim = sum(features(kind, shape, encoding) for _, kind, shape in self.parts)

    def __call__(self, observation: Any, *, key: Array | None = None) -> Array:
        """`key` is for random crops in training; without one crops are the centre."""
        keys = [None] * len(self.parts) if key is None else list(jax.random.split(key, len(self.parts)))
        read = [
            read_part(encoder, take_part(observation, name, shape), kind, len(shape), part_key)
            for encoder, (name, kind, shape), part_key in zip(self.encoders, self.parts, keys, strict=True)
        ]
        return read[0] if len(read) == 1 else concatenate(*read)


def kind_and_shape(part: Any) -> tuple[str, tuple[int, ...]]:
    """Of a pair, or of what says them by name."""
    kind, shape = (part.kind, part.shape) if hasattr(part, "kind") else part
    return kind, tuple(shape)


def make_encoder(draw: Draw, kind: str, shape: tuple[int, ...], encoding: Encoding) -> Encoder:
    if kind == "image":
        return ImageEncoder(
            draw,
            shape[-1],
            encoding.image_features,
            widths=encoding.image_widths,
            depth=encoding.image_depth,
            keypoints=encoding.keypoints,
            crop=encoding.crop,
        )
    if kind == "tokens":
        if encoding.vocabulary < 1:
            raise ReverieError(
                "The observation has tokens and the encoding's vocabulary is 0: say how many tokens exist."
            )
        return TokenEncoder(draw, encoding.vocabulary, encoding.token_features, depth=encoding.token_depth)
    if kind not in ("vector", "agents"):
        raise ReverieError(f"There is no observation of the kind {kind!r}: choose vector, image, tokens or agents.")
    hidden = encoding.hidden
    return MLP(draw, math.prod(shape), hidden[-1], hidden=hidden[:-1]) if hidden else None


def features(kind: str, shape: tuple[int, ...], encoding: Encoding) -> int:
    """How many numbers a part becomes."""
    if kind in ("vector", "agents"):
        return encoding.hidden[-1] if encoding.hidden else math.prod(shape)
    return encoding.image_features if kind == "image" else encoding.token_features


def take_part(observation: Any, name: str | None, shape: tuple[int, ...]) -> Array:
    """The part of that name (None: the observation itself), `[..., *shape]`."""
    if name is not None and (not isinstance(observation, Mapping) or name not in observation):
        given = sorted(observation) if isinstance(observation, Mapping) else type(observation).__name__
        raise ReverieError(f"The observation has no part {name!r}; it is {given}.")
    part = observation if name is None else observation[name]
    if part.shape[part.ndim - len(shape) :] != shape:
        what = "The observation" if name is None else f"The observation's part {name!r}"
        raise ReverieError(f"{what} has the shape {part.shape}, which does not end in {shape}.")
    return part


def read_part(encoder: Encoder, part: Array, kind: str, rank: int, key: Array | None) -> Array:
    """A part of `rank` axes beside its leading ones -> `[..., features]`."""
    if isinstance(encoder, ImageEncoder):
        return encoder(part, key=key)
    if kind != "tokens" and rank != 1:
        split = part.ndim - rank
        part = part.reshape(*part.shape[:split], math.prod(part.shape[split:]))
    return part if encoder is None else encoder(part)
