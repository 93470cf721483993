"""How true synthetic transitions are: to the data's distribution, and to the simulator's dynamics.

The measures of SynthER's paper (Lu et al. 2023, section 4 and appendix), of which the marginals and correlations are
SDMetrics', with what tells a copy from a sample and a transition from a row that only looks like one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from reverie.data import Dataset
from reverie.data.fields import dimension
from reverie.environments.registry import make
from reverie.errors import DataError, ReverieError

PARTS = ("observations", "actions", "rewards", "next_observations")


@dataclass(frozen=True)
class Fidelity:
    """Each measure of the synthetic rows, beside the same measure of real rows that were held out."""

    marginals: tuple[float, float]
    """Mean over columns of 1 less the Kolmogorov-Smirnov distance to the other real rows: 1 for the same marginals."""
    correlations: tuple[float, float]
    """Mean over pairs of columns of 1 less half the difference of their correlations: 1 for the same ones."""
    terminals: tuple[float, float]
    """Part of the rows that end the task, of all rows and not only of those judged."""
    nearest: tuple[float, float]
    """Median distance to the nearest of the other real rows, in standard deviations: 0 for copies."""
    dynamics: "Dynamics | None" = None
    """Where an environment was given."""

    def rows(self) -> list[tuple[str, str, str]]:
        """Measure, synthetic, real: for a table."""
        shown = {
            "marginals, 1 = same": [f"{x:.3f}" for x in self.marginals],
            "correlations, 1 = same": [f"{x:.3f}" for x in self.correlations],
            "terminals": [f"{100 * x:.2f} %" for x in self.terminals],
            "distance to the nearest real row": [f"{x:.2f}" for x in self.nearest],
        }
        return [(name, made, real) for name, (made, real) in shown.items()] + (
            self.dynamics.rows() if self.dynamics else []
        )


@dataclass(frozen=True)
class Dynamics:
    """Errors `[n]` against the simulator put into each row's state: of the next observation (root mean square over
    columns) and of the reward, in the real data's standard deviations."""

    made: np.ndarray
    real: np.ndarray
    """Of held-out real rows: what the simulator itself cannot repeat, such as velocities that were clipped."""
    regressed: np.ndarray
    """Of a quadratic regression on the other real rows, asked for the held-out ones."""
    shuffled: np.ndarray
    """Of synthetic rows with each other's outcomes."""
    made_rewards: np.ndarray
    real_rewards: np.ndarray

    def rows(self) -> list[tuple[str, str, str]]:
        median = {name: f"{np.median(errors):.4f}" for name, errors in vars(self).items()}
        return [
            ("next observation against the simulator", median["made"], median["real"]),
            ("the same by quadratic regression", "", median["regressed"]),
            ("the same with shuffled outcomes", median["shuffled"], ""),
            ("reward against the simulator", median["made_rewards"], median["real_rewards"]),
        ]


def fidelity(made: Dataset, real: Dataset, env: Any = None, rows: int = 2000, seed: int = 0) -> Fidelity:
    """Judge `rows` synthetic rows, and as many held-out real ones, by the other real rows.

    env: the data's environment, one of MuJoCo's whose observation is its positions but the first few, then its
        velocities (Hopper, HalfCheetah, Walker2d, Swimmer, InvertedPendulum); then dynamics are measured too.

    Raises DataError where either has fewer rows than needed or no rewards, or observations or actions that are not
    vectors, and ReverieError for an environment that cannot be put into a state.
    """
    rng = np.random.default_rng(seed)
    judged, held, others = sides(made, real, rows, rng)
    both = judged, held
    return Fidelity(
        marginals=_each(both, lambda side: _marginals(side.table, others.table)),
        correlations=_each(both, lambda side: _correlations(side.table, others.table)),
        # Of all rows: ends are few, and none may be among those that are judged.
        terminals=(float(made.terminals.mean()), float(real.terminals.mean())),
        nearest=_each(both, lambda side: _nearest(side.table, others.table)),
        dynamics=None if env is None else _dynamics(*both, others, env, rng),
    )


def sides(made: Dataset, real: Dataset, rows: int, rng: np.random.Generator) -> "tuple[Rows, Rows, Rows]":
    """So many rows of each, and the other real rows. Raises DataError as `fidelity` does."""
    made, real = (data.with_next_observations() for data in (made, real))
    sizes, real_sizes = _columns(made), _columns(real)
    if sizes != real_sizes:
        raise DataError(
            f"The synthetic data has {sizes[0]} + {sizes[1]} columns of observations and actions, the real "
            f"{real_sizes[0]} + {real_sizes[1]}; compare data of one task."
        )
    for name, data, needed in (("synthetic", made, rows), ("real", real, 2 * rows)):
        if len(data) < needed:
            raise DataError(f"The {name} data has {len(data)} transitions and rows = {rows} needs {needed}.")
    order = rng.permutation(len(real))
    return Rows(made, rng.permutation(len(made))[:rows]), Rows(real, order[:rows]), Rows(real, order[rows:])


