from dataclasses import dataclass, replace
from types import SimpleNamespace

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete

from reverie.data.fields import vector
from reverie.environments import WaypointPolicy
from reverie.errors import ReverieError, RunError
from reverie.evaluation import REFERENCES, RunPolicy, evaluate
from reverie.evaluation.rollout import budget_of
from reverie.settings import Acting
from reverie.training import Run
from reverie.wishes import Wish


class Countdown(gymnasium.Env):
    """Ends after 3 to 7 steps, as its seed draws; pays the clipped action's sum. Observes (length, steps left).

    Odd lengths end by a terminal, even ones by truncation; success is told at the second step only.
    """

    spec = None
    stepped = 0

    def __init__(self, observation_dim=2, action_space=None):
        self.observation_space = Box(-np.inf, np.inf, (observation_dim,))
        self.action_space = action_space or Box(-1.0, 1.0, (2,))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.length = self.left = int(self.np_random.integers(3, 8))
        return self._observation(), {}

    def step(self, action):
        assert self.left > 0, "stepped after its end"
        assert self.action_space.contains(action)
        Countdown.stepped += 1
        self.left -= 1
        over = self.left == 0
        info = {"is_success": self.left == self.length - 2 and self.length > 4}
        return (
            self._observation(),
            float(action.sum()),
            over and self.length % 2 == 1,
            over and not self.length % 2,
            info,
        )

    def _observation(self):
        return np.full(self.observation_space.shape, self.left, np.float32)


class Constant:
    """A policy that always does the same, and notes what it was shown."""

    name = "constant"

    def __init__(self, value):
        self.value, self.shown = value, []

    def reset(self, n):
        self.n = n

    def act(self, observations, feedback=None):
        self.shown.append(observations)
        return np.full((self.n, 2), self.value)


@dataclass(frozen=True)
class Fake:
    """Acts by its state (one number a seed) plus its own count of steps a hundredth each."""

    name: str = "fake"
    role: str = "policy"
    noise: Acting[float] = 0.0
    goals: bool = False

    def reset(self, spec, n, wishes):
        return {"count": jnp.zeros(n), "total": jnp.zeros(n)}

    def act(self, state, spec, observation, carry, feedback, key):
        first = observation["observation"] if isinstance(observation, dict) else observation
        level = state["level"] + 0.01 * carry["count"] + self.noise * jax.random.normal(key, carry["count"].shape)
        action = jnp.broadcast_to(level[:, None], (first.shape[0], spec.action_dim))
        return action, {"count": carry["count"] + 1, "total": carry["total"] + first.sum(-1)}


def _run(levels=(0.1, 0.2), observation_dim=2, action_dim=2, algorithm=None, path=None):
    return Run(
        algorithm=algorithm or Fake(),
        spec=_Spec(observation_dim, action_dim),
        states={"level": jnp.array(levels)},
        seeds=tuple(range(10, 10 + len(levels))),
        step=7,
        path=path,
    )


@jax.tree_util.register_static
@dataclass(frozen=True)
class _Spec:
    observation_dim: int
    action_dim: int

    @property
    def observation_space(self):
        return vector(self.observation_dim)

    @property
    def action(self):
        return vector(self.action_dim)


def _lengths(scores):
    return scores.lengths[0]


def test_returns_lengths_and_ends_are_exact():
    scores = evaluate(Constant(0.25), Countdown, episodes=12, progress=False)
    lengths = _lengths(scores)
    assert scores.returns.shape == (1, 12) and len(set(lengths)) > 2
    np.testing.assert_allclose(scores.returns[0], 0.5 * lengths)
    np.testing.assert_array_equal(scores.terminated[0], lengths % 2 == 1)
    np.testing.assert_array_equal(scores.successes[0], lengths > 4)
    np.testing.assert_array_equal(scores.arrivals[0], np.where(lengths > 4, 2, np.nan))
    assert (scores.environment, scores.policy, scores.seeds, scores.step) == ("Countdown", "constant", (0,), None)


def test_an_ended_episode_is_not_stepped_and_its_row_stays():
    Countdown.stepped = 0
    policy = Constant(0.0)
    scores = evaluate(policy, Countdown, episodes=12, progress=False)
    assert Countdown.stepped == scores.lengths.sum()
    assert len(policy.shown) == scores.lengths.max()
    expected = np.maximum(scores.lengths[0][:, None] - len(policy.shown) + 1, 0)
    np.testing.assert_array_equal(policy.shown[-1], np.repeat(expected, 2, axis=1))


def test_actions_are_clipped_into_the_space():
    scores = evaluate(Constant(5.0), Countdown, episodes=3, progress=False)
    np.testing.assert_allclose(scores.returns, 2.0 * scores.lengths)


def test_max_steps_cuts_without_a_terminal():
    scores = evaluate(Constant(0.5), Countdown, episodes=12, max_steps=2, progress=False)
    assert (scores.lengths == 2).all() and not scores.terminated.any()


