"""Skills together: the scores of several trained planners, each asked for something of its own, in one plan.

Eq. 9 of Decision Diffuser (Ajay et al. 2023) adds what one model knows of several conditions; this adds what several
models, of other data say, know of the same states (Liu et al. 2022). The first one's inverse dynamics act.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import jax

from reverie.data import Spec
from reverie.data.agents import WHAT, team_of_spec
from reverie.data.fields import describe
from reverie.data.normalisers import first_apart
from reverie.diffusion import combine
from reverie.errors import RunError
from reverie.protocols import Feedback
from reverie.settings import Acting
from reverie.wishes import Wish, Wishes

ALIKE = ("parts", "horizon", "stride", "diffusion_steps")
"""What planners that denoise one window together must have in common."""
OF_TEAMS: dict[str, Any] = {"history": 0, "execution": "centralised"}
"""Likewise, and what it is of planners that have no such field."""


@dataclass(frozen=True, eq=False)
class Composed:
    """Several planners as one that acts. Their wishes are its own, with the planner's number behind: `target_return_0`.

    A planner that can be composed has `received(carry, feedback)`, what it is asked for after a step, `denoiser(state,
    spec, carry)`, of its windows as they are asked for, and `follow(denoiser, state, spec, observation, carry, key)`,
    which acts by a plan of any denoiser.
    """

    name: ClassVar[str] = "composed"
    role: ClassVar[str] = "planner"
    paper: ClassVar[str] = "Ajay et al. 2023"
    needs: ClassVar[tuple[str, ...]] = ()

    planners: tuple[Any, ...]
    """The runs' algorithms."""
    specs: tuple[Spec, ...]
    """What each of them knows of its data."""
    scales: Acting[tuple[float, ...]]
    """How much each score counts."""

    def wishes(self, spec: Spec) -> Mapping[str, Wish]:
        members = enumerate(zip(self.planners, self.specs, strict=True))
        return {f"{name}_{i}": wish for i, (each, own) in members for name, wish in each.wishes(own).items()}

    def reset(self, spec: Spec, n: int, wishes: Wishes) -> tuple[Any, ...]:
        members = enumerate(zip(self.planners, self.specs, strict=True))
        return tuple(each.reset(own, n, _of(wishes, i, each.wishes(own))) for i, (each, own) in members)

    def rewish(self, carry: tuple[Any, ...], wishes: Wishes) -> tuple[Any, ...]:
        members = enumerate(zip(self.planners, self.specs, carry, strict=True))
        return tuple(each.rewish(mine, _of(wishes, i, each.wishes(own))) for i, (each, own, mine) in members)

    def act(self, state: tuple[Any, ...], spec: Spec, observation, carry: tuple[Any, ...], feedback: Feedback, key):
        """The first planner's action, by a plan of all."""
        carry = tuple(each.received(mine, feedback) for each, mine in zip(self.planners, carry, strict=True))
        members = zip(self.planners, state, self.specs, carry, strict=True)
        denoisers = [each.denoiser(learned, own, mine) for each, learned, own, mine in members]
        first = self.planners[0]
        together = combine(first.process, denoisers, self.scales)
        action, mine = first.follow(together, state[0], spec, observation, carry[0], key)
        return action, (mine, *carry[1:])

    def planned(self, spec: Spec, observation, carry: tuple[Any, ...]) -> jax.Array:
        return self.planners[0].planned(spec, observation, carry[0])


def compose_runs(runs: Sequence[Any], scales: Sequence[float] | None = None) -> Any:
    """A run that acts by the scores of several planners' runs together: `policy`, `evaluate` and `acting` take it.

    What each run was asked for by `acting` it is asked for here, and each seed acts with that of the others in its
    place. scales: of the scores; equal ones that sum to 1 if None, which is the geometric mean of the densities.

    Raises RunError for less than two runs, for planners that cannot be composed, and where observations, actions, their
    units, agents, windows or numbers of seeds differ.
    """
    runs = list(runs)
    if len(runs) < 2:
        raise RunError(f"{len(runs)} runs were given to compose; give at least two.")
    for run in runs:
        _check(run, runs[0])
    scales = [1 / len(runs)] * len(runs) if scales is None else list(scales)
    if len(scales) != len(runs):
        raise RunError(f"{len(runs)} runs were given with {len(scales)} scales; give one each.")
    return replace(
        runs[0],
        algorithm=Composed(tuple(run.algorithm for run in runs), tuple(run.spec for run in runs), tuple(scales)),
        states=tuple(run.states for run in runs),
        asked={f"{name}_{i}": value for i, run in enumerate(runs) for name, value in run.asked.items()},
        changes=(),
        path=None,
    )


def _of(wishes: Wishes, number: int, names: Mapping[str, Wish]) -> dict[str, Any]:
    """Those of one planner, by the names that it knows."""
    return {name: wishes[f"{name}_{number}"] for name in names if f"{name}_{number}" in wishes}


def _sizes(run: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Columns of each agent's observations and actions; none of planners that know no agents."""
    team = team_of_spec(run.spec) if hasattr(run.algorithm, "execution") else None
    return (team.observations, team.actions) if team else ((), ())


def _check(run: Any, first: Any) -> None:
    name, spec, known = run.algorithm.name, run.spec, first.spec
    if hasattr(run.algorithm, "barriers"):
        raise RunError(f"A shielded run of {name} cannot be composed; compose the runs without their shields.")
    if not all(hasattr(run.algorithm, each) for each in ("received", "denoiser", "follow")):
        raise RunError(f"{name} has no denoiser of windows that could be composed; give runs of decision-diffuser.")
    for what, mine, other in (
        ("observations", spec.observation_space, known.observation_space),
        ("actions", spec.action, known.action),
    ):
        if mine != other:
            raise RunError(
                f"The runs have {what} that are {describe(other)} and {describe(mine)}; compose runs of one space."
            )
    for what, sizes, known_sizes in zip(WHAT, *(_sizes(each) for each in (run, first)), strict=True):
        if sizes != known_sizes:
            raise RunError(
                f"The runs' agents have {what} of {[*known_sizes]} and {[*sizes]} columns; compose runs of one team."
            )
    column = first_apart(*(each.normalisers.get("observations") for each in (known, spec)))
    if column is not None:
        raise RunError(
            f"The runs' observations are in other units (column {column} is), where scores do not add; train them on "
            "one data set, or the second with initial= the first."
        )
    for field in (*ALIKE, *OF_TEAMS):
        mine, other = (getattr(each.algorithm, field, OF_TEAMS.get(field)) for each in (run, first))
        if mine != other:
            raise RunError(
                f"The runs have {field} = {other!r} and {mine!r}, and no windows in common; train them with the same."
            )
    if len(run.seeds) != len(first.seeds):
        raise RunError(f"The runs have {len(first.seeds)} and {len(run.seeds)} seeds; compose runs of equally many.")
