"""Chunks: rows belong to their steps, whatever the delay, and what a new chunk does to the one before."""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tests.planners.carries import mixed_and_in_lockstep

from reverie.data import Dataset, Spec
from reverie.errors import ReverieError
from reverie.planning.chunks import ChunkPolicy, soft_mask

H, A = 8, 2


@dataclass(frozen=True)
class Clock(ChunkPolicy):
    """Every row is (its step, the step at which the chunk was chosen) over 100: read off the newest observation."""

    name: ClassVar = "clock"
    batch_size: int = 4
    horizon: int = H
    action_horizon: int = 3

    def choose(self, state, spec, observations, overlap, key):
        now = observations[:, -1, :1]
        steps = now + jnp.arange(-self.current, self.horizon - self.current) / 100
        return jnp.stack([steps, jnp.broadcast_to(now, steps.shape)], -1)


def data(episodes=((0, 30), (30, 40))) -> Dataset:
    """The observation is the step of the episode over 100; the action too, and the number of the episode over 100."""
    steps = np.concatenate([np.arange(stop - start) for start, stop in episodes])
    number = np.concatenate([np.full(stop - start, i) for i, (start, stop) in enumerate(episodes)])
    timeouts = np.zeros(len(steps), bool)
    timeouts[[stop - 1 for _, stop in episodes]] = True
    return Dataset.from_arrays(
        observations=steps[:, None] / 100, actions=np.stack([steps, number], -1) / 100, rewards=None,
        terminals=None, timeouts=timeouts, action_low=-1.0, action_high=1.0,
    )  # fmt: skip


SPEC = Spec(1, A, -jnp.ones(A), jnp.ones(A), {})  # units that are the data's own


def acted(algorithm, steps, n=1):
    """The actions of `steps` steps, `[steps, n, A]`, of environments whose observation is the step over 100."""
    carry, actions = algorithm.reset(SPEC, n, {}), []
    for step in range(steps):
        action, carry = algorithm.act(None, SPEC, jnp.full((n, 1), step / 100), carry, {}, jax.random.key(step))
        actions.append(action)
    return np.stack(actions) * 100


@pytest.mark.parametrize("seen", [1, 2, 3])
def test_each_step_has_its_own_row_and_the_chunk_is_chosen_when_it_is_due(seen):
    actions = acted(Clock(observation_horizon=seen), 10)[:, 0]
    np.testing.assert_allclose(actions[:, 0], np.arange(10), atol=1e-4)
    np.testing.assert_allclose(actions[:, 1], [0, 0, 0, 3, 3, 3, 6, 6, 6, 9], atol=1e-4)


@pytest.mark.parametrize("seen", [1, 2])
def test_with_a_delay_the_chunk_before_goes_on_so_long(seen):
    actions = acted(Clock(observation_horizon=seen, inference_delay=2), 10)[:, 0]
    np.testing.assert_allclose(actions[:, 0], np.arange(10), atol=1e-4)
    np.testing.assert_allclose(actions[:, 1], [0, 0, 0, 0, 0, 3, 3, 3, 6, 6], atol=1e-4)


@pytest.mark.parametrize("decay", [0.0, 0.5])
def test_temporal_ensembling_is_the_weighted_mean_of_all_chunks_that_reach_a_step(decay):
    algorithm = Clock(observation_horizon=1, action_horizon=1, chunking="ensemble", ensemble_decay=decay)
    actions = acted(algorithm, 14)[:, 0]
    np.testing.assert_allclose(actions[:, 0], np.arange(14), atol=1e-4)
    for step in range(14):
        made = np.arange(max(0, step - H + 1), step + 1)  # of the oldest chunk first
        weights = np.exp(-decay * np.arange(len(made)))
        np.testing.assert_allclose(actions[step, 1], (weights * made).sum() / weights.sum(), atol=1e-3)


@dataclass(frozen=True)
class Told(Clock):
    """Every row is what it was told."""

    action_horizon: int = 4

    def reset(self, spec, n, wishes):
        return super().reset(spec, n, wishes)._replace(told=jnp.asarray(wishes["value"]))

    def rewish(self, carry, wishes):
        return self.anew(carry)._replace(told=jnp.asarray(wishes["value"]))

    def next_chunk(self, state, spec, carry, key):
        return super().next_chunk(carry.told, spec, carry, key)

    def choose(self, state, spec, observations, overlap, key):
        return jnp.broadcast_to(state[:, None, None], overlap.rows.shape)


