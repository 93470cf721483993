"""Trajectories imagined in three ways: python recipes/imagined.py [--env Pendulum-v1] [--horizon 10] [--returns 6000]

Steps by uniformly random actions in a task; from them learn PolyGRAD, which imagines a trajectory whole, an ensemble
as MBPO has, and a latent model in Dreamer's way, which go a step at a time. Each imagines, from states that it has not
seen, the policy that PolyGRAD learned on the way. The actions that it imagined are then taken in the task itself from
the same states: how far are the states from those imagined, after how many steps? In `linear`, a linear system with
noise, the task itself is off as well, and what is told of it is what no model can be without.

With `--returns` three agents learn in the task for so many steps: PolyGRAD, the latent model's, and SAC, which imagines
nothing. The runs are kept in OUT; writes OUT.json, where what is there is not measured again, and OUT.png.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
from gymnasium.envs.registration import EnvSpec
from gymnasium.spaces import Box
from measured import once, read

import reverie
from reverie.baselines import SAC
from reverie.data import Dataset
from reverie.environments import make
from reverie.evaluation.plots import BLUE, DISTINCT, SOFT, page, save
from reverie.roles import LatentDynamics, PolyGRAD
from reverie.synthesizers import MBPO

POLICY: dict[str, Any] = {
    "hidden": (64, 64), "critic_hidden": (64, 64), "imagined": 64, "learning_rate": 1e-3, "actor_learning_rate": 1e-3,
    "critic_learning_rate": 1e-3, "policy_gradient_clip": 1.0, "policy_change": 0.03, "entropy_weight": 1e-3,
    "tau": 0.02, "initial_std": 0.6,
}  # fmt: skip
NAMES = {"polygrad": "PolyGRAD, whole", "mbpo": "ensemble (MBPO)", "latent-dynamics": "latent (Dreamer's way)"}
COLOURS = dict(zip(NAMES, (BLUE, DISTINCT[1], DISTINCT[3]), strict=True))
STARTS = 256
"""Trajectories that errors are means of."""


class Linear(gymnasium.Env):
    """A point with a speed, pushed about by noise: s' = A s + B a + 0.05 z. Each step costs |s|²; an episode has 50."""

    A, B, NOISE = np.array([[1.0, 0.3], [0.0, 0.9]]), np.array([0.0, 0.4]), 0.05

    def __init__(self) -> None:
        self.spec = EnvSpec("linear", max_episode_steps=50)
        self.action_space = Box(-1.0, 1.0, (1,), np.float32)
        self.observation_space = Box(-np.inf, np.inf, (2,), np.float32)
        self.state, self.steps = np.zeros(2), 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.state, self.steps = self.np_random.normal(0, 1, 2), 0
        return self.state.astype(np.float32), {}

    def step(self, action: Any) -> Any:
        paid = -float(np.square(self.state).sum())
        pushed = self.B * float(np.clip(action, -1, 1)[0]) + self.NOISE * self.np_random.normal(size=2)
        self.state, self.steps = self.A @ self.state + pushed, self.steps + 1
        return self.state.astype(np.float32), paid, False, self.steps >= 50, {}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env", default="Pendulum-v1", help="linear, Pendulum-v1, or a locomotion task of MuJoCo")
    parser.add_argument("--horizon", type=int, default=10, help="states of a trajectory")
    parser.add_argument("--steps", type=int, default=10_000, help="of the data")
    parser.add_argument("--updates", type=int, default=5000, help="of each model")
    parser.add_argument("--returns", type=int, default=0, help="steps of each agent that learns in the task")
    parser.add_argument("--out", type=Path, default=Path("runs/imagined"))
    options = parser.parse_args(arguments)
    env, results = Linear if options.env == "linear" else options.env, options.out.with_suffix(".json")
    data, held = collected(env, options.steps, 0), collected(env, 2000, 1)
    starts = held.observations[np.random.default_rng(0).permutation(len(held))[:STARTS]]
    scale = data.observations.std(0)
    runs = {}
    for algorithm in methods(options.horizon):
        clock, out = time.perf_counter(), options.out / options.env / f"{algorithm.name}-{options.horizon}"
        falling = replace(algorithm, decay_updates=options.updates)
        runs[algorithm.name] = reverie.fit(falling, data, steps=options.updates, out=out, resume=True)
        print(f"{algorithm.name}: {time.perf_counter() - clock:.0f} s")
    policy = policy_of(runs["polygrad"])
    for name, run in runs.items():
        arm = {"env": options.env, "horizon": options.horizon, "model": name}
        ways = whole if name == "polygrad" else stepwise
        once(results, arm, lambda run=run, ways=ways: compared(env, *ways(run, policy, starts, options.horizon), scale))
    if options.env == "linear":
        arm = {"env": options.env, "horizon": options.horizon, "model": "the task itself"}
        once(results, arm, lambda: again(env, *whole(runs["polygrad"], policy, starts, options.horizon), scale))
    for algorithm in agents(options.horizon) if options.returns else ():
        arm = {"env": options.env, "agent": algorithm.name, "steps": options.returns}
        once(results, arm, lambda algorithm=algorithm: returned(env, algorithm, options.returns))
    rows = read(results)
    for row in rows:
        print(row)
    print(draw(rows, options.out.with_suffix(".png")))


