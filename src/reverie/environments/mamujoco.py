"""Multi-agent MuJoCo (Peng et al. 2021; Farama's `gymnasium-robotics`): bodies whose joints several agents move.

"mamujoco-halfcheetah": Gymnasium's HalfCheetah-v5 by two agents, one for each leg ("2x3"). Each sees its own joints,
the nearest of the other's, and the root; the reward is the body's, and the same for both.
"""

import io
from contextlib import redirect_stderr
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from reverie.environments.parallel import Joint

BODIES = {"mamujoco-halfcheetah": ("HalfCheetah", "2x3")}
"""Names, with the scenario and who moves what."""
NEAREST = 1
"""Joints of others that are seen, so many away (the package's default)."""
LIMIT = 1000


def make_mamujoco(name: str) -> "Joint":
    """One of BODIES. Raises ModuleNotFoundError where `gymnasium-robotics` is not installed."""
    with redirect_stderr(io.StringIO()):  # where it prints a notice
        from gymnasium_robotics import mamujoco_v1

    from reverie.environments.parallel import Joint

    scenario, agents = BODIES[name]
    env = mamujoco_v1.parallel_env(scenario, agents, agent_obsk=NEAREST)
    return Joint(env, name, LIMIT, reward=lambda rewards: rewards[0])


def whose(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Which numbers of the whole body's observation each agent sees, int `[A, d]`, and which of its action each takes,
    int `[A, action]`."""
    joint = make_mamujoco(name)
    env = joint.env
    observed = env.map_global_state_to_local_observations(np.arange(float(len(env.state()))))
    size = sum(joint.action_sizes)
    taken = env.map_global_action_to_local_actions(np.arange(float(size)))
    env.close()
    seen, done = (np.stack([each[agent] for agent in joint.team]).astype(int) for each in (observed, taken))
    return seen, done
