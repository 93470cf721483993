"""In-painting of frames: what is not masked is the same bit for bit, and what is comes from the conditional."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import reverie
from reverie.data import Dataset, concatenate
from reverie.diffusion import rectified_flow, sample
from reverie.errors import DataError, ReverieError
from reverie.synthesizers import Inpainting, frames
from reverie.synthesizers.inpainting import inpainted

LENGTHS = (3, 5, 4)
N, LOOKS, SIDE = sum(LENGTHS), 6, 4
KEPT = (10, 200, 30)
TINY = {"width": 8, "multipliers": (1,), "batch_size": 4, "nfe": 2, "chunk": 2}


def pictures(count, seed):
    """Of any colours, with a kept one in a third of their pixels."""
    draw = np.random.default_rng(seed)
    images = draw.integers(0, 256, (count, SIDE, SIDE, 3)).astype(np.uint8)
    images[draw.uniform(size=images.shape[:3]) < 1 / 3] = KEPT
    return images


def data(camera=None, looks=LOOKS, **changed):
    """Three demonstrations, and pictures without actions behind them."""
    draw, count = np.random.default_rng(0), N + looks
    ends = np.r_[np.cumsum(LENGTHS) - 1, np.arange(N, count)]
    images = pictures(count, 1)
    given = {
        "observations": images if camera is None else {camera: images, "place": draw.normal(size=(count, 2))},
        "actions": draw.uniform(-1, 1, (count, 2)),
        "rewards": np.arange(count),
        "terminals": np.isin(np.arange(count), ends[:2]),
        "timeouts": np.isin(np.arange(count), ends[2:]),
        "infos": {"has_actions": np.arange(count) < N, "states": draw.normal(size=(count, 3)).astype(np.float32)},
        "action_low": -1,
        "action_high": 1,
    }
    return Dataset.from_arrays(**given | changed)


def with_mask(mask, **changed):
    """Where the demonstrations are masked so, and all of the pictures to learn."""
    whole = np.r_[np.broadcast_to(mask, (N, SIDE, SIDE)), np.ones((LOOKS, SIDE, SIDE), bool)]
    return data(infos={"has_actions": np.arange(N + LOOKS) < N, "inpaint": whole}, **changed)


def untrained(given, n):
    """Rows of a network as it begins."""
    algorithm = Inpainting(**TINY)
    spec = algorithm.prepare(given)[1]
    return concatenate(*algorithm.chunks(algorithm.init(jax.random.key(0), spec), spec, jax.random.key(1), n))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("inpainting") / "run"
    return reverie.fit(Inpainting(**TINY, keep=("0ac81e",)), data(camera="front"), steps=1, out=out, progress=False)


@pytest.fixture(scope="module")
def made(run):
    return run.generate(2 * N + 4, progress=False)


def test_pixels_of_a_kept_colour_are_the_same_and_all_others_are_drawn(made):
    row = np.arange(len(made)) % N
    before, after = pictures(N + LOOKS, 1)[row], made.observations["front"]
    stays = (before == KEPT).all(-1)
    assert 0.2 < stays.mean() < 0.5
    np.testing.assert_array_equal(after[stays], before[stays])
    assert (after[~stays] != before[~stays]).any(-1).mean() > 0.95


def test_all_but_the_frames_is_as_it_was(made):
    real, row = data(camera="front"), np.arange(len(made)) % N
    for name in ("actions", "rewards", "terminals"):
        np.testing.assert_array_equal(getattr(made, name), getattr(real, name)[row])
    np.testing.assert_array_equal(made.observations["place"], real.observations["place"][row])
    np.testing.assert_array_equal(made.infos["states"], real.infos["states"][row])
    lengths = [*LENGTHS, *LENGTHS, 3, 1]
    np.testing.assert_array_equal(np.diff(made.episodes)[:, 0], lengths)
    np.testing.assert_array_equal(made.timeouts[made.episodes[:, 1] - 1], [False, False, True] * 2 + [False, True])
    assert made.observation_space == real.observation_space
    np.testing.assert_array_equal(made.action_low, real.action_low)
    assert made.attributes["synthetic"] is True
    assert made.attributes["algorithm"] == "inpainting"


def test_an_episode_has_one_look_and_every_other_one_another():
    """Where everything is masked an episode's frames are one picture."""
    made = untrained(with_mask(True), 2 * N).observations
    episode = np.repeat(np.arange(6), LENGTHS * 2)
    same = (made[:, None] == made[None]).all((2, 3, 4))
    np.testing.assert_array_equal(same, episode[:, None] == episode[None])


