"""What a method is asked for when it acts, and what the last step brought: in evaluation, alone, and online."""

import warnings
from dataclasses import dataclass
from typing import ClassVar

import gymnasium
import jax.numpy as jnp
import numpy as np
import pytest

import reverie
from reverie.catalogue import ALGORITHMS
from reverie.cli import main
from reverie.data import Dataset, Spec, transitions
from reverie.errors import ReverieError, ReverieWarning, RunError
from reverie.evaluation import RunPolicy
from reverie.evaluation.rollout import play
from reverie.training import Run, fit_online
from reverie.wishes import Wish, resolve

HIGH = 1000.0


class Paying(gymnasium.Env):
    """Pays 1, 2, 3, ... and costs a tenth of it; ends after `length` steps; keeps the actions it is given."""

    observation_space = gymnasium.spaces.Box(-HIGH, HIGH, (1,), np.float32)
    action_space = gymnasium.spaces.Box(-HIGH, HIGH, (1,), np.float32)
    lengths: ClassVar[list[int]] = []
    """Of the environments in the order in which they are made, over and over."""
    made: ClassVar[list] = []

    def __init__(self):
        self.length = self.lengths[len(Paying.made) % len(self.lengths)]
        self.actions: list[list[float]] = []
        Paying.made.append(self)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        self.actions.append([])
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.steps += 1
        self.actions[-1].append(round(float(action[0]), 4))
        info = {"cost": 0.1 * self.steps, "light": 10.0 * self.steps}
        return np.zeros(1, np.float32), float(self.steps), self.steps == self.length, False, info


@pytest.fixture(autouse=True)
def environments():
    Paying.lengths, Paying.made = [2, 4, 3], []


@dataclass(frozen=True)
class Firm:
    """Its action is what remains of the return that it was asked for; the budget and the light are told beside."""

    name: ClassVar = "firm"
    role: ClassVar = "policy"
    paper: ClassVar = "none"
    needs: ClassVar = ()
    signals: ClassVar = ("light",)
    batch_size: int = 4

    def prepare(self, data, spec=None):
        spec = spec or Spec.fit(data)
        return transitions(data, spec), spec

    def init(self, key, spec):
        return jnp.zeros(())

    def update(self, state, batch, key):
        return state + 1, {"loss": state}

    def wishes(self, spec):
        return {
            "target_return": Wish("the return to reach", default=100.0, low=0.0, high=500.0),
            "place": Wish("where to go", shape=(2,), default=(0.0, 0.0)),
        }

    def reset(self, spec, n, wishes):
        assert wishes["target_return"].shape == (n,) and wishes["place"].shape == (n, 2)
        zeros = jnp.zeros(n)
        return {"left": jnp.asarray(wishes["target_return"]), "cost": zeros, "light": zeros}

    def act(self, state, spec, observation, carry, feedback, key):
        left = carry["left"] - feedback["reward"]
        carry = {"left": left, "cost": carry["cost"] + feedback["cost"], "light": feedback["light"]}
        return left[:, None], carry

    @property
    def exploring(self):
        return self


@dataclass(frozen=True)
class ToGo(Firm):
    """Can be asked for something else in the middle of an episode."""

    name: ClassVar = "to-go"

    def rewish(self, carry, wishes):
        return {**carry, "left": jnp.asarray(wishes["target_return"])}


@dataclass(frozen=True)
class Demanding(ToGo):
    """Must be told the return."""

    name: ClassVar = "demanding"

    def wishes(self, spec):
        return {**super().wishes(spec), "target_return": Wish("the return to reach")}


def run_of(algorithm=None, seeds=(0,)) -> Run:
    data = Dataset.from_arrays(np.zeros((8, 1)), np.zeros((8, 1)), np.zeros(8), timeouts=np.arange(8) % 4 == 3)
    _, spec = ToGo().prepare(data)
    return Run(algorithm or ToGo(), spec, jnp.zeros(len(seeds)), 1, seeds)


def acted(run, episodes=3):
    """What was done in each environment of an evaluation."""
    reverie.evaluate(run, Paying, episodes=episodes, progress=False)
    return [env.actions[0] for env in Paying.made]


LEFT = [[100, 99], [100, 99, 97, 94], [100, 99, 97]]
"""What remains of 100 after rewards of 1, 2, 3, in episodes of 2, 4 and 3 steps."""


def test_by_default_and_in_evaluation_the_rewards_are_taken_off():
    assert acted(run_of()) == LEFT


def test_one_for_all_and_every_seed_on_its_own():
    run = run_of(seeds=(0, 1)).acting(target_return=50)
    assert run.name == "to-go (target_return=50)"
    expected = [[left - 50 for left in row] for row in LEFT]
    assert acted(run) == expected * 2


