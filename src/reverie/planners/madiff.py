"""MADiff (Zhu et al. 2024, "MADiff: Offline Multi-agent Learning with Diffusion Models").

Decision Diffuser of several agents at once: one model denoises the windows of all, each by the same U-Net, and
attention across agents makes their plans fit together. It acts for all of them, or each agent plans for the others as
well from what it sees itself, and does its own part.
"""

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np

from reverie.configs import SampleOptions
from reverie.data import Dataset, Spec
from reverie.data.agents import columns, flat, kept_sizes, team_of, team_of_spec
from reverie.data.blocks import Blocks
from reverie.errors import ReverieError
from reverie.networks.agents import JointUNet
from reverie.planners.decision_diffuser import DecisionDiffuser
from reverie.planning import Plan, ToldState
from reverie.planning import conditions as given
from reverie.planning.agents import JointInverseDynamics
from reverie.settings import Acting, Count, Natural, NonNegative
from reverie.wishes import Wishes


@dataclass(frozen=True)
class MADiff(DecisionDiffuser):
    """MADiff: windows of all agents' states, planned together or by each agent for itself and its team.

    Inside, a window's row has the agents' columns side by side, `[H, A * d]`.
    """

    name: ClassVar = "madiff"
    paper: ClassVar = "Zhu et al. 2024"
    shieldable: ClassVar = False
    padding: ClassVar = {"pad": "edge"}
    """The last states again, after terminals and timeouts, as in the released code."""

    execution: Literal["centralised", "decentralised"] = "centralised"
    """Who plans: one for all, who sees what all see (MADiff-C), or each agent, who sees what it sees (MADiff-D)."""
    agent_attention: bool = True
    """Whether agents attend to one another; without it each plans as if it were alone."""
    identity: bool = True
    """Whether the networks, which all agents share, are told which agent it is."""
    heads: Count = 4
    """Of the attention across agents; all levels' channels are multiples of it."""
    horizon: Count = 24
    """Rows of a window, those of the past among them; a multiple of 2^(levels - 1)."""
    history: Natural = 0
    """Rows of a window that are past: what was seen, of each agent in its own plan."""
    prediction: Literal["eps", "x0"] = "x0"
    """What the network predicts: the noise, as in the paper's code, or the clean window, which short trainings learn to
    act by far sooner."""
    termination_penalty: float = 0.0
    """Added to the last reward of an episode that ends by a terminal."""
    temperature: Acting[NonNegative] = 0.5
    """Scale of the noise that planning begins with; that of its steps stays as it is."""
    return_to_go: Acting[bool] = True
    """Whether what is asked for is the team's return from now on, of which each later step asks for what is still to
    come: (wish - reward) / discount. Else every step asks for the wish as it is, as the released code does in the
    particle worlds and in multi-agent MuJoCo."""

    def __post_init__(self):
        super().__post_init__()
        if self.history > self.horizon - 2:
            raise ReverieError(
                f"history = {self.history} leaves {self.horizon - self.history} of the window's {self.horizon} rows; a "
                "plan needs two, the current one and the next"
            )
        if self.history and self.stride > 1:
            raise ReverieError(f"history = {self.history} is of every step; leave stride = {self.stride} at 1")

    @property
    def past(self) -> int:
        return self.history

    @property
    def sample_options(self) -> SampleOptions:
        return {"clip_x0": (-1, 1), "temperature": self.temperature}

    def prepare(self, data: Dataset, spec: Spec | None = None):
        team = team_of(data)
        view, made = super().prepare(data, spec)
        return flat(view), made if spec else replace(made, kept=made.kept | kept_sizes(team))

    def blocks(self, spec: Spec) -> Blocks:
        team = team_of_spec(spec)
        return Blocks.of(observations=team.size * team.widths[0])

    def network(self, key, spec: Spec) -> JointUNet:
        team = team_of_spec(spec)
        return JointUNet(
            *(key, team.observations, team.widths[0]),
            width=self.width,
            multipliers=self.multipliers,
            attention=self.attention,
            across=self.agent_attention,
            identity=self.identity,
            heads=self.heads,
            cond_dim=self.cond_dim(spec),
        )

    def inverse_dynamics(self, key, spec: Spec) -> JointInverseDynamics:
        return JointInverseDynamics(key, team_of_spec(spec), hidden=self.hidden, identity=self.identity)

    def known(self, sizes: tuple[int, ...], width: int, horizon: int) -> np.ndarray:
        """What of a window each planner is given: bool `[V, H, A * d]`, V = 1 planner or one for each agent. That is
        the current and the past states of those whom it sees, and the columns beyond the agents' own."""
        agents = len(sizes)
        seen = np.eye(agents, dtype=bool) if self.execution == "decentralised" else np.ones((1, agents), bool)
        up_to_now = (np.arange(horizon) <= self.history)[:, None] & np.repeat(seen, width, -1)[:, None]
        return up_to_now | ~columns(sizes, width).reshape(-1)

    def known_in_training(self, net, x, blocks: Blocks, key) -> jax.Array:
        """In training either all agents' states are known, or those of one, drawn for each window."""
        known = jnp.asarray(self.known(net.net.sizes, net.net.width, x.shape[-2]))
        if len(known) == 1:
            return known
        # Not 0 or 1, which are the keys that the loss splits this one into: the agent would tell the noise level.
        return known[jax.random.randint(jax.random.fold_in(key, 2), x.shape[:1], 0, len(known))]

    def reset(self, spec: Spec, n: int, wishes: Wishes) -> tuple[Plan, given.Asked]:
        planners = team_of_spec(spec).size if self.execution == "decentralised" else 1
        rows = jnp.zeros((n, planners, self.horizon, self.blocks(spec).size))
        return Plan(rows, jnp.zeros(n, jnp.int32)), self.ask(wishes, n)

    def denoiser(self, state: ToldState, spec: Spec, carry: tuple[Plan, given.Asked]):
        """Of windows `[n * V, H, A * d]`, those of an environment's V planners one after another."""
        plan, asked = carry
        return super().denoiser(
            state, spec, (plan, jax.tree.map(lambda x: jnp.repeat(x, plan.rows.shape[1], 0), asked))
        )

    def follow(self, denoiser, state: ToldState, spec: Spec, observation, carry, key):
        """Every agent does its part of the plan: of its own where each has one."""
        last, asked = carry
        rows = self.plan(denoiser, spec, observation, last, key)
        own = own_parts(rows, team_of_spec(spec).size)
        actions = state.inverse_ema(own[:, self.history], own[:, self.history + 1]).reshape(
            len(own), *spec.action.shape
        )
        actions = jnp.clip(spec.denormalise("actions", actions), spec.action_low, spec.action_high)
        return actions, (Plan(rows, last.step).shifted(), asked)

    def planned(self, spec: Spec, observation, carry: tuple[Plan, given.Asked]) -> jax.Array:
        """Of each agent what it plans for itself: `[n, T, A, d]`, from what it sees on."""
        rows = own_parts(carry[0].rows, len(observation[0]))[:, self.history :]
        states = spec.denormalise("observations", rows.reshape(*rows.shape[:2], *observation.shape[1:]))
        return jnp.concatenate([observation[:, None], states], 1)

    def plan(self, denoiser, spec: Spec, observation, last: Plan, key) -> jax.Array:
        """What each of the V planners expects of all: `[n, V, H, A * d]`, in network units, from observations
        `[n, A, d]`. What others see does not get into an agent's plan."""
        n, team = len(observation), team_of_spec(spec)
        known = self.known(team.observations, team.widths[0], self.horizon)
        seen = known & columns(team.observations, team.widths[0]).reshape(-1)
        now = spec.normalise("observations", observation).reshape(n, 1, 1, -1)
        # The last plan, a row on, begins with what was seen; before an episode's start stands its first row again.
        past = (jnp.arange(self.horizon) < self.history)[:, None] & (last.step > 0)[:, None, None, None]
        now = jnp.where(past, last.rows, now)
        mask, values = (x.reshape(-1, *known.shape[1:]) for x in jnp.broadcast_arrays(known, jnp.where(seen, now, 0)))
        each = Plan(last.rows.reshape(mask.shape), jnp.repeat(last.step, len(known)))
        return self.replanned(spec, denoiser, key, values, mask, each, **self.sample_options).reshape(last.rows.shape)


def own_parts(rows, agents: int) -> Any:
    """Of plans `[n, V, H, A * d]` each agent's own part of its own: `[n, H, A * d]`; of one planner, all of it."""
    if rows.shape[1] == 1:
        return rows[:, 0]
    apart = rows.reshape(*rows.shape[:-1], agents, -1)
    return jnp.moveaxis(jnp.diagonal(apart, axis1=1, axis2=3), -1, 2).reshape(*rows[:, 0].shape)
