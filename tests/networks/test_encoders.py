"""Encoders: places in images, crops, padding, and observations of several parts."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from reverie.errors import ReverieError
from reverie.networks import Encoding, ImageEncoder, ObservationEncoder, TokenEncoder
from reverie.networks.encoders import centre_crop, random_crop, scale_pixels, spatial_softmax

KEY = jax.random.key(0)
SMALL = Encoding(image_features=6, image_widths=(8, 8), keypoints=4, crop=(10, 9), vocabulary=7, token_features=5)
PARTS = {
    "state": ("vector", (3,)),
    "camera": ("image", (12, 11, 3)),
    "text": ("tokens", (4,)),
    "team": ("agents", (2, 3)),
}
apply = jax.jit(lambda net, *inputs, **named: net(*inputs, **named))


def pixels(*shape, seed=1):
    return jax.random.randint(jax.random.key(seed), shape, 0, 256).astype(jnp.uint8)


def observation(*batch):
    return {
        "state": jax.random.normal(KEY, (*batch, 3)),
        "camera": pixels(*batch, 12, 11, 3),
        "text": jax.random.randint(KEY, (*batch, 4), 0, 7),
        "team": jax.random.normal(KEY, (*batch, 2, 3)),
    }


@functools.cache
def observer():
    return ObservationEncoder(KEY, PARTS, SMALL)


@functools.cache
def image_encoder(**options):
    return ImageEncoder(KEY, 3, 6, widths=(8, 16), keypoints=4, **options)


def test_one_bright_pixel_is_where_it_is():
    logits = jnp.zeros((5, 9, 2, 3)).at[1, 6, 0, 2].set(100.0)
    places = spatial_softmax(logits)
    assert places.shape == (2, 6)
    expected = np.zeros((2, 6))
    expected[0, 2], expected[0, 5] = 2 * 6 / 8 - 1, 2 * 1 / 4 - 1
    np.testing.assert_allclose(places, expected, atol=1e-6)


def test_pixels_lie_between_minus_one_and_one():
    np.testing.assert_allclose(scale_pixels(jnp.array([0, 51, 255], jnp.uint8)), [-1, -0.6, 1], atol=1e-6)
    image = pixels(12, 11, 3)
    floats = image.astype(jnp.float32) / 127.5 - 1
    np.testing.assert_allclose(apply(image_encoder(), floats), apply(image_encoder(), image), atol=1e-5)


def test_a_crop_is_a_crop():
    images = pixels(40, 6, 7, 2)
    windows = {(i, j): np.asarray(images[:, i : i + 4, j : j + 4]) for i in range(3) for j in range(4)}
    crops, found = np.asarray(random_crop(images, (4, 4), KEY)), set()
    for n, crop in enumerate(crops):
        places = [place for place, window in windows.items() if np.array_equal(window[n], crop)]
        assert len(places) == 1
        found.update(places)
    assert {i for i, _ in found} == {0, 1, 2} and {j for _, j in found} == {0, 1, 2, 3}
    np.testing.assert_array_equal(centre_crop(images, (4, 5)), images[:, 1:5, 1:6])
    np.testing.assert_array_equal(random_crop(images, (6, 7), KEY), images)
    with pytest.raises(ReverieError, match="crop of 8x4 does not fit in images of 6x7"):
        centre_crop(images, (8, 4))


def test_an_image_encoder_crops_at_random_only_with_a_key():
    net, image = image_encoder(crop=(8, 8)), pixels(3, 12, 11, 3)
    np.testing.assert_allclose(apply(net, image), apply(image_encoder(), centre_crop(image, (8, 8))), atol=1e-5)
    cropped = random_crop(image, (8, 8), KEY)
    np.testing.assert_allclose(apply(net, image, key=KEY), apply(image_encoder(), cropped), atol=1e-5)
    assert not np.allclose(apply(net, image, key=KEY), apply(net, image), atol=1e-4)


@pytest.mark.parametrize("depth", [0, 1])
def test_padding_changes_no_tokens(depth):
    net, tokens = TokenEncoder(KEY, 7, 8, depth=depth, heads=2), jnp.array([[3, 1, 6, -1, -5], [2, 2, -1, -1, -1]])
    out = apply(net, tokens)
    np.testing.assert_allclose(out[0], apply(net, tokens[0, :3]), atol=1e-5)
    np.testing.assert_allclose(out[1], apply(net, tokens[1, :2]), atol=1e-5)
    np.testing.assert_array_equal(apply(net, jnp.full(3, -1)), 0)
    if not depth:
        np.testing.assert_allclose(out[0], net.table[jnp.array([3, 1, 6])].mean(0), atol=1e-6)
    assert np.all(np.isnan(apply(net, jnp.array([7]))))


def test_only_a_transformer_reads_the_order_of_tokens():
    for depth in (0, 1):
        net = TokenEncoder(KEY, 7, 8, depth=depth, heads=2)
        same = np.allclose(apply(net, jnp.array([3, 1, 6])), apply(net, jnp.array([6, 1, 3])), atol=1e-4)
        assert same == (depth == 0)


def test_a_single_vector_is_itself():
    x = jnp.ones((2, 3))
    for net, seen in [
        (ObservationEncoder(KEY, ("vector", (3,))), x),
        (ObservationEncoder(KEY, {"state": ("vector", (3,))}), {"state": x}),
    ]:
        assert net(seen) is x
        assert net.dim == 3 and not jax.tree.leaves(net)


class Described(NamedTuple):
    """As a data set says what its observations are: in an order of its own, with more than is needed."""

    shape: tuple[int, ...]
    dtype: str
    kind: str


def test_a_description_may_say_kind_and_shape_by_name():
    described = {name: Described(shape, "any", kind) for name, (kind, shape) in PARTS.items()}
    net = ObservationEncoder(KEY, described, SMALL)
    assert net.parts == observer().parts
    for ours, theirs in zip(jax.tree.leaves(net), jax.tree.leaves(observer()), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert ObservationEncoder(KEY, Described((3,), "float32", "vector")).dim == 3


def test_parts_lie_in_the_order_of_their_names():
    net, seen = observer(), observation(2)
    camera, state, team, text = jnp.split(apply(net, seen), [6, 9, 15], -1)
    np.testing.assert_array_equal(state, seen["state"])
    np.testing.assert_array_equal(team, seen["team"].reshape(2, 6))
    np.testing.assert_allclose(camera, apply(net.encoders[0], seen["camera"]), atol=1e-5)
    np.testing.assert_allclose(text, apply(net.encoders[3], seen["text"]), atol=1e-5)
    assert net.dim == 20


@pytest.mark.parametrize("batch", [(), (2, 3)])
def test_any_leading_shape(batch):
    net, seen = observer(), observation(*batch)
    out = apply(net, seen)
    assert out.shape == (*batch, net.dim)
    np.testing.assert_allclose(
        out[(-1,) * len(batch)], apply(net, jax.tree.map(lambda x: x[(-1,) * len(batch)], seen)), atol=1e-5
    )


def test_a_vector_may_go_through_an_mlp():
    net = ObservationEncoder(KEY, {"a": ("vector", (3,)), "b": ("vector", ())}, Encoding(hidden=(8, 5)))
    assert net.dim == 10
    assert apply(net, {"a": jnp.ones((2, 3)), "b": jnp.ones(2)}).shape == (2, 10)
    assert [layer.weight.shape for layer in net.encoders[1].layers] == [(1, 8), (8, 5)]


def test_leaves_are_arrays_with_finite_derivatives():
    net, seen = observer(), observation(4)
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(net))
    gradient = jax.jit(jax.grad(lambda net: jnp.square(net(seen, key=KEY)).sum()))(net)
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradient):
        assert np.all(np.isfinite(leaf)), path
    assert np.abs(gradient.encoders[0].stem.weight).max() > 0


def test_what_does_not_fit_is_named():
    with pytest.raises(ReverieError, match="kind 'sound'"):
        ObservationEncoder(KEY, ("sound", (3,)))
    with pytest.raises(ReverieError, match="vocabulary is 0"):
        ObservationEncoder(KEY, ("tokens", (3,)))
    net = ObservationEncoder(KEY, {"a": ("vector", (3,))})
    with pytest.raises(ReverieError, match=r"no part 'a'; it is \['b'\]"):
        net({"b": jnp.ones(3)})
    with pytest.raises(ReverieError, match=r"part 'a' has the shape \(2, 4\), which does not end in \(3,\)"):
        net({"a": jnp.ones((2, 4))})
    with pytest.raises(ReverieError, match="no part 'a'; it is ArrayImpl"):
        net(jnp.ones(3))


def test_an_image_of_which_one_place_is_left_is_refused():
    """The softmax over a single place is the same for every image."""
    encoder = ImageEncoder(jax.random.key(0), 3)
    with pytest.raises(ReverieError, match="Of images of 8 x 8 pixels a single place is left"):
        encoder(jnp.zeros((8, 8, 3), jnp.uint8))
    assert encoder(jnp.zeros((10, 10, 3), jnp.uint8)).shape == (64,)
