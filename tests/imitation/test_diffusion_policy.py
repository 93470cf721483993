"""Diffusion Policy and its flow: both ways of a fork, commitment to one, and chunks that agree with those before."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import reverie
from reverie.data import Dataset, Spec
from reverie.diffusion import inpaint, rectified_flow, sample, soft_inpaint, vp_cosine
from reverie.diffusion.schedules import timesteps
from reverie.imitation import DiffusionPolicy, FlowPolicy
from reverie.planning.chunks import Overlap

SMALL = {"observation_horizon": 1, "horizon": 8, "action_horizon": 4}
LEARNED = {"width": 24, "multipliers": (1,), "batch_size": 64, "learning_rate": 3e-3, "warmup_updates": 50}


def fork(episodes=200, length=16) -> Dataset:
    """From 0 to the left or to the right, at random, all of an episode to one side; the observation is the place."""
    rng = np.random.default_rng(0)
    side = rng.choice([-1.0, 1.0], episodes)
    actions = side[:, None] * np.ones(length) + 0.02 * rng.normal(size=(episodes, length))
    place = np.cumsum(actions, 1) - actions
    timeouts = np.tile(np.arange(length) == length - 1, episodes)
    return Dataset.from_arrays(
        observations=place.reshape(-1, 1), actions=actions.reshape(-1, 1), rewards=None, terminals=None,
        timeouts=timeouts, action_low=-1.2, action_high=1.2,
    )  # fmt: skip


@pytest.fixture(scope="module")
def learned(optimised):
    with optimised():
        return reverie.fit(FlowPolicy(**SMALL, **LEARNED, ema_decay=0.99), fork(), steps=800, progress=False)


def chunks(run, n=200, **changed):
    """At the fork: `[n, horizon]`, in the environment's units."""
    algorithm, spec = replace(run.algorithm, **changed), run.spec
    seen = spec.normalise("observations", jnp.zeros((n, 1, 1)))
    nothing = Overlap(jnp.zeros((n, 8, 1)), jnp.zeros((n, 8), bool), jnp.zeros((n, 8)))
    state = jax.tree.map(lambda x: x[0], run.states)
    return np.asarray(spec.denormalise("actions", algorithm.choose(state, spec, seen, nothing, jax.random.key(0))))[
        ..., 0
    ]


def test_both_ways_are_taken_none_between_and_a_chunk_keeps_to_one(learned):
    """The mean of the demonstrations is 0, which a policy that minimises a squared error would take."""
    made = chunks(learned)
    side = np.sign(made[:, 0])
    assert 0.35 < (side > 0).mean() < 0.65
    assert (np.abs(made[:, 0]) > 0.7).mean() > 0.95
    assert (np.sign(made) == side[:, None]).all(1).mean() > 0.97


def seam(run, **changed):
    """The share of replans after which the action goes the other way, as the robot stands still for the delay."""
    algorithm, spec, n = replace(run.algorithm, inference_delay=2, action_horizon=2, **changed), run.spec, 200
    state = jax.tree.map(lambda x: x[0], run.states)
    act = jax.jit(lambda carry, key: algorithm.act(state, spec, jnp.zeros((n, 1)), carry, {}, key))
    carry, sides = algorithm.reset(spec, n, {}), []
    for step in range(7):
        action, carry = act(carry, jax.random.key(step))
        sides.append(np.sign(action[:, 0]))
    return (sides[0] != sides[4]).mean()  # the first chunk's first action, and the first of the second chunk's own


def test_real_time_chunking_keeps_the_way_of_the_chunk_before_where_a_new_one_would_change_it(learned):
    assert seam(learned) > 0.35
    assert seam(learned, chunking="real-time") < 0.12


def test_where_nothing_overlaps_real_time_chunking_is_plain_sampling(learned):
    np.testing.assert_allclose(chunks(learned, chunking="real-time"), chunks(learned), atol=1e-5)


def test_a_flow_s_evaluations_are_equal_steps_and_training_knows_of_none():
    """The last one goes from 1/nfe to the data; that of a two-stage solver has one stage, and is as short as before."""
    policies = [FlowPolicy(nfe=nfe) for nfe in (1, 4, 10)]
    for policy in policies:
        steps = np.arange(policy.nfe, 0, -1) / policy.nfe
        np.testing.assert_allclose(timesteps(policy.process, policy.nfe), steps, rtol=1e-6)
    drawn = [policy.process.draw_times(jax.random.key(0), (8,)) for policy in policies]
    np.testing.assert_array_equal(drawn[1:], drawn[:-1])
    assert FlowPolicy(solver="heun").process.t_min == rectified_flow().t_min