def test_every_seed_of_a_run_acts_by_its_own_state_on_the_same_episodes():
    """The level plus a hundredth a step, twice: 2 (level · n + 0.01 n (n − 1) / 2) over n steps."""
    scores = evaluate(_run((0.1, 0.2, -0.3)), Countdown, episodes=5, progress=False)
    assert scores.seeds == (10, 11, 12) and scores.step == 7 and scores.policy == "fake"
    assert (scores.lengths == scores.lengths[0]).all()
    n = scores.lengths[0]
    for level, returns in zip((0.1, 0.2, -0.3), scores.returns, strict=True):
        np.testing.assert_allclose(returns, 2 * (level * n + 0.01 * n * (n - 1) / 2), atol=1e-5)


def test_one_run_alone_or_among_seeds_acts_alike():
    both, alone = (evaluate(_run(levels), Countdown, episodes=4, progress=False) for levels in ((0.1, 0.4), (0.1,)))
    np.testing.assert_allclose(both.returns[0], alone.returns[0], atol=1e-6)


def test_the_vectorised_and_the_mapped_seeds_agree(monkeypatch):
    def returns():
        jax.clear_caches()
        return evaluate(_run(algorithm=Fake(noise=0.1)), Countdown, episodes=4, progress=False).returns

    mapped = returns()
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    np.testing.assert_allclose(returns(), mapped, atol=1e-5)
    jax.clear_caches()


def test_the_seed_decides_starts_and_noise():
    run = _run(algorithm=Fake(noise=0.1))
    first, again, other = (evaluate(run, Countdown, episodes=6, seed=s, progress=False) for s in (0, 0, 1))
    np.testing.assert_array_equal(first.returns, again.returns)
    assert not np.array_equal(first.lengths, other.lengths)
    assert not np.allclose(first.returns[0] - first.returns[1], (first.returns[0] - first.returns[1])[0])


def test_more_episodes_begin_with_the_same_ones():
    few, many = (evaluate(Constant(0.1), Countdown, episodes=n, progress=False) for n in (3, 9))
    np.testing.assert_array_equal(few.lengths[0], many.lengths[0, :3])


def test_latency_leaves_the_first_call_out():
    class Slow(Constant):
        def act(self, observations, feedback=None):
            import time

            time.sleep(0.2 if not self.shown else 0.002)
            return super().act(observations, feedback)

    latency = evaluate(Slow(0.0), Countdown, episodes=3, progress=False).latency
    assert latency.first >= 200 and 2 <= latency.median <= latency.p99 < 100 and latency.batch == 3


def test_an_environment_without_success_reports_none():
    class Silent(Countdown):
        def step(self, action):
            return *super().step(action)[:4], {}

    assert evaluate(Constant(0.0), Silent, episodes=2, progress=False).successes is None


def test_scores_go_into_the_runs_folder(tmp_path):
    evaluate(_run(path=tmp_path), Countdown, episodes=2, progress=False)
    evaluate(_run(path=tmp_path), Countdown, episodes=2, progress=False)
    import json

    assert len(json.loads((tmp_path / "evaluation.json").read_text())["Countdown"]) == 2


def _refused(run, env, error=ReverieError, **options):
    with pytest.raises(error) as caught:
        evaluate(run, env, progress=False, **{"episodes": 1, **options})
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_sizes_that_differ_are_quoted():
    message = _refused(_run(observation_dim=11), lambda: Countdown(17))
    assert "observations that are vectors float32 [11], and those of Countdown are vectors float32 [17]" in message
    message = _refused(_run(action_dim=3), Countdown)
    assert "actions that are vectors float32 [3], and those of Countdown are vectors float32 [2]" in message


def test_discrete_actions_and_odd_observations_are_refused():
    assert "action space Discrete(4); only" in _refused(Constant(0.0), lambda: Countdown(action_space=Discrete(4)))
    env = Countdown()
    env.observation_space = Dict({"image": Box(0, 1, (3, 3, 3))})
    assert "Countdown's 'image' has the observation space Box(0.0, 1.0" in _refused(Constant(0.0), lambda: env)


def test_actions_that_are_not_finite_or_of_another_shape_are_refused():
    message = _refused(Constant(np.nan), Countdown, episodes=2)
    assert "constant gave the action [nan, nan] in environment 0 of 2 at step 1" in message
    wide = Constant(0.0)
    wide.act = lambda observations, feedback: np.zeros((1, 5))
    assert "actions of shape (1, 5) for 1 environments whose actions have shape (2,)" in _refused(wide, Countdown)


def test_bad_numbers_and_algorithms_that_do_not_act_are_refused():
    assert "episodes must be at least 1, but is 0" in _refused(Constant(0.0), Countdown, episodes=0)
    assert "max_steps must be at least 1, but is 0" in _refused(Constant(0.0), Countdown, max_steps=0)
    maker = SimpleNamespace(name="synther", role="synthesizer", chunks=iter)
    message = _refused(_run(algorithm=maker), Countdown, RunError)
    assert message == "synther is a synthesizer: it generates data and does not act."


