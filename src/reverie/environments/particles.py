"""The particle worlds of MPE (Lowe et al. 2017; `mpe2`), and what their agents do by rule.

Three tasks with continuous actions, 25 steps each; an agent's action is its force, `[2]` in -1 to 1. "mpe-spread":
three agents are to cover three landmarks and not to collide. "mpe-tag": three predators are to catch a faster prey
among two obstacles. "mpe-world": four of them, of whom one leads and may speak (4 numbers in 0 to 1 after its force),
are to catch two, who also look for food and may hide. The prey flees by a rule of ours; in published tables it is a
trained one of another version of these worlds, so that scores do not compare.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from reverie.environments.parallel import Joint

STEPS = 25
NAMES = ("mpe-spread", "mpe-tag", "mpe-world")
EDGE = 0.9
"""Beyond it the prey goes back to the middle, as it is punished further out."""
AHEAD = 0.2
"""Seconds by which pursuers aim ahead of the prey."""
STEP, DAMPING = 0.1, 0.25
"""Of the worlds' physics: seconds of a step, and the share of a velocity that is lost in it."""


def make_particles(name: str) -> "Joint":
    """One of NAMES. Raises ModuleNotFoundError where `mpe2` is not installed."""
    from mpe2 import simple_spread_v3, simple_tag_v3, simple_world_comm_v3

    from reverie.environments.forces import Forces
    from reverie.environments.parallel import Joint

    module = {"mpe-spread": simple_spread_v3, "mpe-tag": simple_tag_v3, "mpe-world": simple_world_comm_v3}[name]
    env = Forces(module.parallel_env(max_cycles=STEPS, continuous_actions=True))
    if name == "mpe-spread":
        return Joint(env, name, STEPS)
    team = [agent for agent in env.possible_agents if "adversary" in agent]
    return Joint(env, name, STEPS, team=team, others=flee)


def flee(env: Any, agent: str) -> np.ndarray:
    """The prey's force, `[2]`: away from all pursuers, most from the nearest, and not out of the world."""
    world = env.unwrapped.world
    me, others = _named(world, agent), [each for each in world.agents if each.adversary]
    away = me.state.p_pos - np.stack([each.state.p_pos for each in others])
    force = (away / np.maximum((away**2).sum(-1, keepdims=True), 1e-4) ** 1.5).sum(0)
    force /= max(float(np.linalg.norm(force)), 1e-6)
    out = np.abs(me.state.p_pos) > EDGE
    force[out] = -np.sign(me.state.p_pos[out])
    return force


def cover(env: Any) -> np.ndarray:
    """Spread's expert, `[A, 2]`: every agent goes to a landmark of its own, so that all ways together are shortest."""
    from scipy.optimize import linear_sum_assignment

    world = env.unwrapped.world
    places, marks = (np.stack([each.state.p_pos for each in every]) for every in (world.agents, world.landmarks))
    rows, chosen = linear_sum_assignment(np.linalg.norm(places[:, None] - marks, axis=-1))
    return np.stack([_towards(world.agents[i], marks[k]) for i, k in zip(rows, chosen, strict=True)])


def pursue(env: Any) -> np.ndarray:
    """Tag's and world's expert, `[A, 2]`: the predators share the prey among them and aim ahead of it, each at another
    side until it is near."""
    world = env.unwrapped.world
    prey = [each for each in world.agents if not each.adversary]
    hunters = [each for each in world.agents if each.adversary]
    found = []
    for i, hunter in enumerate(hunters):
        target, rank = prey[i % len(prey)], i // len(prey)
        count = len(hunters[i % len(prey) :: len(prey)])
        aim = target.state.p_pos + AHEAD * target.state.p_vel
        distance = float(np.linalg.norm(aim - hunter.state.p_pos))
        angle = 2 * np.pi * rank / count
        round_it = np.array([np.cos(angle), np.sin(angle)])
        found.append(_towards(hunter, aim + min(0.3, max(0.0, distance - 0.4)) * round_it))
    return np.stack(found)


EXPERTS: dict[str, Callable[[Any], np.ndarray]] = {"mpe-spread": cover, "mpe-tag": pursue, "mpe-world": pursue}


def _named(world: Any, name: str) -> Any:
    return next(each for each in world.agents if each.name == name)


def _towards(agent: Any, place: np.ndarray) -> np.ndarray:
    """The force, `[2]`, that brings it half of the way there in a step, or as far as it can."""
    wanted = (place - agent.state.p_pos) / (2 * STEP)
    strength = STEP * (agent.accel or 5.0) / agent.mass
    return np.clip((wanted - (1 - DAMPING) * agent.state.p_vel) / strength, -1, 1)