def test_one_for_each_environment():
    asked = run_of(seeds=(0, 1)).acting(target_return=np.array([10.0, 20.0, 30.0]))
    expected = [[left - 100 + own for left in row] for own, row in zip((10, 20, 30), LEFT, strict=True)]
    assert acted(asked) == expected * 2


def test_alone_the_feedback_is_what_the_last_step_brought():
    policy = run_of().policy()
    for _ in range(2):  # a carry of a new episode begins anew
        carry, actions = policy.reset(target_return=10.0), []
        for reward in (0.0, 1.0, 2.0):
            action, carry = policy.act(np.zeros(1), carry, {"reward": reward, "cost": 0.5, "light": reward})
            actions.append(float(action[0]))
        assert actions == [10, 9, 7]
        assert (float(carry[1]["cost"][0]), float(carry[1]["light"][0])) == (1.5, 2.0)
    action, _ = policy.act(np.zeros(1), policy.reset())
    assert float(action[0]) == 100  # as by default; and nothing was brought


def test_alone_what_the_run_was_asked_for_holds_unless_the_episode_asks_otherwise():
    policy = run_of().acting(target_return=7.0).policy()
    assert float(policy.act(np.zeros(1), policy.reset())[0][0]) == 7
    assert float(policy.act(np.zeros(1), policy.reset(target_return=3.0))[0][0]) == 3


def test_a_wish_may_change_in_mid_episode():
    policy = run_of(Demanding()).policy()
    carry = policy.reset(target_return=10.0)
    _, carry = policy.act(np.zeros(1), carry)
    carry = policy.rewish(carry, target_return=40.0)
    action, _ = policy.act(np.zeros(1), carry, {"reward": 1.0})
    assert float(action[0]) == 39
    with pytest.raises(
        ReverieError, match="demanding cannot be asked for 'budget'; it can be asked for target_return, p"
    ):
        policy.rewish(carry, budget=1.0)


def test_wishes_alone_are_enough_to_be_asked():
    run = run_of(Firm()).acting(target_return=7.0)
    assert list(run.wishes) == ["target_return", "place"]
    policy = run.policy()
    carry = policy.reset()
    assert float(policy.act(np.zeros(1), carry)[0][0]) == 7
    with pytest.raises(ReverieError, match="firm cannot change its wishes in the middle of an episode; ask in reset"):
        policy.rewish(carry, target_return=3.0)


def test_feedback_of_another_name_is_refused():
    sentence = "'rewards' is no feedback that to-go is told of; it can be told reward, cost, light"
    policy = run_of().policy()
    with pytest.raises(ReverieError, match=sentence):
        policy.act(np.zeros(1), policy.reset(), {"rewards": 1.0})
    together = RunPolicy(run_of())
    together.reset(2)
    with pytest.raises(ReverieError, match=sentence):
        together.act(np.zeros((2, 1)), {"rewards": np.ones(2)})


@pytest.mark.parametrize("envs", [1, 3])
def test_online_every_environments_carry_goes_on_and_begins_anew_with_its_episode(envs):
    settings = {"warmup": 6 * envs, "update_interval": 6 * envs, "log_every": 6 * envs, "envs": envs}
    fit_online(ToGo(), Paying, steps=18 * envs, progress=False, **settings)
    for env, whole in zip(Paying.made, LEFT, strict=False):
        # The first six steps were random. The carry began after them, in mid-episode, and saw the reward of the last.
        steps = [action for episode in env.actions for action in episode][6:]
        begun = 6 % env.length
        first = [100 - sum(range(begun, step + 1)) for step in range(begun, env.length)] if begun else []
        assert steps == (first + whole * 6)[:12]


def test_costs_and_signals_are_told_and_costs_are_summed():
    policy = RunPolicy(run_of())
    played = play(policy, [Paying() for _ in range(3)], [0, 0, 0])
    np.testing.assert_allclose(played.costs, [0.3, 1.0, 0.6])
    np.testing.assert_allclose(played.returns, [3, 10, 6])
    # After the last call the carry has the costs of all steps but the last, in the episode that was the longest.
    assert float(policy.carries["cost"][0, 1]) == pytest.approx(0.6)
    assert float(policy.carries["light"][0, 1]) == 30.0
    scores = reverie.evaluate(run_of(), Paying, episodes=3, progress=False)
    np.testing.assert_allclose(scores.costs, [[0.3, 1.0, 0.6]])
    assert scores.estimates["cost"].mean == pytest.approx(1.9 / 3)
    assert scores.to_dict()["costs"] == scores.costs.tolist()


