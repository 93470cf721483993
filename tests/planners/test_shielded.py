"""Shielded planners: what a plan keeps to, what it leaves alone, and what is said of it.

The planner's windows are Gaussian about the straight line from start to goal, so that its denoiser is known, and
nothing is trained.
"""

import warnings
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gaussian_windows import state_of

import reverie
from reverie import planners
from reverie.cli import main
from reverie.data import Dataset, MinMax, Spec
from reverie.diffusion import value_gradient
from reverie.errors import ReverieError, ReverieWarning, RunError
from reverie.planners.composed import compose_runs
from reverie.planners.shielded import Guard, shield_run, shielded
from reverie.planning.bending import interpolation
from reverie.training import Run
from reverie.training.adapting import check_plans

H, N = 16, 1000
DATA = Dataset.from_arrays(
    np.concatenate([[[-1.5, -1, -2, -2], [1.5, 1.2, 2, 2]], np.zeros((6, 4))]),
    np.eye(8)[:, :2],
    rewards=np.arange(8.0),
    costs=np.arange(8) % 2,
    timeouts=np.arange(8) == 7,
)
"""Its columns have other units and another middle each."""
SPEC = Spec.fit(DATA, observations=MinMax, actions=MinMax)
TINY = {"horizon": H, "width": 32, "multipliers": (1,), "diffusion_steps": 20}
MAZE = shielded(planners.DiffuserMaze)(**TINY, barriers=("disc",))
MASK = MAZE.inpaint_mask(H, MAZE.blocks(SPEC))


def ends(n=N):
    rng = np.random.default_rng(0)
    return rng.uniform(-1, 1, (2, n, 2)).astype(np.float32)


def across(start, goal):
    """Discs `[n, 1, 3]` on the straight lines, clear of both ends."""
    rng = np.random.default_rng(1)
    middle = start + rng.uniform(0.4, 0.6, (len(start), 1)) * (goal - start)
    radius = 0.7 * np.minimum(0.4 * np.linalg.norm(goal - start, axis=1), 0.5)
    beside = rng.uniform(-0.4, 0.4, (len(start), 2)) * radius[:, None]
    return jnp.asarray(np.concatenate([middle + beside, radius[:, None]], 1)[:, None], jnp.float32)


def lines(start, goal):
    """The straight lines as windows in network units."""
    states = np.concatenate([np.linspace(start, goal, H, axis=1), np.zeros((len(start), H, 2))], -1)
    return jnp.zeros((len(start), H, 6)).at[..., 2:].set(SPEC.normalise("observations", states))


@partial(jax.jit, static_argnums=(0, 3))
def planned(algorithm, mean, told, guided=False):
    """Plans from and to the ends of the lines `mean`, and their smallest b over free rows."""
    process, variance = algorithm.process, 0.003

    def denoiser(x, t):
        alpha, sigma = process.alpha(t), process.sigma(t)
        return mean + alpha * variance / (alpha**2 * variance + sigma**2) * (x - alpha * mean)

    guard = Guard(algorithm, SPEC, told)
    guide = value_gradient(lambda x, t: 20 * x[..., 3].sum((-2, -1)), 1.0) if guided else None
    acting = replace(algorithm, guard=guard)
    rows = acting.denoise(denoiser, jax.random.key(0), mean, MASK, clip_x0=(-1, 1), guide=guide)
    return rows, guard.measured(rows)[0][:, 1:-1].min((1, 2))


VARIANTS = ("robust", "relaxed", "time-varying")


@pytest.mark.parametrize("way", [*VARIANTS, "afterwards", "smooth"])
def test_a_thousand_plans_across_a_disc_keep_out_of_it(way):
    """Those of no shield do not, and plain gradients help some. Nothing is far away for it."""
    start, goal = ends()
    mean, told = lines(start, goal), {"disc": across(start, goal)}
    free, margins = planned(replace(MAZE, shield="none"), mean, told)
    assert (margins < -1e-6).mean() > 0.9
    rows, margins = planned(replace(MAZE, shield=way), mean, told)
    assert margins.min() >= -1e-6
    assert np.isfinite(rows).all() and np.abs(rows).max() < 1.5
    np.testing.assert_array_equal(rows[:, [0, -1], 2:4], free[:, [0, -1], 2:4])


def test_the_smooth_shield_keeps_lines_between_rows_clear_and_tears_no_row_away():
    """Moving rows alone leaves lines through discs that stand between them, and rows that jump."""
    start, goal = ends()
    mean, told = lines(start, goal), {"disc": across(start, goal)}
    between = jnp.asarray(interpolation(H, 4))

    @jax.jit
    def seen(rows):
        guard = Guard(MAZE, SPEC, told)
        return guard.measured(jnp.einsum("ph,nhd->npd", between, rows))[0].min((1, 2)), bends(rows)

    def bends(rows):
        return jnp.square(jnp.diff(rows[..., 2:4], n=2, axis=1)).sum((1, 2)).mean()

    (smooth, little), (alone, much) = (
        seen(planned(replace(MAZE, shield=way), mean, told)[0]) for way in ("smooth", "afterwards")
    )
    assert smooth.min() >= -1e-6
    assert (alone < -1e-3).mean() > 0.5 and much > 2 * little