def test_rows_from_the_middle_of_an_episode_on_and_however_many_at_a_time(run, made):
    algorithm, state, key = run.algorithm, run.state(), jax.random.key(0)
    later = [*algorithm.chunks(state, run.spec, key, 2 * N + 4, start=N + 1)]
    found = np.concatenate([each.observations["front"] for each in later])
    np.testing.assert_array_equal(found, made.observations["front"][N + 1 :])
    at_once = run.acting(chunk=7).generate(N, progress=False).observations["front"].astype(int)
    assert np.abs(at_once - made.observations["front"][:N]).max() <= 1


def test_a_mask_of_nothing_is_the_data():
    given = with_mask(False)
    made = untrained(given, N)
    real = given.take_episodes([0, 1, 2])
    assert {name: x for name, x in real.arrays().items() if name != "infos/inpaint"}.keys() == made.arrays().keys()
    for name, array in made.arrays().items():
        np.testing.assert_array_equal(array, real.arrays()[name])


def gaussian(process, mean, covariance):
    """The denoiser of vectors `[..., D]` that are normal."""
    values, vectors = jnp.linalg.eigh(covariance)

    def denoiser(x, t):
        a, s = process.alpha(t), process.sigma(t)
        return mean + ((x - a * mean) @ vectors * (a * values / (a**2 * values + s**2))) @ vectors.T

    return denoiser


MEAN, ROOT = np.float32([1.0, -2.0, 0.5, 3.0]), np.random.default_rng(0).normal(size=(4, 4)).astype(np.float32)
COVARIANCE, HELD = ROOT @ ROOT.T + 0.1 * np.eye(4, dtype=np.float32), np.array([2.0, -1.0], np.float32)


def known_two():
    """Of a normal vector of four, given the last two: process, denoiser, mask, x, and the conditional's moments."""
    process = rectified_flow()
    gain = COVARIANCE[:2, 2:] @ np.linalg.inv(COVARIANCE[2:, 2:])
    mean = MEAN[:2] + gain @ (HELD - MEAN[2:])
    covariance = COVARIANCE[:2, :2] - gain @ COVARIANCE[2:, :2]
    inner = gaussian(process, mean, covariance)

    def denoiser(x, t):
        flat = x.reshape(-1, 4)
        return jnp.concatenate([inner(flat[:, :2], t), flat[:, 2:]], -1).reshape(x.shape)

    mask = jnp.array([True, True, False, False]).reshape(1, 2, 2, 1)
    x = jnp.r_[7.0, 7.0, HELD].reshape(1, 2, 2, 1)
    return process, denoiser, mask, x, mean, covariance


def test_one_evaluation_from_pure_noise_is_the_conditional_mean():
    process, denoiser, mask, x, mean, _ = known_two()
    found = inpainted(process, denoiser, x, mask, jax.random.key(0), nfe=1, solver="euler")
    np.testing.assert_allclose(found.reshape(4), [*mean, *HELD], rtol=1e-5)


def test_samples_have_the_conditional_s_moments():
    process, denoiser, mask, x, mean, covariance = known_two()
    count = 4000

    def one(key):
        return inpainted(process, denoiser, x, mask, key, nfe=81, solver="heun").reshape(4)

    found = np.asarray(jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(0), count)))
    np.testing.assert_array_equal(found[:, 2:], np.tile(HELD, (count, 1)))
    spread = np.sqrt(np.diag(covariance))
    assert (np.abs(found[:, :2].mean(0) - mean) < 4 * spread / count**0.5).all()
    np.testing.assert_allclose(np.cov(found[:, :2].T), covariance, atol=0.12 * covariance.max())
    assert not np.allclose(MEAN[:2], mean, atol=8 * spread.max() / count**0.5)


def test_a_mask_of_everything_is_plain_sampling():
    process, x = rectified_flow(), jnp.ones((1, 2, 2, 1))
    denoiser, key = gaussian(process, MEAN, COVARIANCE), jax.random.key(3)

    def whole(x, t):
        return denoiser(x.reshape(-1, 4), t).reshape(x.shape)

    found = inpainted(process, whole, x, jnp.ones((1, 2, 2, 1), bool), key, nfe=5, solver="euler")
    noise = jax.random.normal(key, (2, 2, 1))[None]
    plain = sample(process, whole, key, x.shape, nfe=5, solver="euler", noise=noise)
    np.testing.assert_array_equal(found, plain)


