"""What planners say of their plans: what films draw."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import reverie
from reverie.data import Dataset, Spec
from reverie.evaluation import RunPolicy
from reverie.planners.composed import Composed
from reverie.planners.shielded import shielded
from reverie.planning import Plan
from reverie.protocols import Planning
from reverie.training.run import Run

SMALL = {"horizon": 4, "multipliers": (1,), "width": 8, "diffusion_steps": 2}
planners = reverie.planners
RECEDING = {
    "diffuser": planners.Diffuser(**SMALL),
    "trebi": planners.TREBI(**SMALL),
    "shielded": shielded(planners.Diffuser)(**SMALL),
}
TO_GOALS = {
    "diffuser-maze": planners.DiffuserMaze(**SMALL),
    "positions": planners.DiffuserMaze(**SMALL, positions_alone=True),
    "hierarchical": planners.HierarchicalDiffuser(**SMALL | {"jump": 1, "low_multipliers": (1,)}),
}


def data(**changed) -> Dataset:
    rng = np.random.default_rng(0)
    arrays = {
        "observations": rng.normal(3, 2, (40, 4)),
        "actions": rng.uniform(-1, 1, (40, 2)),
        "rewards": rng.normal(size=40),
        "costs": rng.uniform(size=40),
        "timeouts": np.arange(40) % 10 == 9,
    }
    return Dataset.from_arrays(**arrays | changed)


def with_plans(carry):
    """The carry with known plans in place of none."""
    rng = np.random.default_rng(1)

    def known(leaf):
        rows = rng.uniform(-1, 1, leaf.rows.shape).astype(np.float32)
        return Plan(rows, leaf.step + 1)

    return jax.tree.map(
        lambda leaf: known(leaf) if isinstance(leaf, Plan) else leaf, carry, is_leaf=lambda x: isinstance(x, Plan)
    )


def plan_of(carry):
    leaves = jax.tree.leaves(carry, is_leaf=lambda x: isinstance(x, Plan))
    return next(leaf for leaf in leaves if isinstance(leaf, Plan)).rows


def wishes_of(planner, spec, n):
    from reverie.wishes import resolve

    return resolve(planner.name, planner.wishes(spec), {}, n) if hasattr(planner, "wishes") else {}


@pytest.mark.parametrize("name", RECEDING)
def test_a_receding_plan_goes_on_from_what_was_seen(name):
    planner = RECEDING[name]
    assert isinstance(planner, Planning)
    spec = planner.prepare(data())[1]
    seen = np.random.default_rng(2).normal(3, 2, (3, 4)).astype(np.float32)
    carry = with_plans(planner.reset(spec, 3, wishes_of(planner, spec, 3)))
    states = np.asarray(planner.planned(spec, seen, carry))
    assert states.shape == (3, 5, 4)
    np.testing.assert_allclose(states[:, 0], seen, rtol=1e-5)
    expected = spec.denormalise("observations", plan_of(carry)[..., planner.blocks(spec).slice("observations")])
    np.testing.assert_allclose(states[:, 1:], expected, rtol=1e-5)


@pytest.mark.parametrize("name", TO_GOALS)
def test_a_plan_to_a_goal_is_whole(name):
    planner = TO_GOALS[name]
    spec = planner.prepare(data())[1]
    seen = {"observation": np.zeros((2, 4), np.float32), "desired_goal": np.ones((2, 2), np.float32)}
    carry = with_plans(planner.reset(spec, 2, {}))
    low, high = data().observations.min(0), data().observations.max(0)
    rows = plan_of(carry)[..., planner.blocks(spec).slice("observations")]
    size = 2 if planner.positions_alone else 4
    expected = low[:size] + (rows + 1) / 2 * (high - low)[:size]
    np.testing.assert_allclose(planner.planned(spec, seen, carry), expected, rtol=1e-4, atol=1e-5)


def test_each_agent_shows_its_own_plan():
    team = np.random.default_rng(0).normal(size=(40, 3, 2))
    given = data(observations=team, actions=np.random.default_rng(1).uniform(-1, 1, (40, 3, 1)))
    planner = planners.MADiff(**SMALL, heads=1, history=1, execution="decentralised")
    spec = planner.prepare(given)[1]
    carry = with_plans(planner.reset(spec, 1, wishes_of(planner, spec, 1)))
    seen = team[:1].astype(np.float32)
    states = np.asarray(planner.planned(spec, seen, carry))
    assert states.shape == (1, 4, 3, 2)
    np.testing.assert_array_equal(states[0, 0], seen[0])
    for agent in range(3):
        own = plan_of(carry)[0, agent, 1:, 2 * agent : 2 * agent + 2]
        whole = np.zeros((3, 3, 2), np.float32)
        whole[:, agent] = own
        np.testing.assert_allclose(states[0, 1:, agent], spec.denormalise("observations", whole)[:, agent], rtol=1e-5)


def test_of_planners_together_the_first_one_s_plan_is_shown():
    member = planners.DecisionDiffuser(**SMALL)
    spec = member.prepare(data())[1]
    composed = Composed((member, member), (spec, spec), (0.5, 0.5))
    carries = [with_plans(member.reset(spec, 1, wishes_of(member, spec, 1))) for _ in range(2)]
    carries[1] = jax.tree.map(lambda leaf: 0 * leaf, carries[1])
    seen = np.ones((1, 4), np.float32)
    np.testing.assert_array_equal(composed.planned(spec, seen, tuple(carries)), member.planned(spec, seen, carries[0]))


@dataclass(frozen=True)
class Ahead:
    """Plans three steps by what its state says, from what it has seen."""

    name = "ahead"
    role = "planner"

    def reset(self, spec, n, wishes):
        return np.zeros((n, 3, 4), np.float32)

    def act(self, state, spec, observation, carry, feedback, key):
        return observation[:, :2], carry + state * np.arange(1.0, 4.0)[:, None]

    def planned(self, spec, observation, carry):
        return observation[:, None] + carry


def test_a_batched_policy_tells_the_plan_of_each_environment():
    run = Run(Ahead(), Spec.fit(data()), jnp.array([1.0, 10.0]), 0, (0, 1))
    policy = RunPolicy(run)
    policy.reset(6)
    seen = np.random.default_rng(3).uniform(2, 4, (6, 4)).astype(np.float32)
    policy.act(seen)
    for i in range(6):
        steps = np.arange(1, 4)[:, None] * (1 if i < 3 else 10)
        np.testing.assert_allclose(policy.planned(i), seen[i] + steps, rtol=1e-6)


def test_a_single_policy_tells_its_plan():
    policy = Run(Ahead(), Spec.fit(data()), jnp.array([1.0, 10.0]), 0, (0, 1)).policy(seed=1)
    seen = np.arange(4, dtype=np.float32)
    _, carry = policy.act(seen, policy.reset())
    np.testing.assert_allclose(policy.planned(seen, carry), seen + 10 * np.arange(1, 4)[:, None])


def test_who_keeps_no_plans_has_none_to_show():
    silent = Run(reverie.baselines.BC(), Spec.fit(data()), jnp.zeros(1), 0, (0,))
    assert RunPolicy(silent).planned(0) is None
    assert silent.policy().planned(np.zeros(4), None) is None