@pytest.mark.parametrize("kind", [DiffusionPolicy, FlowPolicy])
def test_what_is_beyond_an_episode_s_end_is_not_learned_where_it_is_masked(kind):
    """The transformer's rows see none after them, so that padding reaches the loss by its own rows alone."""
    spec, mask = Spec(1, 1, -jnp.ones(1), jnp.ones(1), {}), jnp.arange(8) < 5
    batch = {"observations": jnp.ones((2, 1, 1)), "mask": jnp.broadcast_to(mask, (2, 8)).astype(float)}

    def losses(**options):
        algorithm = kind(**SMALL, backbone="transformer", width=8, depth=1, heads=1, **options)
        state = algorithm.init(jax.random.key(0), spec)
        actions = [jnp.where(mask, 0.5, padding)[None, :, None] * jnp.ones((2, 1, 1)) for padding in (0.5, -7.0)]
        update = jax.jit(lambda actions: algorithm.update(state, batch | {"actions": actions}, jax.random.key(1))[1])
        return [float(update(each)["diffusion_loss"]) for each in actions]

    one, other = losses(mask_padding=True)
    assert one == pytest.approx(other, rel=1e-5)
    one, other = losses()
    assert one != pytest.approx(other, rel=1e-2)


def test_images_and_vectors_together_and_a_crop():
    rng = np.random.default_rng(0)
    last = np.arange(24) % 8 == 7
    data = Dataset.from_arrays(
        observations={
            "camera": rng.integers(0, 256, (24, 20, 20, 3), dtype=np.uint8),
            "arm": rng.normal(size=(24, 2)).astype(np.float32),
        },
        actions=rng.uniform(-1, 1, (24, 2)), rewards=None, terminals=None, timeouts=last,
    )  # fmt: skip
    algorithm = DiffusionPolicy(
        horizon=4, action_horizon=2, backbone="transformer", width=8, depth=1, heads=1, diffusion_steps=2, batch_size=4,
        crop=16, image_widths=(8,), image_features=8, keypoints=4,
    )  # fmt: skip
    run = reverie.fit(algorithm, data, steps=2, progress=False)
    policy, first = run.policy(), {name: part[0] for name, part in data.observations.items()}
    carry = policy.reset()
    action, carry = policy.act(first, carry)
    assert action.shape == (2,)
    assert carry is not None


def gaussian(process, covariance):
    """The exact denoiser of zero-mean Gaussian rows `[..., H, 1]` with this covariance."""

    def denoiser(x, t):
        alpha, sigma = process.alpha(t), process.sigma(t)
        gain = alpha * covariance @ jnp.linalg.inv(alpha**2 * covariance + sigma**2 * jnp.eye(len(covariance)))
        return jnp.einsum("ij,...jd->...id", gain, x)

    return denoiser


@pytest.mark.parametrize("process", [rectified_flow(), vp_cosine(prediction="v")], ids=["flow", "vp"])
def test_soft_inpainting_draws_the_other_rows_along_as_their_posterior_says(process):
    """Rows that are correlated by 0.9: what is held at 1 leads the other to 0.9, which writing it in does not."""
    covariance, n = jnp.array([[1.0, 0.9], [0.9, 1.0]]), 4000
    denoiser, key = gaussian(process, covariance), jax.random.key(0)
    values, weight = jnp.array([[1.0], [0.0]]), jnp.array([[1.0], [0.0]])
    led = soft_inpaint(process, denoiser, values, weight, largest=50.0)
    made = sample(process, led, key, (n, 2, 1), nfe=200, solver="euler")[..., 0]
    np.testing.assert_allclose(made.mean(0), [1.0, 0.9], atol=0.06)
    np.testing.assert_allclose(made[:, 1].std(), np.sqrt(1 - 0.81), atol=0.1)
    assert made[:, 0].std() < 0.1


def test_soft_inpainting_with_all_weight_reproduces_and_with_none_changes_nothing():
    process, key, shape = rectified_flow(), jax.random.key(0), (50, 4, 1)
    denoiser = gaussian(process, jnp.eye(4) + 0.5)
    values = jax.random.normal(jax.random.key(1), shape)
    plain = sample(process, denoiser, key, shape, nfe=10, solver="euler")

    def led(weight, largest):
        guided = soft_inpaint(process, denoiser, values, weight, largest=largest)
        return sample(process, guided, key, shape, nfe=10, solver="euler")

    np.testing.assert_array_equal(led(0.0, 5.0), plain)
    errors = [float(jnp.abs(led(1.0, largest) - values).mean()) for largest in (0.5, 2.0, 8.0)]
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 0.25 * float(jnp.abs(plain - values).mean())
    held = sample(process, denoiser, key, shape, nfe=10, solver="euler", project=inpaint(True, values))
    np.testing.assert_array_equal(held, values)
