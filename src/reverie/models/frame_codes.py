"""Frames as tokens: an autoencoder of patches whose features are replaced by the nearest of a few learned codes
(van den Oord et al. 2017, VQ-VAE)."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from reverie.data import Field
from reverie.errors import ReverieError
from reverie.networks import Codebook, LayerNorm, Linear
from reverie.networks.convolution import ImageConv
from reverie.networks.encoders import scale_pixels
from reverie.networks.layers import Draw


class Residual(eqx.Module):
    """Two convolutions of patches' features `[h, w, B, width]`, added."""

    first: ImageConv
    second: ImageConv

    def __init__(self, key, width: int):
        draw = Draw.of(key)
        self.first, self.second = ImageConv(draw, width, width, 3), ImageConv(draw, width, width, 3)

    def __call__(self, x):
        return x + self.second(jax.nn.relu(self.first(jax.nn.relu(x))))


class FrameCoder(eqx.Module):
    """Frames `[..., *shape]` to P tokens each, int `[..., P]`, and back.

    An image `[H, W, C]` is cut in patches of `patch` x `patch` pixels, in rows from the top left; uint8 is scaled to
    [-1, 1]. A vector `[d]` is an image of one pixel, and one token. Raises ReverieError where an image cannot be cut
    so, and for what is neither.
    """

    encode_in: Linear
    encode: tuple[Residual, ...]
    encode_out: Linear
    norm: LayerNorm
    codebook: Codebook
    decode_in: Linear
    decode: tuple[Residual, ...]
    decode_out: Linear
    shape: tuple[int, ...] = eqx.field(static=True)
    patch: int = eqx.field(static=True)

    def __init__(
        self, key, field: Field, *, patch: int = 8, codes: int = 64, dim: int = 16, width: int = 64, depth: int = 1
    ):
        if field.kind not in ("image", "vector"):
            raise ReverieError(f"Frames are images or vectors, and these are {field}; name another part.")
        self.shape, self.patch = field.shape, patch if field.kind == "image" else 1
        if any(side % self.patch for side in self.shape[:-1]):
            height, across = self.shape[:2]
            raise ReverieError(
                f"Images of {height} x {across} pixels cannot be cut in patches of {patch} x {patch}; give a patch "
                "that divides both."
            )
        draw, size = Draw.of(key), self.patch**2 * self.shape[-1] if field.kind == "image" else self.shape[-1]
        self.encode_in, self.encode_out = Linear(draw, size, width), Linear(draw, width, dim)
        self.encode = tuple(Residual(draw, width) for _ in range(depth))
        self.norm, self.codebook = LayerNorm(dim), Codebook(draw, codes, dim)
        self.decode_in, self.decode_out = Linear(draw, dim, width), Linear(draw, width, size)
        self.decode = tuple(Residual(draw, width) for _ in range(depth))

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches."""
        height, width = self.shape[:2] if len(self.shape) == 3 else (1, 1)
        return height // self.patch, width // self.patch

    @property
    def tokens(self) -> int:
        """P, of a frame."""
        return self.grid[0] * self.grid[1]

    def patches(self, frames) -> jax.Array:
        """`[..., *shape] -> [..., P, size]`, floats."""
        lead, (rows, columns) = frames.shape[: frames.ndim - len(self.shape)], self.grid
        split = scale_pixels(frames).reshape(*lead, rows, self.patch, columns, self.patch, self.shape[-1])
        return jnp.moveaxis(split, -4, -3).reshape(*lead, self.tokens, -1)

    def features(self, frames) -> jax.Array:
        """What the codes stand for, before they do: `[..., *shape] -> [..., P, dim]`."""
        patches = self.patches(frames)
        h = self._mixed(self.encode, self.encode_in(patches))
        return self.norm(self.encode_out(jax.nn.relu(h)))

    def __call__(self, frames) -> jax.Array:
        """Tokens int32 `[..., P]`."""
        return self.codebook.nearest(self.features(frames))

    def decoded(self, features) -> jax.Array:
        """Patches `[..., P, size]` of codes `[..., P, dim]`."""
        return self.decode_out(jax.nn.relu(self._mixed(self.decode, self.decode_in(features))))

    def frames(self, tokens) -> jax.Array:
        """Frames `[..., *shape]` of tokens int `[..., P]`, floats; those of images in [-1, 1], if all is well."""
        return self.assembled(self.decoded(self.codebook.lookup(tokens)))

    def assembled(self, patches) -> jax.Array:
        """`[..., P, size] -> [..., *shape]`."""
        lead, (rows, columns) = patches.shape[:-2], self.grid
        split = patches.reshape(*lead, rows, columns, self.patch, self.patch, self.shape[-1])
        return jnp.moveaxis(split, -3, -4).reshape(*lead, *self.shape)

    def loss(self, frames, commitment: float = 0.25) -> tuple[jax.Array, Any]:
        """The mean squared error of what is decoded, in units of the frames' variance as in the paper's code, and the
        codebook's terms (van den Oord et al. 2017, eq. 3): a scalar, with the features `[..., P, dim]`, their tokens
        and metrics."""
        features, patches = self.features(frames), self.patches(frames)
        quantised, tokens, losses = self.codebook(features)
        error = jnp.square(self.decoded(quantised) - patches).mean() / jnp.maximum(patches.var(), 1e-6)
        metrics = {"reconstruction_loss": error, "perplexity": self.codebook.perplexity(tokens)}
        return error + losses.total(commitment).mean(), (features, tokens, metrics)

    def _mixed(self, blocks: tuple[Residual, ...], x) -> jax.Array:
        """`[..., P, width]` through convolutions over the grid of patches."""
        if not blocks:
            return x
        h = jnp.moveaxis(x.reshape(-1, *self.grid, x.shape[-1]), 0, 2)
        for block in blocks:
            h = block(h)
        return jnp.moveaxis(h, 2, 0).reshape(x.shape)


def used(share, tokens, decay: float = 0.95) -> jax.Array:
    """How large a share of the tokens each code has had lately `[K]`, after these int tokens of any shape."""
    now = jnp.bincount(tokens.reshape(-1), length=len(share)) / tokens.size
    return decay * share + (1 - decay) * now


def revived(book: Codebook, share, features, key, least: float = 0.03) -> tuple[Codebook, jax.Array]:
    """Codes that are hardly used become features `[..., dim]` drawn at random (Dhariwal et al. 2020, Jukebox).

    Those whose `share` `[K]` is below `least` of an equal one; it then counts as equal. The codes, and the shares.
    """
    count, flat = len(share), features.reshape(-1, features.shape[-1])
    dead = share < least / count
    drawn = flat[jax.random.randint(key, (count,), 0, len(flat))]
    codes = jnp.where(dead[:, None], jax.lax.stop_gradient(drawn), book.codes)
    return eqx.tree_at(lambda book: book.codes, book, codes), jnp.where(dead, 1 / count, share)
