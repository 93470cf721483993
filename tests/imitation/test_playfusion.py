"""PlayFusion: sentences are followed, paraphrases become one skill, and each environment has its own sentence."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import reverie
from reverie.data import Dataset
from reverie.errors import ReverieWarning
from reverie.evaluation import RunPolicy
from reverie.imitation import PlayFusion
from reverie.planning.chunks import ChunkCarry
from reverie.planning.sentences import SENTENCES
from reverie.realtime import RealTimeLoop
from reverie.wishes import resolve

WAYS = {
    (-1, 0): ["go left", "move to the left", "head left please", "walk left"],
    (1, 0): ["go right", "move to the right", "head right please", "walk right"],
    (0, 1): ["go up", "move upwards", "climb up", "head up please"],
    (0, -1): ["go down", "move downwards", "climb down", "head down please"],
}
TOLD = [sentence for sentences in WAYS.values() for sentence in sentences]
WAY = np.repeat(np.array(list(WAYS)), 4, 0)
SMALL = {
    "observation_horizon": 1, "horizon": 4, "action_horizon": 2, "width": 16, "multipliers": (1, 1), "batch_size": 64,
    "learning_rate": 3e-3, "warmup_updates": 50, "ema_decay": 0.99, "diffusion_steps": 20, "nfe": 5, "solver": "ddim",
    "skill_features": 16, "skill_codes": 8, "bottleneck_codes": 32,
}  # fmt: skip


def play(said, length=10) -> Dataset:
    """Ten episodes for each sentence, in which a point in the plane goes the way of that sentence, from anywhere; what
    is `said` of each is a number of a sentence."""
    rng, number = np.random.default_rng(0), np.arange(160) % 16
    actions = WAY[number][:, None] + rng.uniform(-0.2, 0.2, (160, length, 2))
    place = rng.uniform(-3, 3, (160, 1, 2)) + np.cumsum(actions, 1) - actions
    return Dataset.from_arrays(
        observations=place.reshape(-1, 2), actions=actions.reshape(-1, 2), rewards=None, terminals=None,
        timeouts=np.tile(np.arange(length) == length - 1, 160), action_low=-1.2, action_high=1.2,
        infos={"task": np.repeat(said(number), length)}, attributes={"tasks": TOLD},
    )  # fmt: skip


def fitted(said):
    return reverie.fit(PlayFusion(**SMALL), play(said), steps=1000, progress=False)


@pytest.fixture(scope="module")
def learned():
    return fitted(lambda number: number)


def moved(run, sentences):
    """The mean of six actions of each of as many points as there are sentences, each from a place of its own."""
    policy = RunPolicy(run.acting(sentence=sentences))
    policy.reset(len(sentences))
    place = np.random.default_rng(1).uniform(-3, 3, (len(sentences), 2)).astype(np.float32)
    first = place
    for _ in range(6):
        place = place + policy.act(place)
    return (place - first) / 6


def followed(run):
    """The share of points that went the way that they were told, to within half a step."""
    return (np.linalg.norm(moved(run, TOLD * 8) - np.tile(WAY, (8, 1)), axis=1) < 1 / 2).mean()


@pytest.mark.slow
def test_sentences_are_followed_and_cannot_be_where_they_say_nothing(learned):
    assert followed(learned) > 0.9
    rng = np.random.default_rng(0)
    assert followed(fitted(rng.permutation)) < 0.5


@pytest.mark.slow
def test_paraphrases_share_a_code_and_the_bottleneck_uses_several(learned):
    net, state = learned.state().denoiser_ema, learned.state()
    encodings = resolve("it", learned.wishes, {"sentence": TOLD}, 16)["sentence"]
    codes = np.asarray(net.told(encodings)[1].indices)
    same_code, same_way = codes[:, None] == codes, np.all(WAY[:, None] == WAY, -1)
    others = ~np.eye(16, dtype=bool)
    assert same_code[same_way & others].mean() > 0.4
    assert same_code[~same_way].mean() < 0.1
    assert learned.metrics()["skill_perplexity"][-1] > 3
    assert learned.metrics()["bottleneck_perplexity"][-1] > 4
    assert state.sentences.shape == (17, 512)


@pytest.mark.slow
def test_each_environment_has_its_own_sentence_and_may_be_told_another(learned):
    """One evaluation of the network on the same noise, as a chain draws its own for all environments at once."""
    algorithm, spec, state = learned.algorithm, learned.spec, learned.state()
    wishes = resolve("it", learned.wishes, {"sentence": TOLD[::4]}, 4)
    noise = jax.random.normal(jax.random.key(0), (1, 4, 2))
    places = jnp.arange(8.0).reshape(4, 2) - 4

    @partial(jax.jit, static_argnums=0)
    def outputs(n, wishes, places):
        carry = algorithm.seen(spec, places, algorithm.reset(spec, n, wishes))
        net = state.denoiser_ema
        skill, _ = net.told(carry.told)
        x = jnp.broadcast_to(noise, (n, 4, 2))
        return net.denoise(x, jnp.full(n, 3.0), net.read(carry.observations, skill))[0]

    together = outputs(4, wishes, places)
    for i in range(4):
        alone = outputs(1, {"sentence": wishes["sentence"][i : i + 1]}, places[i : i + 1])
        np.testing.assert_allclose(together[i], alone[0], atol=1e-5)
    carry = algorithm.reset(spec, 4, wishes)
    turned = algorithm.rewish(carry, {"sentence": wishes["sentence"][::-1]})
    np.testing.assert_array_equal(turned.told, carry.told[::-1])


@pytest.mark.slow
def test_a_policy_is_told_in_reset_and_in_the_middle_of_an_episode(learned):
    policy = learned.policy()
    carry = policy.reset(sentence="go left")
    for sentence, axis, sign in ((None, 0, -1), ("climb up", 1, 1)):
        carry = carry if sentence is None else policy.rewish(carry, sentence=sentence)
        for _ in range(2):  # of a chunk two actions are executed
            action, carry = policy.act(np.zeros(2, np.float32), carry)
            assert sign * action[axis] > 0.5
    with pytest.warns(ReverieWarning, match="'quickly' of 'go left quickly', left out"):
        hurried = policy.reset(sentence="go left quickly")
    np.testing.assert_array_equal(hurried[1].told, policy.reset(sentence="go left")[1].told)


def test_another_sentence_is_followed_at_once():
    """What is left of a chunk for the one before is not executed."""
    carry = ChunkCarry(None, None, None, jnp.array([0, 1]), jnp.zeros((2, 3)))
    turned = PlayFusion(**SMALL).rewish(carry, {"sentence": np.ones((2, 3), np.float32)})
    np.testing.assert_array_equal(turned.step, [0, 4])
    np.testing.assert_array_equal(turned.told, np.ones((2, 3)))


@pytest.mark.slow
def test_a_loop_at_a_fixed_rate_is_told_what_its_policy_was_asked(learned):
    def never():
        raise AssertionError

    loop = RealTimeLoop(learned.acting(sentence="go up").policy(), never, never, rate=10)
    assert loop._carry.told.shape == (1, 512)


@pytest.mark.parametrize("off", ["skill", "bottleneck"])
def test_each_codebook_can_be_left_out(off):
    """It then has no metrics, and the features pass as they are; the loss is the denoising loss and the other's."""
    algorithm = replace(PlayFusion(**SMALL), **{f"{off}_codes": 0})
    view, spec = algorithm.prepare(play(lambda number: number))
    shapes = jax.eval_shape(algorithm.init, jax.random.key(0), spec)
    batch = view.take(np.arange(4))
    state, metrics = jax.eval_shape(algorithm.update, shapes, batch, jax.random.key(0))
    other = {"skill": "bottleneck", "bottleneck": "skill"}[off]
    assert metrics.keys() == {"diffusion_loss", f"{other}_error", f"{other}_perplexity"}
    assert getattr(state.denoiser.params, off).codebook is None
    assert batch[SENTENCES].shape == (4,)