def _columns(data: Dataset) -> tuple[int, int]:
    """Of observations and of actions."""
    who = "the comparison of columns"
    return dimension("observations", data.observation_space, who), dimension("actions", data.action_space, who)


def _each(sides: Sequence["Rows"], measure: Any) -> tuple[float, float]:
    return measure(sides[0]), measure(sides[1])


@dataclass(frozen=True)
class Rows:
    """Some rows of a data set."""

    data: Dataset
    index: np.ndarray

    def __getitem__(self, part: str) -> np.ndarray:
        """`[n, d]`, in float64."""
        values = getattr(self.data, part) if part != "rewards" else self.data.require_rewards()
        return values[self.index].reshape(len(self.index), -1).astype(np.float64)

    @cached_property
    def table(self) -> np.ndarray:
        return np.concatenate([self[part] for part in PARTS], axis=1)

    @property
    def inputs(self) -> np.ndarray:
        return np.concatenate([self["observations"], self["actions"]], axis=1)


def _marginals(x: np.ndarray, others: np.ndarray) -> float:
    from scipy.stats import ks_2samp

    return 1 - float(np.mean([ks_2samp(a, b, method="asymp").statistic for a, b in zip(x.T, others.T, strict=True)]))


def _correlations(x: np.ndarray, others: np.ndarray) -> float:
    varying = (x.std(0) > 0) & (others.std(0) > 0)
    one, other = (np.corrcoef(each[:, varying], rowvar=False) for each in (x, others))
    return 1 - float(np.abs(one - other)[np.triu_indices(varying.sum(), 1)].mean()) / 2


def _nearest(x: np.ndarray, others: np.ndarray) -> float:
    from scipy.spatial import cKDTree

    scale = np.where(others.std(0) > 0, others.std(0), 1)
    return float(np.median(cKDTree(others / scale).query(x / scale)[0]))


def _dynamics(made: Rows, real: Rows, others: Rows, env: Any, rng: np.random.Generator) -> Dynamics:
    scale = np.where(others["next_observations"].std(0) > 0, others["next_observations"].std(0), 1)
    reward_scale = float(others["rewards"].std()) or 1.0
    simulated = [simulate(env, side["observations"], side["actions"]) for side in (made, real)]

    def error(outcome: np.ndarray, truth: np.ndarray) -> np.ndarray:
        return np.sqrt(np.mean(((outcome - truth) / scale) ** 2, axis=1))

    mean, std = others.inputs.mean(0), np.where(others.inputs.std(0) > 0, others.inputs.std(0), 1)
    known, asked = (_quadratic((each.inputs - mean) / std) for each in (others, real))
    weights, *_ = np.linalg.lstsq(known, others["next_observations"], rcond=None)
    shuffled = made["next_observations"][rng.permutation(len(made.index))]
    return Dynamics(
        made=error(made["next_observations"], simulated[0][0]),
        real=error(real["next_observations"], simulated[1][0]),
        regressed=error(asked @ weights, real["next_observations"]),
        shuffled=error(shuffled, simulated[0][0]),
        made_rewards=np.abs(made["rewards"][:, 0] - simulated[0][1]) / reward_scale,
        real_rewards=np.abs(real["rewards"][:, 0] - simulated[1][1]) / reward_scale,
    )


def _quadratic(x: np.ndarray) -> np.ndarray:
    """A constant, every column and every product of two."""
    i, j = np.triu_indices(x.shape[1])
    return np.concatenate([np.ones((len(x), 1)), x, x[:, i] * x[:, j]], axis=1)


def simulate(env: Any, observations: np.ndarray, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Next observations `[n, d]` and rewards `[n]` of MuJoCo put into the states that the observations show.

    Positions along the way, which no observation has, are 0. Raises ReverieError for an environment whose state is not
    in its observation.
    """
    task = make(env)
    try:
        task.reset(seed=0)
        inner: Any = task.unwrapped
        hidden = inner.model.nq + inner.model.nv - observations.shape[1] if hasattr(inner, "model") else -1
        if not 0 <= hidden <= 2:
            raise ReverieError(
                f"{env} cannot be put into a state that its observations show; leave the environment out."
            )
        positions = inner.model.nq - hidden
        outcomes = []
        for seen, action in zip(observations, actions, strict=True):
            inner.set_state(np.concatenate([np.zeros(hidden), seen[:positions]]), seen[positions:])
            outcomes.append(inner.step(action)[:2])
        return np.array([seen for seen, _ in outcomes]), np.array([float(reward) for _, reward in outcomes])
    finally:
        task.close()
