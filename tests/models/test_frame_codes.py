"""Frames as tokens: how they are cut, where gradients go, and codes that come back into use."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from reverie.data.fields import Field, vector
from reverie.errors import ReverieError
from reverie.models import FrameCoder, revived, used
from reverie.networks import Codebook

KEY = jax.random.key(0)
IMAGE = Field((6, 4, 3), "uint8", "image")
SMALL = {"codes": 8, "dim": 4, "width": 8}


@pytest.fixture(scope="module")
def coder():
    return FrameCoder(KEY, IMAGE, patch=2, **SMALL)


def images(n=5):
    return np.random.default_rng(0).integers(0, 256, (n, 6, 4, 3), dtype=np.uint8)


def test_patches_are_the_image_s_in_rows_and_go_back_where_they_were(coder):
    frames = images()
    patches = coder.patches(jnp.asarray(frames))
    assert coder.grid == (3, 2)
    assert patches.shape == (5, 6, 12)
    expected = frames[1, 2:4, 2:4].astype(np.float32).ravel() / 127.5 - 1
    np.testing.assert_allclose(patches[1, 3], expected, atol=1e-6)
    np.testing.assert_allclose(coder.assembled(patches), frames / 127.5 - 1, atol=1e-6)


def test_shapes_with_any_leading_axes_and_a_vector_is_one_token(coder):
    frames = jnp.asarray(images(6)).reshape(2, 3, 6, 4, 3)
    tokens = coder(frames)
    assert tokens.shape == (2, 3, 6)
    assert coder.frames(tokens).shape == frames.shape
    plain = FrameCoder(KEY, vector(7), **SMALL)
    tokens = plain(jnp.ones((2, 3, 7)))
    assert (plain.tokens, tokens.shape, plain.frames(tokens).shape) == (1, (2, 3, 1), (2, 3, 7))


def test_the_encoder_s_gradient_is_the_reconstruction_s_straight_through_and_the_commitment_s_alone(coder):
    """The codebook's own term draws the codes, and does not reach the encoder a second time."""
    frames = jnp.asarray(images(), jnp.float32) / 127.5 - 1
    features = coder.features(frames)
    codes = coder.codebook.lookup(coder.codebook.nearest(features))

    def replaced(layer):
        return eqx.tree_at(lambda each: each.encode_out, coder, layer)

    def expected(layer):
        features_now = replaced(layer).features(frames)
        to_decoder = jax.grad(lambda x: jnp.square(coder.decoded(x) - coder.patches(frames)).mean() / frames.var())(
            codes
        )
        return (features_now * to_decoder).sum() + 0.25 * jnp.square(features_now - codes).mean()

    got, want = (
        jax.jit(jax.grad(each))(coder.encode_out) for each in (lambda layer: replaced(layer).loss(frames)[0], expected)
    )
    for one, other in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-7)
    assert features.shape == codes.shape


def test_shares_and_codes_that_nobody_uses():
    share = used(jnp.array([0.5, 0.5, 0.0]), jnp.array([[0, 0], [0, 1]]), decay=0.5)
    np.testing.assert_allclose(share, [0.625, 0.375, 0])
    book, features = Codebook(KEY, 3, 2), jnp.array([[[3.0, 1.0]]])
    after, share = revived(book, jnp.array([0.99, 0.0, 0.011]), features, KEY)
    np.testing.assert_allclose(after.codes[1], [3, 1])
    np.testing.assert_array_equal(after.codes[jnp.array([0, 2])], book.codes[jnp.array([0, 2])])
    np.testing.assert_allclose(share, [0.99, 1 / 3, 0.011], rtol=1e-6)


@pytest.mark.parametrize(
    "field, patch, message",
    [
        (IMAGE, 4, "Images of 6 x 4 pixels cannot be cut in patches of 4 x 4"),
        (Field((5,), "int32", "tokens"), 1, "Frames are images or vectors, and these are token ids"),
    ],
)
def test_what_is_no_frame_is_refused(field, patch, message):
    with pytest.raises(ReverieError, match=message):
        FrameCoder(KEY, field, patch=patch)