@pytest.mark.parametrize("delay", [0, 2])
@pytest.mark.parametrize("chunking", ["replace", "ensemble"])
def test_a_chunk_that_was_chosen_for_another_wish_is_given_up(chunking, delay):
    """At once and whole, in the environments where one is executed; the observations seen remain."""
    told = Told(inference_delay=delay, chunking=chunking)
    carry = told.reset(SPEC, 1, {"value": jnp.float32([0.25])})
    for step, value in enumerate([0.25, 0.25, -0.5, -0.5, -0.5, -0.5, 0.75]):
        if step in (2, 6):
            before = carry.observations
            carry = told.rewish(carry, {"value": jnp.float32([value])})
            np.testing.assert_array_equal(carry.observations, before)
            overlap, chosen = told.overlap(carry)
            assert not overlap.frozen.any() and not overlap.weight.any() and not chosen.any()
        seen = jnp.full((1, 1), step / 100)
        action, carry = told.act(None, SPEC, seen, carry, {}, jax.random.key(step))
        np.testing.assert_array_equal(action, np.full((1, 2), value))
        np.testing.assert_allclose(carry.observations[:, :, 0], [[max(step - 1, 0) / 100, step / 100]])
    fresh = told.reset(SPEC, 1, {"value": jnp.float32([0.25])})
    np.testing.assert_array_equal(told.anew(fresh).step, 0)  # before the first observation nothing was seen


def test_environments_at_different_steps_act_as_each_would_alone():
    algorithm = Clock(inference_delay=1, chunking="ensemble")
    mixed, alone, _ = mixed_and_in_lockstep(algorithm, None, SPEC, lambda step: jnp.full((3, 1), step / 100), (0, 4, 5))
    for one, other in zip(jax.tree.leaves(mixed), jax.tree.leaves(alone), strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_history_begins_with_the_first_observation_again():
    algorithm = Clock(observation_horizon=3)
    carry = algorithm.reset(SPEC, 1, {})
    for step, expected in enumerate([[5, 5, 5], [5, 5, 6], [5, 6, 7], [6, 7, 8]]):
        _, carry = algorithm.act(None, SPEC, jnp.full((1, 1), float(5 + step)), carry, {}, jax.random.key(0))
        np.testing.assert_array_equal(carry.observations[0, :, 0], expected)


def test_a_batch_s_row_of_the_newest_observation_is_its_own_action():
    """And nothing of it is another episode's; an observation of the future is not in it."""
    algorithm = Clock(observation_horizon=3)
    view, spec = algorithm.prepare(data())
    batch = view.take(np.arange(len(view)))
    seen = spec.denormalise("observations", batch["observations"])[..., 0] * 100
    actions = spec.denormalise("actions", batch["actions"]) * 100
    assert seen.shape == (40, 3)
    assert actions.shape == (40, H, A)
    np.testing.assert_allclose(actions[:, algorithm.current, 0], seen[:, -1], atol=1e-4)
    np.testing.assert_allclose(actions[:, :3, 0], seen, atol=1e-4)
    np.testing.assert_allclose(actions[:30, :, 1], 0, atol=1e-4)
    np.testing.assert_allclose(actions[30:, :, 1], 1, atol=1e-4)
    np.testing.assert_allclose(actions[29, :, 0], [27, 28, 29, 29, 29, 29, 29, 29], atol=1e-4)
    np.testing.assert_array_equal(batch["mask"][29], [1, 1, 1, 0, 0, 0, 0, 0])
    np.testing.assert_array_equal(batch["mask"][0], [0, 0, 1, 1, 1, 1, 1, 1])


def test_padding_is_in_the_loss_or_not():
    batch, each = {"mask": jnp.array([[1.0, 1, 0]])}, jnp.array([[1.0, 2, 30]])
    assert float(Clock().error(batch, each)) == 11
    assert float(Clock(mask_padding=True).error(batch, each)) == 1.5


def test_the_soft_mask_falls_from_the_frozen_rows_to_the_end_of_the_overlap():
    mask = np.asarray(soft_mask(2, 6, 8))
    u = np.array([4, 3, 2, 1]) / 5
    np.testing.assert_allclose(mask, [1, 1, *(u * np.expm1(u) / np.expm1(1)), 0, 0], atol=1e-6)
    np.testing.assert_allclose(soft_mask(0, 0, 3), 0)  # nothing overlaps
    np.testing.assert_allclose(soft_mask(3, 3, 4), [1, 1, 1, 0])


@pytest.mark.parametrize(
    "wrong, said",
    [
        ({"action_horizon": 8}, r"horizon = 8 is too short .* = 1 \+ 0 \+ 8 = 9; shorten one of them"),
        ({"inference_delay": 4, "action_horizon": 3}, "inference_delay = 4 exceeds action_horizon = 3"),
        ({"chunking": "real-time"}, "chunking 'real-time' is unknown; choose one of replace, ensemble"),
    ],
)
def test_lengths_that_do_not_fit_are_refused(wrong, said):
    with pytest.raises(ReverieError, match=said):
        Clock(**wrong)
