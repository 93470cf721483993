"""Several planners' scores in one plan: by planners whose windows are Gaussians, what becomes of one with itself, and
what cannot be composed."""

from dataclasses import replace

import jax
import numpy as np
import pytest
from gaussian_windows import SMALL, gaussian, state_of

from reverie.baselines import BC
from reverie.data import Dataset
from reverie.errors import RunError
from reverie.evaluation.rollout import RunPolicy
from reverie.planners import MADiff
from reverie.planners.composed import compose_runs
from reverie.training import Run


def data(seed=0, size=2, **arrays):
    """Forty episodes of two steps."""
    rng = np.random.default_rng(seed)
    given = {
        "observations": rng.uniform(-1, 1, (80, size)),
        "actions": rng.uniform(-1, 1, (80, 1)),
        "rewards": rng.normal(size=80),
        "timeouts": np.arange(80) % 2,
        "infos": {"skill": np.arange(80) // 2 % 2},
    }
    return Dataset.from_arrays(**given | arrays)


def run_of(algorithm=SMALL, data=data(), seeds=(0, 1), spec=None) -> Run:
    """Not trained."""
    spec = algorithm.prepare(data, spec)[1]
    states = jax.tree.map(lambda leaf: np.stack([leaf] * len(seeds)), state_of(algorithm, spec))
    return Run(algorithm, spec, states, 0, seeds)


RUN = run_of()


def windows(mean=(0.0, 0.0), told=0.1):
    return replace(RUN, states=gaussian(RUN.states, mean, told))


def actions(run, n=16):
    policy = RunPolicy(run)
    policy.reset(n)
    return policy.act(np.zeros((n, 2), np.float32))


def test_gaussian_windows_have_the_mean_of_the_means():
    """With scales 0.25 and 0.75, whose sum is 1, so that the width is the models' own."""
    one, two = windows((0.4, 0.0)), windows((0.0, -0.4))
    together = compose_runs([one, two], [0.25, 0.75])
    np.testing.assert_allclose(actions(together), actions(windows((0.1, -0.3))), atol=1e-5)
    only_one = together.acting(scales=(1.0, 0.0))
    np.testing.assert_allclose(actions(only_one), actions(one), atol=1e-5)
    assert np.abs(actions(one) - actions(two)).max() > 1e-3


def test_a_planner_with_itself_is_itself_and_each_is_asked_for_its_own():
    asked = windows().acting(skill_1=1.5, guidance_scale=0.0)
    both = compose_runs([asked, asked])
    np.testing.assert_allclose(actions(both), actions(asked), atol=1e-5)
    assert both.asked == {"skill_1_0": 1.5, "skill_1_1": 1.5}
    assert set(both.wishes) == {f"{name}_{i}" for name in ("target_return", "skill_0", "skill_1") for i in (0, 1)}
    other = both.acting(skill_1_1=-1.5)
    assert np.abs(actions(other) - actions(both)).max() > 1e-4
    policy = both.policy(seed=1)
    carry = policy.rewish(policy.reset(), skill_1_1=-1.5)
    fresh = other.policy(seed=1).reset()
    for mine, theirs in zip(jax.tree.leaves(carry[1]), jax.tree.leaves(fresh[1]), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert policy.act(np.zeros(2), carry)[0].shape == (1,)
    with pytest.raises(ValueError, match="'skill_1' is nothing that composed can change"):
        both.acting(skill_1=1)


def test_each_planner_is_asked_for_what_is_still_to_come():
    """After a reward, of those whose wish is a return to go."""
    falling = replace(RUN, algorithm=replace(SMALL, return_to_go=True, discount=0.5))
    policy = compose_runs([windows(), falling]).acting(target_return_0=2, target_return_1=2).policy()
    carry = policy.act(np.zeros(2), policy.reset())[1]
    _, (first, second) = policy.act(np.zeros(2), carry, {"reward": 0.5})[1]
    assert [float(asked.wishes["target_return"][0]) for _, asked in (first, second)] == [2, 3]


@pytest.mark.parametrize(
    ("other", "sentence"),
    [
        (lambda: run_of(data=data(size=3)), r"observations that are vectors float32 \[2\] and vectors float32 \[3\]"),
        (
            lambda: run_of(data=data(seed=1)),
            r"observations are in other units \(column 0 is\), where scores do not add",
        ),
        (lambda: run_of(replace(SMALL, horizon=1)), "horizon = 2 and 1"),
        (lambda: run_of(replace(SMALL, diffusion_steps=6)), "diffusion_steps = 5 and 6"),
        (lambda: run_of(seeds=(0,)), "have 2 and 1 seeds"),
        (lambda: run_of(data=data(actions=np.zeros((80, 2)))), "actions that are"),
        (lambda: run_of(BC(hidden=(8,))), "bc has no denoiser of windows"),
    ],
)
def test_what_has_no_windows_in_common_is_refused(other, sentence):
    with pytest.raises(RunError, match=sentence):
        compose_runs([RUN, other()])


TEAM = MADiff(horizon=4, width=8, multipliers=(4,), diffusion_steps=2, hidden=(8,))


def of_team(algorithm=TEAM, sizes=(2, 1)):
    """A run that was never begun, of agents with so many columns of observations."""
    observations = np.zeros((80, 2, 2))
    for agent, size in enumerate(sizes):
        observations[:, agent, :size] = np.random.default_rng(0).uniform(-1, 1, (80, 1))
    arrays = {"observations": observations, "actions": np.zeros((80, 2, 1))}
    made = data(**arrays, attributes={"observation_sizes": list(sizes)})
    return Run(algorithm, algorithm.prepare(made)[1], {}, 0, (0,))


@pytest.mark.parametrize(
    ("other", "sentence"),
    [
        (lambda: of_team(replace(TEAM, history=1)), "history = 0 and 1"),
        (lambda: of_team(replace(TEAM, execution="decentralised")), "execution = 'centralised' and 'decentralised'"),
        (lambda: of_team(sizes=(2, 2)), r"observations of \[2, 1\] and \[2, 2\] columns"),
    ],
)
def test_teams_that_see_or_plan_differently_are_refused(other, sentence):
    first = of_team()
    assert compose_runs([first, first]).algorithm.scales == (0.5, 0.5)
    with pytest.raises(RunError, match=sentence):
        compose_runs([first, other()])


def test_a_run_alone_and_a_scale_too_many_are_refused():
    with pytest.raises(RunError, match="1 runs were given"):
        compose_runs([RUN])
    with pytest.raises(RunError, match="2 runs were given with 3 scales"):
        compose_runs([RUN, RUN], [1, 1, -1])


def test_a_run_in_the_first_one_s_units_is_composed():
    """As `fit` has them that begins from the first."""
    assert compose_runs([RUN, run_of(data=data(seed=1), spec=RUN.spec)]).algorithm.scales == (0.5, 0.5)