def test_the_adapter_can_be_reset():
    policy = RunPolicy(_run((0.1,)))
    outcomes = []
    for _ in range(2):
        policy.reset(3)
        policy.act(np.zeros((3, 2)))
        outcomes.append(policy.act(np.zeros((3, 2))))
    np.testing.assert_array_equal(*outcomes)
    np.testing.assert_allclose(outcomes[0], 0.11, atol=1e-6)


def test_every_step_draws_its_own_noise():
    policy = RunPolicy(_run((0.1, 0.1), algorithm=Fake(noise=1.0)))
    policy.reset(2)
    first, second = (policy.act(np.zeros((2, 2)))[:, 0] for _ in range(2))
    assert len(np.unique(np.round(np.concatenate([first, second - 0.01]), 4))) == 4


def test_a_maze_is_normalised_by_what_is_measured_beside_it():
    pytest.importorskip("gymnasium_robotics")
    scores = evaluate(WaypointPolicy("pointmaze-umaze"), "pointmaze-umaze", episodes=4, progress=False)
    assert scores.successes.all()
    assert scores.reference.high == scores.returns.mean() > scores.reference.low
    assert scores.normalised.mean() == pytest.approx(100)
    assert (scores.arrivals < scores.lengths).all()
    run = replace(Fake(), name="goal fake", goals=True)
    run = evaluate(_run((0.0, 0.5), 4, 2, run), "pointmaze-umaze", episodes=3, max_steps=20, progress=False)
    assert run.lengths.tolist() == [[20] * 3] * 2


def test_a_single_task_is_normalised_likewise():
    pytest.importorskip("gymnasium_robotics")
    name = "pointmaze-umaze-single"
    scores = evaluate(WaypointPolicy(name), name, episodes=3, progress=False)
    assert scores.environment == name and scores.successes.all()
    assert scores.normalised.mean() == pytest.approx(100)


def test_a_method_without_goals_sees_the_state_alone_where_the_goal_is_always_the_same():
    pytest.importorskip("gymnasium_robotics")
    scores = evaluate(_run((0.0,), 4, 2), "pointmaze-umaze-single", episodes=2, max_steps=150, progress=False)
    assert scores.lengths.tolist() == [[150, 150]]
    assert scores.normalised is not None


def test_goals_and_plain_observations_are_not_mixed_up():
    pytest.importorskip("gymnasium_robotics")
    with pytest.raises(ReverieError, match="without a goal and pointmaze-umaze gives an observation with a"):
        evaluate(_run((0.0,), 4, 2), "pointmaze-umaze", episodes=1, progress=False)
    with pytest.raises(ReverieError, match="desired goal and Countdown gives observations without a goal"):
        evaluate(_run(algorithm=Fake(goals=True)), Countdown, episodes=1, progress=False)


def test_changed_acting_stands_in_the_name():
    scores = evaluate(_run().acting(noise=0.5), Countdown, episodes=2, progress=False)
    assert scores.policy == "fake (noise=0.5)"


def test_the_budget_is_what_is_said_or_asked_for_or_trained_for():
    wish = {"budget": Wish("what the episode may cost", "cost", default=3.0)}
    asking = SimpleNamespace(wishes=wish, asked={"budget": np.float32([1, 2])}, algorithm=SimpleNamespace())
    np.testing.assert_array_equal(budget_of(asking, None, (2, 2)), [[1, 2]] * 2)
    np.testing.assert_array_equal(budget_of(asking, 7.0, (2, 2)), np.full((2, 2), 7))
    silent = SimpleNamespace(wishes=wish, asked={}, algorithm=SimpleNamespace(budget=5.0))
    np.testing.assert_array_equal(budget_of(silent, None, (1, 2)), [[3, 3]])
    trained = SimpleNamespace(wishes={}, asked={}, algorithm=SimpleNamespace(budget=5.0))
    np.testing.assert_array_equal(budget_of(trained, None, (1, 2)), [[5, 5]])
    discounted = {"budget": Wish("what the episode may cost", "discounted cost", default=3.0)}
    others = SimpleNamespace(wishes=discounted, asked={}, algorithm=SimpleNamespace())
    assert budget_of(others, None, (1, 2)) is None and budget_of(SimpleNamespace(), None, (1, 2)) is None


def test_mujoco_scores_are_normalised_by_the_table():
    pytest.importorskip("mujoco")

    class Still(Constant):
        def act(self, observations, feedback=None):
            return np.zeros((self.n, 3))

    scores = evaluate(Still(0.0), "Hopper-v5", episodes=2, max_steps=30, progress=False)
    np.testing.assert_allclose(scores.normalised, REFERENCES["Hopper-v5"].normalise(scores.returns))
    assert scores.successes is None