def test_what_is_drawn_goes_with_what_stays():
    """Pictures of one grey each: the right half is drawn as the left one is, which never was in the demonstrations."""
    greys = np.random.default_rng(0).integers(40, 216, 200)
    shown = np.r_[[60] * 4, [190] * 4]
    images = np.tile(np.r_[shown, greys][:, None, None, None], (1, 4, 4, 3)).astype(np.uint8)
    right, count = np.zeros((4, 4), bool), len(images)
    right[:, 2:] = True
    given = Dataset.from_arrays(
        images, np.zeros((count, 1)), timeouts=np.r_[np.arange(8) % 4 == 3, np.ones(200)],
        infos={"has_actions": np.arange(count) < 8, "inpaint": np.tile(right, (count, 1, 1))},
    )  # fmt: skip
    options = {"width": 16, "multipliers": (1,), "everything": 0.0, "batch_size": 32, "learning_rate": 5e-3, "nfe": 10}
    algorithm = Inpainting(**options)
    run = reverie.fit(algorithm, given, steps=400, progress=False)
    made = run.generate(8 * 10, progress=False).observations.reshape(-1, 8, 4, 4, 3)
    drawn = made[:, :, :, 2:].mean((2, 3, 4))
    error = np.sqrt(np.square(drawn - shown).mean())
    # A draw from all greys would be 75 away, their mean 67.
    assert error < 15, error


def test_which_pixels_are_of_a_colour():
    images = np.array([[[[10, 200, 30], [18, 192, 38], [19, 200, 30], [0, 0, 0]]]], np.uint8)
    given = Dataset.from_arrays(images, np.zeros((1, 1)), timeouts=[1])
    found = frames.masks(given, images, ("0ac81e", "FF0000"), 8)
    np.testing.assert_array_equal(found, [[[False, False, True, True]]])


@pytest.mark.parametrize(
    ("given", "options", "message"),
    [
        ({"observations": np.zeros((N + LOOKS, 3))}, {}, r"The observations are vectors float32 \[3\]; frames to draw"),
        ({"observations": {"a": np.zeros((N + LOOKS, 3))}}, {}, r"a \(vectors float32 \[3\]\), and none of them is an"),
        ({"observations": {"a": pictures(N + LOOKS, 0), "b": pictures(N + LOOKS, 0)}}, {}, "images a, b; say by image"),
        ({"camera": "a"}, {"image": "b"}, "have no images 'b'; name one of a as image"),
        ({}, {"keep": ()}, r"give the info 'inpaint' \[steps, H, W\], or the colours of what stays by keep"),
        (
            {"observations": pictures(N + LOOKS, 0)[..., :1]},
            {},
            "3 channels, and frames have 1; give the info",
        ),
        (
            {"infos": {"inpaint": np.zeros((N + LOOKS, 4, 2))}},
            {},
            r"'inpaint' is of float32 \[4, 2\] a step, and frames are \[4, 4\]; give one number a pixel",
        ),
        ({"infos": {"inpaint": np.zeros((N + LOOKS, 4, 4))}}, {}, "No pixel of the 18 frames to learn is to be drawn"),
        ({"infos": {"has_actions": np.zeros(N + LOOKS)}}, {}, "No episode of the data has actions"),
    ],
)
def test_data_that_do_not_do_are_refused_in_a_sentence(given, options, message):
    with pytest.raises(DataError, match=message) as caught:
        Inpainting(**TINY | {"keep": ("0ac81e",)} | options).prepare(data(**given))
    assert str(caught.value).endswith(".")


@pytest.mark.parametrize("keep", [("red",), ("4169e",), ("4169eg",)])
def test_a_colour_that_is_none(keep):
    with pytest.raises(ReverieError, match="but colours are written as rrggbb, such as 4169e1"):
        Inpainting(keep=keep)


def test_all_rows_are_learned_where_all_have_actions():
    view, spec = Inpainting(keep=("0ac81e",)).prepare(data(infos={}))
    assert len(view) == len(spec.kept["actions"]) == N + LOOKS
    assert len(Inpainting(keep=("0ac81e",)).prepare(data())[0]) == LOOKS


def test_frames_are_written_whole_and_read_again(run, tmp_path):
    run.write(f"d4rl:{tmp_path}/made.hdf5", N, progress=False)
    read, made = reverie.load_dataset(f"d4rl:{tmp_path}/made.hdf5"), run.generate(N, progress=False)
    assert read.fingerprint == made.fingerprint
    assert read.attributes["state"] == made.attributes["state"]


def test_a_run_that_is_loaded_draws_the_same(run, made, tmp_path):
    run.export(tmp_path / "one-file")
    for each in (run.path, tmp_path / "one-file"):
        again = reverie.load(each).generate(N, progress=False)
        np.testing.assert_array_equal(again.observations["front"], made.observations["front"][:N])
        np.testing.assert_array_equal(again.infos["states"], made.infos["states"][:N])