def test_guidance_through_the_denoiser_leads_rows_clear_before_the_shield_does():
    """The windows' denoiser here moves every row by itself, so that guidance alone is what rows are moved by."""
    start, goal = ends()
    mean, told = lines(start, goal), {"disc": across(start, goal)}
    gradient = replace(MAZE, shield="gradient", barrier_push=0.0)
    plain, guided = (planned(replace(gradient, barrier_guidance=scale), mean, told)[1] for scale in (0.0, 30.0))
    assert (guided < 0).mean() < 0.5 * (plain < 0).mean()


@pytest.mark.parametrize(("kind", "clip"), [(planners.Diffuser, None), (planners.DiffuserMaze, (-1, 1))])
def test_guidance_by_what_is_far_changes_nothing_of_a_plan(kind, clip):
    """A planner in Gaussian units, which clips nothing, plans beyond 1 with it as without; one that clips does not."""
    sizes = {**TINY, "horizon": 8, "width": 8}
    algorithm = shielded(kind)(**sizes, barriers=("disc",), barrier_guidance=10.0, shield="gradient")
    guard = Guard(algorithm, SPEC, {"disc": jnp.full((4, 1, 3), 99.0).at[..., 2].set(1.0)})
    mask, values = algorithm.inpaint_mask(8, algorithm.blocks(SPEC)), jnp.zeros((4, 8, 6))

    @jax.jit
    def made():
        key, denoiser = jax.random.key(0), lambda x, t: jnp.full_like(x, 2.0)
        plain, guided = (replace(algorithm, guard=each) for each in (None, guard))
        return [each.denoise(denoiser, key, values, mask, clip_x0=clip) for each in (plain, guided)]

    plain, guided = made()
    np.testing.assert_allclose(guided, plain, atol=1e-5)
    assert plain[:, 1:].max() > 1.9 if clip is None else plain[:, 1:].max() < 1.1


def test_plain_gradients_are_not_enough():
    start, goal = ends()
    margins = planned(replace(MAZE, shield="gradient"), lines(start, goal), {"disc": across(start, goal)})[1]
    assert 0.5 < (margins < 0).mean() < 1.0


@pytest.mark.bits
@pytest.mark.parametrize("way", [*VARIANTS, "gradient", "afterwards", "smooth"])
def test_what_is_far_changes_no_bit(way):
    start, goal = ends()
    mean, told = lines(start, goal), {"disc": jnp.full((N, 1, 3), 30.0).at[..., 2].set(1.0)}
    free, _ = planned(replace(MAZE, shield="none"), mean, told)
    np.testing.assert_array_equal(planned(replace(MAZE, shield=way), mean, told)[0], free)


@pytest.mark.parametrize("solver", ["ddim", "heun", "dpm++2m", "edm-churn"])
def test_solvers_of_every_kind_keep_out(solver):
    """Of one evaluation a step and of two, with memory, and with noise before the evaluation."""
    start, goal = ends(100)
    algorithm = replace(MAZE, solver=solver, nfe=6)
    rows, margins = planned(algorithm, lines(start, goal), {"disc": across(start, goal)})
    assert margins.min() >= -1e-6 and np.abs(rows).max() < 1.5


def test_guidance_goes_on_beside_it():
    """Towards a larger y, which half of the plans reach around the other side."""
    start, goal = ends()
    mean, told = lines(start, goal), {"disc": across(start, goal)}
    plain, _ = planned(MAZE, mean, told)
    rows, margins = planned(MAZE, mean, told, True)
    assert margins.min() >= -1e-6
    assert rows[:, 1:-1, 3].mean() > plain[:, 1:-1, 3].mean() + 1e-3


def squared(state):
    """Out of a disc at the origin, as papers write it: flat at its centre."""
    return jnp.square(state[:2]).sum() / 0.09 - 1


def inside(state):
    """Within a disc: the linearisation promises too much."""
    return 0.8 - jnp.square(state[:2]).sum()


@pytest.mark.parametrize("barriers", [(squared,), (squared, inside)])
def test_ones_own_function_holds_also_where_it_is_flat_or_curves_the_wrong_way(barriers):
    """Lines go exactly through the centre, or leave the room; rows stay in range."""
    start = ends(200)[0] / 2
    rows, margins = planned(replace(MAZE, barriers=barriers), lines(start, -start * (1 + (inside in barriers))), {})
    assert margins.min() >= -1e-6
    assert np.isfinite(rows).all() and np.abs(rows).max() < 1.3