def methods(horizon: int) -> list[Any]:
    """A model of each kind, small, and for trajectories of so many states."""
    return [
        PolyGRAD(horizon=horizon, diffusion_steps=16, width=192, blocks=3, batch_size=128, strength=0.03,
                 strength_rate=0.01, **POLICY),
        MBPO(horizon=horizon - 1, members=5, elites=3, hidden=(64, 64, 64), policy_hidden=(64, 64), batch_size=128),
        LatentDynamics(horizon=horizon - 1, steps_in_a_row=max(16, horizon), width=64, latent_size=8,
                       model_hidden=(64, 64), batch_size=16, **POLICY),
    ]  # fmt: skip


def agents(horizon: int) -> list[Any]:
    """Those that learn in the task."""
    polygrad, _, latent = methods(horizon)
    return [polygrad, latent, SAC(hidden=(64, 64), critic_hidden=(64, 64), learning_rate=1e-3, batch_size=128)]


def collected(env: Any, steps: int, seed: int) -> Dataset:
    """Episodes by uniformly random actions, each of which is kept for one to ten steps."""
    task, rng, rows = make(env), np.random.default_rng(seed), []
    low, high = task.action_space.low, task.action_space.high
    while len(rows) < steps:
        (seen, _), over, held = task.reset(seed=int(rng.integers(2**31))), False, 0
        while not over:
            if not held:
                action, held = rng.uniform(low, high).astype(np.float32), int(rng.integers(1, 11))
            after, reward, ended, cut, _ = task.step(action)
            rows.append((seen, action, reward, ended, cut and not ended, after))
            seen, held, over = after, held - 1, ended or cut
    task.close()
    observations, actions, rewards, terminals, timeouts, following = (
        np.array(each) for each in zip(*rows, strict=True)
    )
    return Dataset.from_arrays(
        *(observations, actions, rewards), terminals=terminals, timeouts=timeouts, next_observations=following,
        action_low=low, action_high=high, attributes={"name": "random steps"},
    )  # fmt: skip


def policy_of(run: Any) -> Callable:
    """(observations, key) -> actions, in the task's units, of PolyGRAD's policy as it explores."""
    algorithm, spec, actor = run.algorithm, run.spec, run.state().actor.params

    def act(observations, key):
        drawn = algorithm.policy(actor, spec.normalise("observations", observations)).sample(key)
        return spec.denormalise("actions", jnp.clip(drawn, -1, 1))

    return act


def whole(run: Any, policy: Callable, starts: np.ndarray, horizon: int) -> tuple[np.ndarray, np.ndarray, dict]:
    """States `[n, H, observation]` and actions `[n, H - 1, action]` that PolyGRAD imagines, and how its actions are
    spread, in the policy's standard deviations."""
    algorithm, spec, state = run.algorithm, run.spec, run.state()
    begun = spec.normalise("observations", starts)
    imagine = jax.jit(lambda key: algorithm.imagine(state.model, state.actor.params, begun, key))
    found, _, told = imagine(jax.random.key(1))
    states = spec.denormalise("observations", jnp.swapaxes(found.seen, 0, 1))
    actions = spec.denormalise("actions", jnp.clip(jnp.swapaxes(found.actions, 0, 1), -1, 1))
    return np.asarray(states), np.asarray(actions), {name: round(float(each), 3) for name, each in told.items()}