def test_an_environment_without_costs_has_none():
    class Free(Paying):
        def step(self, action):
            return *super().step(action)[:4], {}

    scores = reverie.evaluate(run_of(), Free, episodes=2, progress=False)
    assert scores.costs is None and "cost" not in scores.estimates


def test_wishes_are_arrays_of_their_own():
    declared = ToGo().wishes(None)
    found = resolve("to-go", declared, {"place": [1, 2]}, 3)
    assert found["place"].tolist() == [[1, 2]] * 3 and found["place"].dtype == np.float32
    found["place"][0] = 5  # not a view of one row
    assert found["place"][1].tolist() == [1, 2]
    each = resolve("to-go", declared, {"place": np.arange(6).reshape(3, 2)}, 3)
    assert each["place"].tolist() == [[0, 1], [2, 3], [4, 5]]


@pytest.mark.parametrize(
    "asked, sentence",
    [
        ({"target": 3}, "to-go cannot be asked for 'target'; it can be asked for target_return, place"),
        (
            {"target_return": [1.0, 2.0]},
            r"target_return has shape \(2,\), and must be a number, or one for each of the 3",
        ),
        ({"place": 1.0}, r"place has shape \(\), and must be an array of shape \(2,\), or one for each"),
        ({"target_return": "much"}, "target_return = 'much' is str, and must be a number"),
        ({"place": {"x": 1}}, r"place = {'x': 1} is dict, and must be an array of shape \(2,\)"),
        (
            {"target_return": [1.0, np.nan, 3.0]},
            r"target_return = \[1.0, nan, 3.0\] holds NaN, which nothing can reach",
        ),
        ({"target_return": None}, None),
    ],
)
def test_what_cannot_be_asked_for_gets_a_sentence(asked, sentence):
    if sentence is None:
        sentence, declared = r"must be told target_return \(the return to reach\); give it", Demanding().wishes(None)
    else:
        declared = ToGo().wishes(None)
    with pytest.raises(ReverieError, match=sentence):
        resolve("to-go", declared, asked, 3)


def test_a_default_may_depend_on_the_other_wishes():
    """Asked for or not, and declared before it or after."""
    declared = {
        "more": Wish("by the start", default=lambda wishes: 2 * wishes["start"], high=9.0),
        "start": Wish("a number", default=1.0),
    }
    found = resolve("it", declared, {}, 2)
    assert list(found) == ["more", "start"]
    np.testing.assert_array_equal(found["more"], np.float32([2, 2]))
    np.testing.assert_array_equal(resolve("it", declared, {"start": [3.0, 4.0]}, 2)["more"], [6, 8])
    np.testing.assert_array_equal(resolve("it", declared, {"start": 3.0, "more": 5.0}, 2)["more"], [5, 5])
    with pytest.warns(ReverieWarning, match="more = 10 is outside what was seen in training"):
        resolve("it", declared, {"start": 5.0}, 1)


def test_what_was_not_seen_in_training_is_warned_of():
    declared = ToGo().wishes(None)
    with pytest.warns(ReverieWarning, match="target_return = 501 is outside what was seen in training, 0 to 500"):
        resolve("to-go", declared, {"target_return": [3.0, 501.0]}, 2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        resolve("to-go", declared, {"target_return": 500.0}, 2)


def test_acting_refuses_a_name_that_is_neither_a_field_nor_a_wish():
    with pytest.raises(
        RunError, match="'budget' is nothing that to-go can change in acting; it can change target_return"
    ):
        run_of().acting(budget=3)


def test_the_command_line_asks(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(ALGORITHMS, "to-go", ToGo)
    gymnasium.register("ReveriePaying-v0", Paying)
    try:
        data = Dataset.from_arrays(np.zeros((8, 1)), np.zeros((8, 1)), np.zeros(8), timeouts=np.arange(8) % 4 == 3)
        reverie.fit(ToGo(), data, steps=2, out=tmp_path / "run", progress=False)
        asked = ["eval", str(tmp_path / "run"), "--env", "ReveriePaying-v0", "--episodes", "3"]
        assert main([*asked, "--acting", "target_return=30"]) == 0
        assert [env.actions[0] for env in Paying.made] == [[left - 70 for left in row] for row in LEFT]
        assert "to-go (target_return=30)" in capsys.readouterr().out
        assert main([*asked, "--acting", "target_return=much"]) == 2
        assert "target_return = 'much' is str, and must be a number" in capsys.readouterr().err
        assert main([*asked, "--acting", "target_return=501"]) == 0
        assert "reverie: target_return = 501 is outside" in capsys.readouterr().err
    finally:
        del gymnasium.registry["ReveriePaying-v0"]