def test_ten_at_once_hold_where_they_leave_room():
    start, goal = ends(100)
    discs = np.concatenate([across(start, goal), np.random.default_rng(2).uniform(-1, 1, (100, 8, 3))], 1)
    discs[:, 1:, 2] = 0.15
    algorithm = replace(MAZE, barriers=("disc",) * 9 + ("upper:1",))
    told = {"disc": jnp.asarray(discs), "upper:1": jnp.full((100, 1, 1), 1.1)}
    rows, margins = planned(algorithm, lines(start, goal), told)
    assert margins.min() >= -1e-6 and np.abs(rows).max() < 1.5


@pytest.mark.parametrize("rate", [1.0, 0.25])
def test_a_half_plane_is_approached_at_the_rate_and_not_crossed(rate):
    """Pushed against it in every step, b falls to (1 - k)^n of what it was; from below 0 it rises so."""
    algorithm = replace(MAZE, barriers=("half-plane",), barrier_rate=rate, barrier_margin=0.0, barrier_step=9.0)
    guard = Guard(algorithm, SPEC, {"half-plane": jnp.array([[[0.6, 0.8, 0.1]]] * 2)})
    rows = jnp.asarray([[[0, 0, 0.7, 0.4, 0, 0]], [[0, 0, -0.7, -0.4, 0, 0]]], jnp.float32)
    time = SimpleNamespace(start=SimpleNamespace(t=0.5), end=SimpleNamespace(t=0.4))
    first, normals = guard.measured(rows)
    step = jax.jit(lambda rows: guard.step(False, rows, rows - 2 * normals[..., 0, :], time))
    for n in range(1, 4):
        rows = step(rows)
        np.testing.assert_allclose(guard.measured(rows)[0], (1 - rate) ** n * first, atol=1e-5)


def test_shields_harden_in_the_last_levels():
    varying, relaxed = (replace(MAZE, shield=way, barrier_margin=0.02) for way in ("time-varying", "relaxed"))
    level = jnp.arange(41.0)
    floors = varying.floor(level)
    assert floors[0] == pytest.approx(0.02) and floors[-1] == pytest.approx(0.02 - 1, abs=1e-3)
    assert (jnp.diff(floors)[:12] < 0).all() and floors[5] == pytest.approx(0.02 - 0.5, abs=0.01)
    np.testing.assert_array_equal(relaxed.slack(level), np.where(level < 10, 0, 100))
    assert (relaxed.floor(level), varying.slack(level), MAZE.floor(level)) == (0.02, 0.0, 0.01)


# Planners.

GOALS = {"diffuser-maze": {}, "hierarchical-diffuser": {"low_multipliers": (1,), "jump": 3, "horizon": 3}}
GOALS |= {"comp-diffuser": {"overlap": 4, "stride": 1, "chunk_count": 2, "parallel": True}}
REWARDS = {"diffuser": {"candidates": 2, "horizon": 8, "multipliers": (1, 2)}, "diffusion-veteran": {}}
REWARDS["decision-diffuser"] = {"multipliers": (4,), "width": 8, "hidden": (8,), "horizon": 4}
SMALL = {"width": 32, "multipliers": (1,), "diffusion_steps": 3, "horizon": 8, "candidates": 2, "heads": 2}


def run_of(name, **changes):
    """Of random networks."""
    cls = next(getattr(planners, each) for each in planners.__all__ if getattr(planners, each).name == name)
    known = cls.__dataclass_fields__
    settings = {key: value for key, value in SMALL.items() if key in known} | GOALS.get(name, REWARDS.get(name, {}))
    algorithm = cls(**settings | changes)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ReverieWarning)
        _, spec = algorithm.prepare(DATA)
    return Run(algorithm, spec, jax.tree.map(lambda x: x[None], state_of(algorithm, spec)), 0, (0,))


def seen(name, place=(-1.0, -0.5)):
    observation = np.array([*place, 0, 0], np.float32)
    return (
        {"observation": observation, "desired_goal": np.array([1.0, 0.8], np.float32)} if name in GOALS else observation
    )


@pytest.mark.parametrize("name", [*GOALS, *REWARDS])
def test_every_planner_of_windows_keeps_what_it_plans_clear(name):
    """With a bound on an entry besides, which the goal breaks; the carry says by how much."""
    told = {"disc": [[0.2, -0.3, 0.3]], "upper:1": [[0.0]]}
    policy = shield_run(run_of(name), ["disc", "upper:1"], **told).policy()
    with pytest.warns(ReverieWarning, match="breaks a barrier in 1 of 1") if name in GOALS else nullcontext():
        _, (_, carry) = policy.act(seen(name), policy.reset(seed=3))
    assert -1e-6 <= carry.margin[0] < np.inf or name == "diffusion-veteran"  # which keeps no plan
    assert (carry.given[0] < 0) == (name in GOALS)