def stepwise(run: Any, policy: Callable, starts: np.ndarray, horizon: int) -> tuple[np.ndarray, np.ndarray, dict]:
    """The same of a model that goes a step at a time, in which the policy sees what the model tells."""
    algorithm, spec = run.algorithm, run.spec
    world = algorithm.world(run.state(), spec)

    def step(carry, key):
        memory, seen = carry
        action_key, model_key = jax.random.split(key)
        actions = policy(seen, action_key)
        memory, rows = algorithm.follow(world, spec, memory, actions, model_key)
        return (memory, rows["next_observations"]), (rows["next_observations"], actions)

    memory = algorithm.begin(world, spec, jnp.asarray(starts), jax.random.key(0))
    go = jax.jit(lambda carry: jax.lax.scan(step, carry, jax.random.split(jax.random.key(1), horizon - 1))[1])
    states, actions = (np.swapaxes(np.asarray(each), 0, 1) for each in go((memory, jnp.asarray(starts))))
    return np.concatenate([starts[:, None], states], 1), actions, {}


def taken(env: Any, starts: np.ndarray, actions: np.ndarray, seed: int = 0) -> np.ndarray:
    """The states of the task itself by these actions, `[n, H, observation]`; NaN once it has ended."""
    task = make(env)
    task.reset(seed=seed)
    states = np.full((len(starts), actions.shape[1] + 1, starts.shape[-1]), np.nan)
    for i, start in enumerate(starts):
        task.reset()
        place(task.unwrapped, start)
        states[i, 0] = start
        for t, action in enumerate(actions[i]):
            states[i, t + 1], _, ended, _, _ = task.step(action)
            if ended:
                break
    task.close()
    return states


def place(task: Any, observation: np.ndarray) -> None:
    """Put the task where this is observed. In locomotion it is all but how far it has come."""
    if isinstance(task, Linear):
        task.state = np.array(observation, float)
    elif hasattr(task, "set_state"):
        size = task.model.nq - 1
        task.set_state(np.append(0.0, observation[:size]), np.array(observation[size:], float))
    else:
        cos, sin, speed = observation
        task.state = np.array([np.arctan2(sin, cos), speed])


def compared(env: Any, states: np.ndarray, actions: np.ndarray, told: dict, scale: np.ndarray) -> dict[str, Any]:
    """How far what was imagined is from the task itself, by the steps imagined."""
    return {"error": errors(states, taken(env, states[:, 0], actions), scale)} | told


def again(env: Any, states: np.ndarray, actions: np.ndarray, told: dict, scale: np.ndarray) -> dict[str, Any]:
    """How far the task is from itself, by the same actions."""
    first, second = (taken(env, states[:, 0], actions, seed) for seed in (0, 1))
    return {"error": errors(first, second, scale)}


def errors(states: np.ndarray, others: np.ndarray, scale: np.ndarray) -> list[float]:
    """Roots of the mean squared distance, in the data's standard deviations, after 1, 2, ... steps; of trajectories
    whose task has not ended."""
    square = np.square((states - others) / scale).mean(-1)[:, 1:]
    return np.sqrt(np.nanmean(square, 0)).round(4).tolist()


def returned(env: Any, algorithm: Any, steps: int) -> dict[str, Any]:
    """What an agent returns after so many steps in the task, and how long that took."""
    clock = time.perf_counter()
    run = reverie.fit_online(algorithm, env, steps=steps, warmup=1000, log_every=500)
    seconds = time.perf_counter() - clock
    scores = reverie.evaluate(run, env=env, episodes=20)
    curve = run.metrics()
    return {
        "return": round(float(np.mean(scores.returns)), 1),
        "seconds": round(seconds),
        "at": curve["step"].tolist(),
        "exploring": curve["return"].round(1).tolist(),
    }


def draw(rows: list[dict[str, Any]], path: Path) -> Path:
    """Errors against the steps imagined, a panel for a task and a horizon."""
    errs = [row for row in rows if "error" in row]
    panels = list(dict.fromkeys((row["env"], row["horizon"]) for row in errs))
    with page(3.6 * len(panels), 3.0) as figure:
        for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
            for row in errs:
                if (row["env"], row["horizon"]) == panel:
                    style = {"color": COLOURS.get(row["model"], SOFT), "label": NAMES.get(row["model"], row["model"])}
                    axes.plot(range(1, len(row["error"]) + 1), row["error"], "--" if row["model"] not in NAMES else "-",
                              **style)  # fmt: skip
            axes.set(
                title=f"{panel[0]}, {panel[1]} states", xlabel="steps imagined", ylabel="error, standard deviations"
            )
            axes.set_ylim(bottom=0)
            axes.legend(fontsize=8)
        return save(figure, path)


if __name__ == "__main__":
    main()