def test_with_more_codes_than_sentences_the_acting_network_s_codes_stay_at_their_features():
    """Codes that stand for nothing go from sentence to sentence, as each update finds other ones unused. An average of
    such a code over time is at no sentence. Here the features stay, as nothing is learned."""
    sizes = {"width": 8, "multipliers": (1,), "skill_codes": 64, "bottleneck_codes": 0, "learning_rate": 1e-9}
    algorithm = PlayFusion(**SMALL | sizes)
    view, spec = algorithm.prepare(play(lambda number: number % 10))
    rows = np.random.default_rng(0).integers(0, len(view), 200 * 16)
    batches = jax.tree.map(lambda x: x.reshape(200, 16, *x.shape[1:]), view.take(rows))

    def update(state, given):
        return algorithm.update(state, *given)[0], None

    keys = jax.random.split(jax.random.key(1), 200)
    state = jax.lax.scan(update, algorithm.init(jax.random.key(0), spec), (batches, keys))[0]
    said = state.sentences[jnp.unique(batches[SENTENCES])]
    skills = jax.jit(lambda net: net.told(said)[1])(state.denoiser_ema)
    codes = state.denoiser_ema.skill.codebook.lookup(skills.indices)
    np.testing.assert_allclose(codes, skills.features, atol=1e-4)