def test_obstacles_are_each_environments_own_and_may_move():
    """The second plan, of another disc in the second environment, is another there alone."""
    run = shield_run(run_of("diffuser-maze"), ["disc"])
    algorithm = run.algorithm
    state, spec = run.state(), run.spec
    observation = {key: np.stack([value] * 2) for key, value in seen("diffuser-maze").items()}
    act = jax.jit(partial(algorithm.act, state, spec))
    discs = np.array([[[0.0, 0.0, 0.3]], [[0.2, 0.2, 0.4]]], np.float32)
    feedback = {"reward": np.zeros(2), "cost": np.zeros(2)}
    first = algorithm.reset(spec, 2, {"disc": discs})
    moved = algorithm.rewish(first, {"disc": discs[[0, 0]]})
    a, b = (act(observation, carry, feedback, jax.random.key(0))[1] for carry in (first, moved))
    np.testing.assert_array_equal(a.own.rows[0], b.own.rows[0])
    assert np.abs(a.own.rows[1] - b.own.rows[1]).max() > 0.01
    assert a.margin.min() >= -1e-6


def test_an_obstacle_that_moves_leaves_the_planners_own_wishes():
    """A budget that was asked for stays, and what is spent of it."""
    policy = shield_run(run_of("trebi"), ["disc"]).policy()
    key, carry = policy.reset(disc=[[0.0, 0.0, 0.3]], budget=3.0)
    _, moved = policy.rewish((key, carry), disc=[[0.5, 0.5, 0.2]])
    for mine, other in zip(*(jax.tree.leaves(each.own) for each in (moved, carry)), strict=True):
        np.testing.assert_array_equal(mine, other)
    np.testing.assert_allclose(moved.told["disc"], [[[0.5, 0.5, 0.2]]])
    assert float(policy.rewish((key, carry), budget=1.0)[1].own[1].budget[0]) == 1.0


def test_barriers_without_room_are_refused_where_they_are_told():
    run = shield_run(run_of("diffuser-maze"), ["upper:0", "lower:0"])
    with pytest.raises(ReverieError, match=r"No state was found that satisfies all barriers in environment 0 of 1"):
        run.policy().reset(**{"upper:0": [[-0.5]], "lower:0": [[0.5]]})
    with pytest.raises(
        ReverieError, match=r"must be told upper:0 \(entry 0 of the state at most this: \[\[limit\], ...\]"
    ):
        run.policy().reset()


def test_what_denoises_no_windows_is_refused():
    for planner in (planners.LDCQ(), planners.MADiff()):
        with pytest.raises(RunError, match=f"{planner.name} denoises no windows of one agent's observations"):
            shield_run(SimpleNamespace(algorithm=planner), ["disc"])
    with pytest.raises(ReverieError, match="'disk' is unknown"):
        shield_run(run_of("diffuser-maze"), ["disk"])


def test_a_shielded_run_is_neither_composed_nor_adapted():
    run = shield_run(run_of("decision-diffuser"), ["upper:0"])
    with pytest.raises(RunError, match="A shielded run of decision-diffuser cannot be composed"):
        compose_runs([run, run])
    with pytest.raises(RunError, match="diffuser is shielded, and cannot learn so"):
        check_plans(shield_run(run_of("diffuser"), ["upper:0"]))


def test_a_shielded_run_is_exported_and_loaded(tmp_path):
    run = shield_run(run_of("diffuser-maze"), ["disc"], disc=[[0.0, 0.0, 0.3]])
    run.export(tmp_path / "shielded.safetensors")
    loaded = reverie.load(tmp_path / "shielded.safetensors")
    assert loaded.algorithm == run.algorithm and loaded.asked == run.asked


def test_the_command_line_names_barriers(monkeypatch, capsys):
    asked = {}
    monkeypatch.setattr(reverie, "load", lambda path: run_of("diffuser-maze"))
    monkeypatch.setattr(
        reverie, "evaluate", lambda run, *rest, **options: asked.update(run=run) or SimpleNamespace(table=lambda: "")
    )
    words = ["--barriers", "disc", "--acting", "disc=[[0,0,0.3]]", "shield=relaxed", "nfe=2"]
    main(["eval", "runs/x", "--env", "pointmaze-umaze", *words])
    algorithm = asked["run"].algorithm
    assert (algorithm.barriers, algorithm.shield, algorithm.nfe) == (("disc",), "relaxed", 2)
    assert asked["run"].asked == {"disc": [[0, 0, 0.3]]}
