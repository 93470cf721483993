"""SafeDiffuser (Xiao, Wang, Gan & Rus 2023, "SafeDiffuser: Safe Planning with Diffusion Probabilistic
Models"), around any planner that denoises windows of observations.

After every step of the chain each row is moved, as little as may be, so that barriers b(state) >= 0 hold, linearised at
the row before the step: a small quadratic program. Nothing is trained for it; obstacles are told when it acts.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, make_dataclass, replace
from functools import cached_property, lru_cache, partial
from typing import Annotated, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from reverie.data import Spec
from reverie.diffusion import soft_inpaint
from reverie.diffusion.projection import nearest_point
from reverie.errors import ReverieError, ReverieWarning, RunError
from reverie.planning.barriers import Kind, kinds_of, values_and_normals
from reverie.planning.bending import bend, interpolation
from reverie.planning.windows import WindowPlanner
from reverie.protocols import Feedback
from reverie.settings import Acting, Count, Limit, Natural, NonNegative, Positive, Settings
from reverie.wishes import Wish, Wishes

Way = Literal["robust", "relaxed", "time-varying", "smooth", "gradient", "afterwards", "none"]
GRADIENT_WITHIN = 0.1
"""Distance from a barrier, in its units, within which plain gradients push (the paper's baseline)."""
CORRECTIONS = 15
"""Newton steps of a finished plan, at most; where barriers are convex in network units none is needed."""
TRIED = 512
"""Random states in which one is sought that satisfies all barriers."""


class Carry(NamedTuple):
    """What a shielded planner remembers."""

    own: Any
    """The planner's."""
    told: dict[str, jax.Array]
    """The barriers' parameters `[n, number, p]`."""
    margin: jax.Array
    """The smallest b of the plan that is followed, over barriers and rows that were not given, `[n]`; below 0 it is not
    safe. Infinite where there is no plan yet, and of a planner that keeps none."""
    given: jax.Array
    """That of the start and the goal, which are not moved, `[n]`."""


@dataclass(frozen=True)
class Guard:
    """Barriers for the windows of one call."""

    shield: Any
    """The planner, a `Shield` too."""
    spec: Spec
    told: Mapping[str, jax.Array]

    def measured(self, rows, held=False) -> tuple[jax.Array, jax.Array]:
        """Values and gradients, by entries that are not `held`."""
        values, normals = values_and_normals(
            self.shield.kinds, partial(self.shield.states_of, self.spec), self.told, rows
        )
        held = jnp.broadcast_to(held, rows.shape)
        return values, jnp.where(held[..., None, :], 0.0, normals)

    def step(self, held, before, after, row):
        """`after`, a step's proposal, moved so that the barriers hold as seen from `before`."""
        shield, levels = self.shield, self.shield.diffusion_steps
        values, normals = self.measured(before, held)
        if shield.shield == "gradient":
            near = values < GRADIENT_WITHIN
            push = shield.barrier_push * jnp.where(near[..., None], normals, 0.0).sum(-2)
            return jax.lax.cond(near.any(), lambda: after + push, lambda: after)
        start, end = (shield.floor(levels * time) for time in (row.start.t, row.end.t))
        least = end - start - shield.barrier_rate * (values - start)
        deficits = least - jnp.einsum("...kd,...d->...k", normals, after - before, precision="highest")
        return self._moved(after, normals, deficits, shield.slack(levels * row.end.t))

    def finish(self, rows, held):
        """Rows of a finished plan whose barriers do not hold, moved until they do: by Newton's method, as barriers may
        curve the wrong way, and normalisers be no straight lines."""

        def broken(values, normals):
            """Rows that break a barrier and can move."""
            return ((values < 0) & (normals != 0).any(-1)).any(-1, keepdims=True)

        def wrong(carry):
            count, _, *measured = carry
            return (count < CORRECTIONS) & broken(*measured).any()

        def correct(carry):
            count, rows, values, normals = carry
            aim = jnp.where(broken(values, normals), self.shield.barrier_margin - values, -1.0)
            rows = self._moved(rows, normals, aim, 0.0)
            return count + 1, rows, *self.measured(rows, held)

        start = jnp.zeros((), jnp.int32), rows, *self.measured(rows, held)
        return jax.lax.while_loop(wrong, correct, start)[1]

    def guided(self, denoiser, held, clip: tuple | None):
        """The denoiser with x0_hat led, through its gradient, to where barriers hold on the lines between rows as well:
        pseudoinverse guidance to the nearest such places. `clip` is the planner's own of x0_hat, if any: guidance is of
        what the planner would make of it."""
        shield = self.shield

        def clear(x0):
            weights = interpolation(x0.shape[-2], shield.barrier_between)
            points = jnp.einsum("ph,...hd->...pd", weights, x0)
            values, normals = self.measured(points)
            step, _ = nearest_point(points, normals, shield.barrier_margin - values)
            return x0 + jnp.where(held, 0, jnp.einsum("ph,...pd->...hd", weights, step))

        def own(x, t):
            return jnp.clip(denoiser(x, t), *clip) if clip else denoiser(x, t)

        return soft_inpaint(shield.process, own, clear, shield.barrier_guidance)

    def bent(self, rows, held):
        """Plans moved as a whole until barriers hold on the lines between rows as well, but for rows with anything that
        is held."""
        shield, still = self.shield, jnp.broadcast_to(held, rows.shape).any(-1)
        least, between, furthest = shield.barrier_margin, shield.barrier_between, shield.barrier_step
        return bend(rows, still, self.measured, least, between, furthest)

    def _moved(self, rows, normals, deficits, slack):
        """A row's move is bounded: where b is flat its linearisation asks for any distance."""

        def move(rows):
            step, needed = nearest_point(rows, normals, deficits, slack)
            length = jnp.sqrt(jnp.square(step).sum(-1, keepdims=True))
            most = self.shield.barrier_step
            return jnp.where(needed[..., None], rows + step * jnp.minimum(1, most / jnp.maximum(length, most)), rows)

        return jax.lax.cond((deficits > 0).any(), move, lambda rows: rows, rows)


@dataclass(frozen=True)
class Shield(Settings):
    """What a planner has more once it is shielded."""

    barriers: Acting[tuple[Any, ...]] = ()
    """What plans must keep clear of: disc, ellipse, half-plane, upper:ENTRY, lower:ENTRY, `module:function` of a state,
    each as often as there are such."""
    shield: Acting[Way] = "robust"
    """Barriers hold at every level (robust), with a slack but for the last levels (relaxed), or come up in the last
    levels (time-varying). Or the finished plan is moved, as a whole and between its rows too (smooth) or row by row
    (afterwards); or by plain gradients, or not (none)."""
    barrier_margin: Acting[NonNegative] = 0.01
    """What b must be at least, in the barriers' units."""
    barrier_rate: Acting[Annotated[float, Limit(1e-3, 1.0)]] = 1.0
    """The share of what is missing that a step must make good."""
    barrier_levels: Acting[Natural] = 10
    """The last levels, in which a relaxed or time-varying shield hardens."""
    barrier_relaxation: Acting[NonNegative] = 1.0
    """By how much time-varying barriers begin below 0, in their units."""
    barrier_slack: Acting[NonNegative] = 100.0
    """The relaxed shield's weight of slack before the last levels."""
    barrier_push: Acting[NonNegative] = 0.05
    """Step of plain gradients."""
    barrier_guidance: Acting[NonNegative] = 0.0
    """Scale of guidance through the denoiser, which leads whole plans clear of barriers, beside the shield; 10, say."""
    barrier_between: Acting[Count] = 4
    """Places on the line from a row to the next at which guidance and the smooth shield look."""
    barrier_step: Acting[Positive] = 0.25
    """The furthest that a row is moved at once, in network units."""
    guard: Any = field(default=None, compare=False, repr=False)
    """The barriers of the call that is under way."""

    def __post_init__(self):
        super().__post_init__()
        self.kinds  # noqa: B018  # raises for a barrier that is unknown

    @cached_property
    def kinds(self) -> tuple[Kind, ...]:
        return kinds_of(self.barriers)

    def floor(self, level) -> Any:
        """What b must be at least with so many noise levels still to go."""
        if self.shield != "time-varying":
            return self.barrier_margin
        ends = [jax.nn.sigmoid(each - self.barrier_levels / 2) for each in (0.0, level)]
        # 0 at the data, where the paper's sigmoid is so but nearly.
        return self.barrier_margin - self.barrier_relaxation * (ends[1] - ends[0]) / (1 - ends[0])

    def slack(self, level) -> Any:
        """Of a step that ends with so many noise levels still to go."""
        return jnp.where(level < self.barrier_levels, 0.0, self.barrier_slack) if self.shield == "relaxed" else 0.0

    # What it is told.

    def wishes(self, spec: Spec) -> dict[str, Wish]:
        planner: Any = super()
        own = planner.wishes(spec) if hasattr(planner, "wishes") else {}
        return {**own, **{kind.name: _wish(kind) for kind in self.kinds if kind.barrier.parameters}}

    def reset(self, spec: Spec, n: int, wishes: Wishes) -> Carry:
        planner: Any = super()
        told = self._told(wishes)
        self.check_satisfiable(spec, told, n)
        own = planner.reset(spec, n, {name: wish for name, wish in wishes.items() if name not in told})
        return Carry(own, told, *(jnp.full(n, jnp.inf) for _ in range(2)))

    def rewish(self, carry: Carry, wishes: Wishes) -> Carry:
        """Obstacles that have moved count from the next plan on."""
        planner: Any = super()
        moved, own = self._told(wishes), carry.own
        if hasattr(planner, "rewish"):
            own = planner.rewish(own, {name: wish for name, wish in wishes.items() if name not in moved})
        return carry._replace(own=own, told=carry.told | moved)

    def _told(self, wishes: Wishes) -> dict[str, jax.Array]:
        names = [kind.name for kind in self.kinds if kind.barrier.parameters and kind.name in wishes]
        return {name: jnp.asarray(wishes[name], jnp.float32) for name in names}

    def check_satisfiable(self, spec: Spec, told: Mapping[str, Any], n: int) -> None:
        """Raise ReverieError where no state satisfies all barriers, as far as can be found: then no plan does."""
        if not self.kinds or any(isinstance(each, jax.core.Tracer) for each in told.values()):
            return
        best = np.asarray(_best(self, spec, told, n))
        if (best < 0).any():
            where = int(best.argmin())
            raise ReverieError(
                f"No state was found that satisfies all barriers in environment {where} of {n}: the best of {TRIED} "
                f"lacks {-best[where]:.3g}; tell it barriers that leave room."
            )

    # Acting.

    def act(self, state: Any, spec: Spec, observation, carry: Carry, feedback: Feedback, key):
        guard = Guard(self, spec, carry.told)
        planner: Any = super(Shield, replace(self, guard=guard))
        action, own = planner.act(state, spec, observation, carry.own, feedback, key)
        return action, Carry(own, carry.told, *self._margins(guard, observation, own, carry))

    def planned(self, spec: Spec, observation, carry: Carry) -> jax.Array:
        planner: Any = super()
        return planner.planned(spec, observation, carry.own)

    def _margins(self, guard: Guard, observation, own: Any, carry: Carry) -> tuple[jax.Array, jax.Array]:
        """The smallest b of what is planned and of what was given, in a planner's carry after acting: `[n]` each."""
        planner: Any = super()
        if not self.kinds:
            return carry.margin, carry.given
        rows, given = planner.followed(guard.spec, observation, own)
        values = guard.measured(rows)[0].min(-1)
        planned, known = (jnp.where(each, values, jnp.inf).min(1) for each in (~given, given))
        return planned, known

    def notice(self, carry: Carry) -> None:
        """Warn of a start or a goal that breaks a barrier. It is no error: a start is a fact, and whoever is in an
        obstacle needs a plan out of it; and in a batch the others need theirs."""
        given = np.asarray(carry.given)
        if (count := int((given < 0).sum())) > 0:
            warnings.warn(
                f"The start or the goal breaks a barrier in {count} of {given.size} environments, by at most "
                f"{-given.min():.3g}. It is planned from and to there all the same; what lies between is shielded.",
                ReverieWarning,
                stacklevel=3,
            )

    def denoise(self, denoiser: Callable, key, values, inpaint_mask, *, history: bool = False, **options: Any):
        planner: Any = super()
        guard = self.guard
        shields = guard is not None and self.kinds
        if not shields or self.shield == "none":
            return planner.denoise(denoiser, key, values, inpaint_mask, history=history, **options)
        if self.barrier_guidance:
            denoiser = guard.guided(denoiser, inpaint_mask, options.get("clip_x0"))
        if self.shield not in ("afterwards", "smooth"):
            options["shield"] = partial(guard.step, inpaint_mask)
        made = planner.denoise(denoiser, key, values, inpaint_mask, history=history, **options)
        plans, past = made if history else (made, None)
        return (self.finished(plans, inpaint_mask), past) if history else self.finished(plans, inpaint_mask)

    def joined(self, rows, inpaint_mask):
        if self.guard is None or not self.kinds or self.shield == "none":
            return rows
        return self.finished(rows, inpaint_mask)

    def finished(self, rows, inpaint_mask):
        """Plans whose barriers hold, by all shields but plain gradients."""
        if self.shield == "gradient":
            return rows
        rows = self.guard.bent(rows, inpaint_mask) if self.shield == "smooth" else rows
        return self.guard.finish(rows, inpaint_mask)


def _wish(kind: Kind) -> Wish:
    words = ", ".join(kind.barrier.parameters)
    return Wish(f"{kind.barrier.help}: [[{words}], ...]", shape=(kind.number, len(kind.barrier.parameters)))


@partial(jax.jit, static_argnums=(0, 3))
def _best(shield: Any, spec: Spec, told: Any, n: int) -> jax.Array:
    """The largest of the smallest b that are found in random states, each moved until all hold if it can: `[n]`."""
    size = shield.blocks(spec).size
    rows = jax.random.uniform(jax.random.key(0), (n, TRIED, size), minval=-1.0, maxval=1.0)
    guard = Guard(replace(shield, barrier_margin=0.0), spec, told)
    return guard.measured(guard.finish(rows, False))[0].min(-1).max(-1)


@lru_cache(maxsize=64)
def shielded(planner: type) -> Any:
    """The class of the planner with a shield."""
    name = f"Shielded{planner.__name__}"
    about = {"__module__": __name__, "__doc__": f"{planner.__doc__} Shielded."}
    return make_dataclass(name, [], bases=(Shield, planner), frozen=True, namespace=about)


def shield_run(run: Any, barriers: Sequence[str | Callable], **acting: Any) -> Any:
    """The run with its plans kept clear of barriers; `policy`, `evaluate` and `acting` take it.

    barriers: `disc`, `ellipse`, `half-plane`, `upper:ENTRY`, `lower:ENTRY`, or a function of a state in the data's
    units, itself or as `module:function`, each as often as there are such. acting: as of `Run.acting`: what the
    barriers are told, fields of `Shield`, and the planner's own.

    Raises RunError for a method that denoises no windows of observations, and what `Run.acting` raises.
    """
    planner = run.algorithm
    if not isinstance(planner, WindowPlanner) or "observations" not in planner.parts or not planner.shieldable:
        raise RunError(
            f"{planner.name} denoises no windows of one agent's observations, which barriers could be held for; shield "
            "a run of diffuser, diffuser-maze, decision-diffuser, hierarchical-diffuser or comp-diffuser, say."
        )
    cls = type(planner) if isinstance(planner, Shield) else shielded(type(planner))
    values = {each.name: getattr(planner, each.name) for each in fields(planner)}
    return replace(run, algorithm=cls(**values)).acting(barriers=tuple(barriers)).acting(**acting)


def __getattr__(name: str) -> Any:
    """The classes of `shielded` by their names, so that a run's file can name them."""
    from reverie import planners

    if name.startswith("Shielded") and hasattr(planners, plain := name.removeprefix("Shielded")):
        return shielded(getattr(planners, plain))
    raise AttributeError(name)
