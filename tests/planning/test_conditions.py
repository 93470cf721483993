"""What windows are told and what is asked for: vectors, labels and scales by hand, and guidance by closed forms."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from reverie.data import Dataset, MinMax, Spec, rewards_to_go, windows
from reverie.diffusion import vp_cosine
from reverie.errors import DataError
from reverie.networks import MLP
from reverie.planning import conditions as given
from reverie.wishes import resolve

LAST = np.arange(12) % 4 == 3


def data(**infos):
    """Three episodes of four steps, with rewards of 0, 1, ... 11."""
    return Dataset.from_arrays(
        np.arange(24.0).reshape(12, 2), np.zeros((12, 1)), np.arange(12), timeouts=LAST, infos=infos
    )


SKILL = np.repeat([2, 10, -1], 4)
"""The third episode has no label."""
WIDE = np.tile([True, False], 6)


def spec_of(labelled, *labels):
    spec = Spec.fit(labelled, rewards=MinMax)
    units = {"returns": MinMax(jnp.array([-10.0]), jnp.array([30.0]))}
    return replace(spec, normalisers=units, kept={given.LABELS: given.label_values(labelled, labels)})


def test_a_condition_tells_one_thing():
    np.testing.assert_array_equal(
        given.condition(jnp.array([0, 2, -1]), jnp.array([0.5, 0.5, 0.5]), 3),
        [[0.5, 1, 0, 0], [0, 0, 0, 1], [0, 0, 0, 0]],
    )


def test_values_are_named_and_have_their_entries_in_the_order_of_names():
    """10 stands before 2, and `skill` before `wide`, whatever the order in which they are given."""
    labelled = data(skill=SKILL, wide=WIDE)
    spec = spec_of(labelled, "wide", "skill")
    np.testing.assert_array_equal(spec.kept[given.LABELS]["skill"], [2, 10])
    assert given.condition_size(spec) == 5
    names = ["skill_10", "skill_2", "wide_0", "wide_1"]
    assert set(given.condition_wishes(spec)) == {*names, "target_return"}
    view = given.with_labels(windows(labelled, spec, 2), labelled, ("wide", "skill"), spec.kept[given.LABELS])
    np.testing.assert_array_equal(view.starts, [0, 1, 2, 4, 5, 6, 8, 9, 10])
    batch = view.take(jnp.arange(9))
    np.testing.assert_array_equal(batch[given.LABELS][:, 0], [4, 3, 4, 4, 3, 4, 4, 3, 4])
    np.testing.assert_array_equal(batch[given.LABELS][:, 1], [2, 2, 2, 1, 1, 1, -1, -1, -1])
    asked = given.ask({name: np.full(1, i + 1.0) for i, name in enumerate(names)}, 1, 0.0)
    np.testing.assert_array_equal(asked.entries, [[4, 3, 2, 1]])


def test_a_window_is_told_one_of_its_things_equally_often_or_nothing():
    """Of 30,000 windows a tenth is told nothing; else each of return and two labels is told in 30 %, but for the half
    of the windows that the second label does not know. Within four standard errors."""
    n = 30_000
    labels = jnp.stack([jnp.full(n, 1), jnp.where(jnp.arange(n) % 2, 2, -1)], 1)
    batch = {"index": jnp.arange(n), "returns": jnp.linspace(-1, 1, n), given.LABELS: labels}
    found = given.told(batch, jax.random.key(0), 0.9, 3)
    assert set(np.asarray(found[:, 1:].sum(-1)).tolist()) == {0.0, 1.0}
    np.testing.assert_allclose(found[:, 1:].mean(0), [0.3, 0.3, 0.15], atol=4 * np.sqrt(0.25 / n))
    np.testing.assert_array_equal(found[:, 0], found[:, 1] * batch["returns"])
    np.testing.assert_array_equal(found[::2, 3], 0)
    labelled = {"index": batch["index"], given.LABELS: labels[:, :1]}
    np.testing.assert_array_equal(given.told(labelled, jax.random.key(0), 1.0, 3)[:, 2], 1)


def test_the_embedding_of_nothing_is_zero():
    told = given.Told(jax.random.key(0), lambda x, t, embedding: embedding, 3, 8)
    assert isinstance(told.embedding, MLP)
    vectors = given.condition(jnp.array([0, 2, -1]), jnp.zeros(3), 3)
    found = np.asarray(told(None, None, vectors))
    np.testing.assert_array_equal(found[2], np.zeros(8))
    assert (np.abs(found[:2]).max(1) > 0).all(), "a return of 0 in network units is not nothing"


def test_the_range_of_the_return_is_declared_and_one_outside_is_warned_of():
    spec = spec_of(data(skill=SKILL), "skill")
    wishes = given.condition_wishes(spec)
    wish = wishes["target_return"]
    assert (wish.low, wish.high, wish.default) == pytest.approx((-10, 30, 26))
    with pytest.warns(UserWarning, match="target_return = 31 is outside what was seen in training, -10 to 30"):
        resolve("it", wishes, {"target_return": 31}, 1)
    with pytest.raises(
        ValueError, match="it cannot be asked for 'skill_3'; it can be asked for target_return, skill_2"
    ):
        resolve("it", wishes, {"skill_3": 1}, 1)


PROCESS, VARIANCE = vp_cosine(20), 0.3
MEANS = jnp.array([[0.5, 0.0], [1.0, -1.0], [-0.4, 0.8]])
"""Of what has entry 0 (for a return of 1 in network units), 1 and 2."""


def predict(x, t, vector):
    """Windows of one row that are N(0, v), and N(m, v) where they are told something; guidance adds w m, exactly."""
    scale = vector[..., 1:].at[..., 0].multiply(vector[..., 0])
    mean, alpha = (scale @ MEANS)[..., None, :], PROCESS.alpha(t)
    return mean + alpha * VARIANCE / (alpha**2 * VARIANCE + PROCESS.sigma(t) ** 2) * (x - alpha * mean)


def test_every_environment_has_its_own_conditions_and_scales():
    """Asked for a return of 0.5 (in network units) with scale 2, for one label, for both, for NOT one, for nothing: x0
    is moved by the sum of scale times mean, times what the noise leaves of it. What is asked for of several in one
    batch is what each is asked for alone."""
    spec = spec_of(data(skill=SKILL), "skill")
    wishes = {
        "target_return": np.full(5, 20.0),
        "skill_10": np.array([0, 1.0, 1.0, -0.5, 0]),
        "skill_2": np.array([0, 0, 2.0, 0, 0]),
    }
    x, t = jax.random.normal(jax.random.key(0), (5, 1, 2)), jnp.float32(0.5)
    alpha, sigma = PROCESS.alpha(t), PROCESS.sigma(t)
    left = sigma**2 / (alpha**2 * VARIANCE + sigma**2)

    def moved(asked, x):
        return np.asarray(given.guided(predict, asked, spec)(x, t) - predict(x, t, jnp.zeros(4)))[:, 0]

    labels = np.stack([wishes["skill_10"], wishes["skill_2"]], 1) @ np.asarray(MEANS[1:])
    asked, expected = given.ask(wishes, 5, 2.0), left * (labels + 2.0 * 0.5 * np.asarray(MEANS[0]))
    np.testing.assert_allclose(moved(asked, x), expected, atol=1e-5)
    alone = given.ask({name: each[2:3] for name, each in wishes.items()}, 1, 2.0)
    np.testing.assert_allclose(moved(alone, x[2:3])[0], expected[2], atol=1e-5)
    assert not moved(given.ask({}, 5, 2.0), x).any()


def test_no_more_is_evaluated_than_an_environment_asks_for():
    wishes = {
        "target_return": np.zeros(2),
        "b_0": np.array([0.0, -1.0]),
        "a_1": np.array([0.0, 2.0]),
        "a_0": np.zeros(2),
    }
    asked = given.ask(wishes, 2, 0.0)
    np.testing.assert_array_equal(asked.entries[1], [2, 3])
    np.testing.assert_array_equal(asked.scales, [[0, 0], [2, -1]])
    assert given.ask(wishes, 2, 1.2).entries.shape == (2, 3)
    assert given.ask({"target_return": np.zeros(2)}, 2, 0.0).entries.shape == (2, 0)


def test_a_wish_for_an_episodes_return_becomes_its_returns_to_go():
    """Whoever is asked for what an episode did bring is asked, step after step, for what still came; and of something
    else that is asked for in between nothing is taken that came before. Without a return nothing happens."""
    source = data()
    to_go = rewards_to_go(source, 0.5).reshape(3, 4)
    asked = given.ask({"target_return": to_go[:, 0]}, 3, 1.2)
    for step, reward in enumerate([np.full(3, np.nan), *np.asarray(source.rewards, np.float32).reshape(3, 4).T[:3]]):
        asked = given.still_to_come(asked, reward, 0.5)
        np.testing.assert_allclose(asked.wishes["target_return"], to_go[:, step], rtol=1e-6)
        np.testing.assert_array_equal(asked.steps, step + 1)
    again = given.Conditional().ask_again(asked, {"target_return": np.array([5.0, 6.0, 7.0])}, 3)
    kept = given.still_to_come(again, np.ones(3), 0.5)
    np.testing.assert_array_equal(kept.wishes["target_return"], [5, 6, 7])
    np.testing.assert_array_equal(given.still_to_come(kept, np.ones(3), 0.5).wishes["target_return"], [8, 10, 12])
    labels = given.Conditional().ask_again(kept, {"skill_2": np.ones(3)}, 3)
    np.testing.assert_array_equal(labels.steps, kept.steps)
    nothing = given.ask({"skill_2": np.ones(3)}, 3, 1.2)
    assert given.still_to_come(nothing, np.ones(3), 0.5) is nothing


@pytest.mark.parametrize(
    ("infos", "label", "sentence"),
    [
        ({"skill": SKILL}, "skil", "have no label 'skil'; their infos are skill"),
        ({}, "skill", "no label 'skill'; their infos are none"),
        ({"skill": SKILL / 4}, "skill", r"'skill' has shape \[12\] and type float32; give a whole number"),
        ({"skill": np.stack([SKILL, SKILL], 1)}, "skill", r"shape \[12, 2\]"),
        ({"skill": np.full(12, -1)}, "skill", "'skill' has 0 values"),
    ],
)
def test_labels_that_cannot_be_told_are_refused(infos, label, sentence):
    with pytest.raises(DataError, match=sentence):
        given.label_values(data(**infos), [label])


def test_many_values_are_taken_for_a_measurement():
    many = Dataset.from_arrays(
        np.zeros((101, 1)), np.zeros((101, 1)), timeouts=np.arange(101) == 100, infos={"x": np.arange(101)}
    )
    with pytest.raises(DataError, match="'x' has 101 values; give one of 1 to 100"):
        given.label_values(many, ["x"])


def test_what_another_run_was_not_told_is_refused():
    labelled = data(skill=SKILL, wide=WIDE)
    spec = spec_of(labelled, "skill")
    with pytest.raises(DataError, match="was told no label 'wide'; it was told skill"):
        given.with_labels(windows(labelled, spec, 2), labelled, ["wide"], spec.kept[given.LABELS])
    other = data(skill=SKILL + 1)
    with pytest.raises(DataError, match="'skill' is 0 where the run to go on from knew 2, 10"):
        given.with_labels(windows(other, spec, 2), other, ["skill"], spec.kept[given.LABELS])
