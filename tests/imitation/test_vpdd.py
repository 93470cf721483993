"""VPDD: what its tokens are, which rows teach what, and what is held."""

from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import reverie
from reverie.data import Dataset
from reverie.errors import DataError, ReverieError
from reverie.imitation import VPDD
from reverie.imitation.vpdd import Network
from reverie.planning.chunks import Overlap
from reverie.planning.demonstrated import Demonstrated

SIDE = 8


def pictures(places) -> np.ndarray:
    """A bright dot at each place `[n, 2]`: `[n, 8, 8, 1]`."""
    images = np.zeros((len(places), SIDE, SIDE, 1), np.uint8)
    images[np.arange(len(places)), places[:, 0], places[:, 1]] = 255
    return images


def test_tokens_of_actions_are_equal_bins_and_their_middles():
    method = VPDD(bins=4)
    actions = jnp.array([-1.0, -0.51, -0.49, 0.0, 0.49, 1.0, 1.7])
    np.testing.assert_array_equal(method.tokens(actions), [0, 0, 1, 2, 2, 3, 3])
    np.testing.assert_allclose(method.actions(jnp.arange(4)), [-0.75, -0.25, 0.25, 0.75])


def walk(steps=12, known=None) -> Dataset:
    """Two episodes of a dot that goes through the picture, with a vector beside it; actions count the steps."""
    places = np.stack([np.arange(steps) % SIDE, np.arange(steps) // SIDE], -1)
    count = np.tile(np.arange(steps, dtype=np.float32), 2)
    return Dataset.from_arrays(
        {"image": pictures(np.tile(places, (2, 1))), "arm": count[:, None]}, count[:, None] / steps,
        timeouts=np.tile(np.arange(steps) == steps - 1, 2), infos={} if known is None else {"has_actions": known},
    )  # fmt: skip


TINY = VPDD(
    observation_horizon=2, horizon=4, action_horizon=2, frames=2, frame_stride=3, patch=4, codes=8, bins=5, width=8,
    heads=1, depth=1, diffusion_steps=3, batch_size=6, code_updates=1, video_updates=1,
)  # fmt: skip


def test_the_future_is_the_frames_ahead_and_at_the_end_the_last_one():
    view, spec = TINY.prepare(walk())
    state = TINY.init(jax.random.key(0), spec)
    tokens = jnp.arange(24)[:, None] * jnp.ones((1, 4), jnp.int32)
    batch = view.joined({"tokens": tokens}).take(jnp.array([0, 3, 9, 12]))
    future = TINY.future(batch).reshape(4, 2, 4)[..., 0]
    np.testing.assert_array_equal(future, [[3, 6], [6, 9], [11, 11], [15, 18]])
    assert batch["observations"]["image"].shape == (4, 2, 8, 8, 1)
    derived = TINY.derive_tokens(state, view, jax.random.key(0))["tokens"]
    np.testing.assert_array_equal(derived, state.coder.params(view.rows["observations"]["image"]))


def test_half_of_a_batch_has_actions_where_few_rows_have():
    known = np.zeros(24)
    known[[5, 6]] = 1
    view, spec = TINY.prepare(walk(known=known))
    assert isinstance(view, Demonstrated)
    index = np.asarray(view.index(jax.random.key(0), 7))
    assert index.shape == (7,)
    assert set(index[3:]) <= {5, 6}
    drawn = np.asarray(jax.vmap(lambda key: view.index(key, 7))(jax.random.split(jax.random.key(1), 50)))[:, :3]
    assert len(np.unique(drawn)) == 24
    # Actions' units are those of the rows that have some.
    np.testing.assert_allclose(spec.normalise("actions", jnp.array([[5 / 12], [6 / 12]]))[:, 0], [-1, 1], atol=1e-5)
    for column, whole in ((np.ones(24), walk()), (None, walk())):
        view, spec = TINY.prepare(walk(known=column))
        assert not isinstance(view, Demonstrated)
        assert len(view) == len(whole)
    with pytest.raises(DataError, match=r"None of the 2 windows' .* where 2 of 24 rows have one \('has_actions'\)"):
        Demonstrated.of(replace(view, starts=view.starts[:2]), known > 0)
    none = TINY.prepare(replace(walk(known=np.zeros(24)), action_low=np.float32([-2]), action_high=np.float32([4])))[1]
    np.testing.assert_allclose(none.normalise("actions", jnp.array([[-2.0], [4.0]]))[:, 0], [-1, 1], atol=1e-6)


@pytest.fixture(scope="module")
def learning():
    """A state, rows of which only the first three have actions, and what learns actions of them, compiled once."""
    view, spec = TINY.prepare(walk(known=(np.arange(24) < 3).astype(float)))
    state = TINY.init(jax.random.key(0), spec)
    rows = view.joined(TINY.derive_tokens(state, view, jax.random.key(0))).take(jnp.arange(6))
    learn = jax.jit(TINY.learn_actions)
    return state, rows, lambda state, rows: learn(state, rows, jax.random.key(1))


def same(one, other) -> bool:
    return all(np.array_equal(*leaves) for leaves in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True))


def test_nothing_is_learned_of_actions_that_are_not_there(learning):
    state, rows, learn = learning

    def after(actions):
        return learn(state, rows | {"actions": actions})[0].actions.net.params

    unknown = rows["has_actions"][..., None] == 0
    first = after(rows["actions"])
    assert same(first, after(jnp.where(unknown, -0.3, rows["actions"])))
    assert not same(first, after(jnp.where(unknown, rows["actions"], -rows["actions"])))


def test_learning_actions_leaves_what_was_learned_of_videos_alone(learning):
    """Also where the optimiser of videos would have gone on by itself, as after its own updates."""
    state, rows, learn = learning
    moving = jax.tree.map(jnp.ones_like, state.video.net.moments)
    state = eqx.tree_at(lambda state: state.video.net.moments, state, moving)
    after, metrics = learn(state, rows)
    assert same(after.video, state.video) and same(after.coder, state.coder)
    assert not same(after.actions.net.params, state.actions.net.params)
    assert metrics.keys() == {"action_loss"}


def test_other_images_are_cropped_at_random_in_training_and_in_the_middle_in_acting(monkeypatch):
    cropped = replace(TINY, crop=8, image_widths=(8,), keypoints=4, image_features=4)
    wrist = np.random.default_rng(0).integers(0, 255, (24, 12, 12, 3), np.uint8)
    view, spec = cropped.prepare(replace(walk(), observations=walk().observations | {"wrist": wrist}))
    state, key, rows = cropped.init(jax.random.key(0), spec), jax.random.key(1), view.take(jnp.arange(6))
    seen, inside = rows["observations"], (jnp.arange(12) >= 2) & (jnp.arange(12) < 10)
    dark = seen | {"wrist": jnp.where(inside[:, None, None] & inside[:, None], seen["wrist"], 0)}
    read = jax.jit(lambda observations, key=None: cropped.context(state, state.video.ema, observations, key))
    np.testing.assert_array_equal(read(seen), read(dark))  # the frame round the centre is not seen
    assert not np.array_equal(read(seen, key), read(dark, key))
    keys, context = [], VPDD.context
    monkeypatch.setattr(VPDD, "context", lambda *given: keys.append(given[4]) or context(*given))
    batch = rows | {"tokens": jnp.zeros((6, rows["actions"].shape[1], 4), jnp.int32)}
    for learn, parts in ((cropped.learn_video, 1), (cropped.learn_actions, 2)):
        jax.eval_shape(learn, state, batch, key)
        assert len(keys) == parts and all(each is not None for each in keys)
        keys.clear()


def test_rows_that_are_executed_meanwhile_are_held():
    _, spec = TINY.prepare(walk())
    state = TINY.init(jax.random.key(0), spec)
    rows = jnp.broadcast_to(TINY.actions(jnp.arange(4) % 5)[:, None], (3, 4, 1))
    frozen = jnp.broadcast_to(jnp.array([False, True, True, False]), (3, 4))
    seen = {"image": jnp.zeros((3, 2, 8, 8, 1), jnp.uint8), "arm": jnp.zeros((3, 2, 1))}
    chosen = jax.jit(TINY.choose)(state, spec, seen, Overlap(rows, frozen, 1.0 * frozen), jax.random.key(0))
    np.testing.assert_allclose(chosen[:, 1:3], rows[:, 1:3], atol=1e-6)


@pytest.mark.parametrize("options, sets", [({}, ()), ({"guidance_scale": 1.2}, (2,))])
def test_without_guidance_which_is_the_default_an_evaluation_is_of_one_set_of_rows(options, sets, monkeypatch):
    method = replace(TINY, **options)
    _, spec = method.prepare(walk())
    shapes, call = [], Network.__call__
    monkeypatch.setattr(Network, "__call__", lambda net, x, *given: shapes.append(x.shape[:-1]) or call(net, x, *given))
    seen = {"image": jnp.zeros((3, 2, 8, 8, 1), jnp.uint8), "arm": jnp.zeros((3, 2, 1))}
    none = Overlap(jnp.zeros((3, 4, 1)), jnp.zeros((3, 4), bool), jnp.zeros((3, 4)))
    state = method.init(jax.random.key(0), spec)
    jax.eval_shape(lambda seen: method.choose(state, spec, seen, none, jax.random.key(0)), seen)
    assert set(shapes) == {(*sets, 3)}


def test_a_run_of_videos_is_gone_on_from_with_demonstrations():
    videos = replace(walk(known=np.zeros(24)), action_low=np.float32([0]), action_high=np.float32([1]))
    before = reverie.fit(TINY, videos, steps=3, progress=False)
    tuning = replace(TINY, code_updates=0, video_updates=0)
    run = reverie.fit(tuning, walk(), steps=1, initial=before, progress=False)
    for one, other in zip(*(jax.tree.leaves(each.states.coder.params) for each in (before, run)), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    "build, message",
    [
        (lambda: VPDD(nfe=101), "nfe = 101 exceeds diffusion_steps = 100"),
        (lambda: VPDD(image="wrist").prepare(walk()), "have no part 'wrist'; name one of arm, image as image"),
        (lambda: TINY.prepare(walk(known=np.full(24, 0.5))), "'has_actions' holds 0.5; give one number a row"),
        (lambda: replace(TINY, crop=4).prepare(walk()), "crop = 4, but the observations have no image beside the vid"),
        (lambda: VPDD(patch=3).init(jax.random.key(0), TINY.prepare(walk())[1]), "cut in patches of 3 x 3"),
    ],
)
def test_what_cannot_be_is_refused(build, message):
    with pytest.raises((ReverieError, DataError), match=message):
        build()
