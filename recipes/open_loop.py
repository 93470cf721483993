"""Compounding error: python recipes/open_loop.py --data SOURCE --out FOLDER

How far do learned dynamics follow the truth, given the first state and all actions? An ensemble predicts step by step,
each from its own prediction before; a diffusion model denoises the whole window of states at once, with the first state
and the actions in-painted, in training as in prediction. Both learn from the same episodes and are judged on others.
The error at a step is the root mean square over the observation's columns, in the data's standard deviations. Writes
OUT/open_loop.json, .md and .png; what is trained already, in OUT/ensemble and OUT/diffusion, is not trained again.
"""

import argparse
import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

import reverie
from reverie.data import Dataset, Gaussian, Spec, windows
from reverie.data.blocks import Blocks
from reverie.errors import ReverieError
from reverie.evaluation.plots import error_by_horizon, save
from reverie.models.ensemble import Ensemble, outcome
from reverie.networks.layers import parameter_count
from reverie.planning import WindowDiffusion
from reverie.synthesizers import MBPO

SHOWN = (1, 2, 4, 8, 16, 31, 63)
"""Steps in the table, as far as the windows go."""


@dataclass(frozen=True)
class WindowDynamics(WindowDiffusion):
    """Diffuser's model of windows, of which the first state and all actions are known."""

    name: ClassVar = "window-dynamics"
    role: ClassVar = "model"
    paper: ClassVar = ""
    needs: ClassVar[tuple[str, ...]] = ()

    def prepare(self, data: Dataset, spec: Spec | None = None):
        spec = spec or Spec.fit(data, observations=Gaussian, actions=Gaussian)
        return windows(data, spec, self.horizon), spec

    def inpaint_mask(self, horizon: int, blocks: Blocks) -> jax.Array:
        return (jnp.arange(horizon)[:, None] == 0) | blocks.mask("actions")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="hopper-mixture@every=5", help="a source, as `reverie` takes it")
    parser.add_argument("--out", type=Path, default=Path("runs/open-loop"))
    parser.add_argument("--ensemble-steps", type=int, default=10_000, help="updates of the ensemble")
    parser.add_argument("--diffusion-steps", type=int, default=3_000, help="updates of the diffusion model")
    parser.add_argument("--horizon", type=int, default=32, help="rows of a window; a multiple of 8")
    parser.add_argument("--width", type=int, default=32, help="of the diffusion model's first level")
    parser.add_argument("--hidden", type=int, nargs="+", default=[200, 200, 200, 200], help="widths of the ensemble")
    parser.add_argument("--windows", type=int, default=500, help="windows of the episodes held out")
    parser.add_argument("--held-out", type=float, default=0.1, help="share of the episodes")
    options = parser.parse_args()
    try:
        run(options)
    except ReverieError as error:
        parser.error(str(error))


def run(options: argparse.Namespace) -> None:
    seen, unseen = parted(reverie.load_dataset(options.data), options.held_out)
    ensemble = MBPO(hidden=tuple(options.hidden))
    start = options.diffusion_steps // 2
    diffusion = WindowDynamics(horizon=options.horizon, width=options.width, ema_start=start, ema_decay=0.9)
    steps = {"ensemble": options.ensemble_steps, "diffusion": options.diffusion_steps}
    runs = {
        name: reverie.fit(algorithm, seen, steps=steps[name], out=options.out / name, resume=True)
        for name, algorithm in (("ensemble", ensemble), ("diffusion", diffusion))
    }
    raw = windows(unseen, Spec.fit(unseen), options.horizon)
    chosen = np.random.default_rng(0).choice(len(raw), min(options.windows, len(raw)), replace=False)
    truth = raw.take(jnp.asarray(chosen))
    scale = jnp.asarray(Gaussian.fit(seen.observations).std)
    made = predictions(runs, truth["observations"], truth["actions"])
    curves = {name: summary(states, truth["observations"][:, 1:], scale) for name, states in made.items()}
    report(options, curves, {name: facts(each) for name, each in runs.items()}, len(chosen), len(unseen.episodes))


def parted(data: Dataset, share: float) -> tuple[Dataset, Dataset]:
    """Episodes to learn from, and others."""
    order = np.random.default_rng(0).permutation(len(data.episodes))
    held = max(1, round(share * len(order)))
    return data.take_episodes(np.sort(order[held:])), data.take_episodes(np.sort(order[:held]))


def predictions(runs: dict, states: jax.Array, actions: jax.Array) -> dict[str, jax.Array]:
    """States `[n, H - 1, observation]` after the first of `states` `[n, H, ...]`, of every predictor."""
    ensemble, diffusion = runs["ensemble"], runs["diffusion"]
    elites = ensemble.algorithm.ready(ensemble.state(), ensemble.spec).models.ensemble
    stepped = partial(step_by_step, elites, ensemble.spec, states[:, 0], actions[:, :-1], jax.random.key(0))
    return {
        "no change": jnp.broadcast_to(states[:, :1], states[:, 1:].shape),
        "ensemble, a random member each step": stepped(sampled=True),
        "ensemble, mean of the elites": stepped(sampled=False),
        "diffusion over the window": at_once(diffusion, states, actions),
    }


@partial(jax.jit, static_argnames="sampled")
def step_by_step(elites: Ensemble, spec: Spec, first, actions, key, *, sampled: bool) -> jax.Array:
    """By the mean of the elites' means, or by a sample of a random one as in a synthesizer's rollouts."""

    def step(s, inputs):
        a, key = inputs
        mean, log_variance = elites(spec.normalise("observations", s), spec.normalise("actions", a))
        member_key, noise_key = jax.random.split(key)
        chosen = jax.random.randint(member_key, (len(s),), 0, len(mean)), jnp.arange(len(s))
        noise = jnp.exp(log_variance[chosen] / 2) * jax.random.normal(noise_key, mean.shape[1:])
        next_s, _ = outcome(mean[chosen] + noise if sampled else mean.mean(0), s, spec)
        return next_s, next_s

    keys = jax.random.split(key, actions.shape[1])
    return jnp.swapaxes(jax.lax.scan(step, first, (jnp.swapaxes(actions, 0, 1), keys))[1], 0, 1)


def at_once(run: reverie.training.Run, states, actions) -> jax.Array:
    """One sample of every window."""
    spec, algorithm = run.spec, run.algorithm
    a, s = spec.normalise("actions", actions), spec.normalise("observations", states)
    values = jnp.concatenate([a, s * (jnp.arange(s.shape[1])[:, None] == 0)], -1)
    mask = algorithm.inpaint_mask(values.shape[1], algorithm.blocks(spec))
    denoise = jax.jit(lambda net: algorithm.denoise(algorithm.process.denoiser(net), jax.random.key(0), values, mask))
    plan = denoise(run.state().denoiser_ema)
    return spec.denormalise("observations", plan[:, 1:, spec.action_dim :])


def summary(made: jax.Array, truth: jax.Array, scale: jax.Array) -> dict[str, list[float]]:
    """Median and quartiles over windows, at 1, 2, ... steps."""
    error = np.sqrt(np.square((made - truth) / jnp.where(scale > 0, scale, 1)).mean(-1))
    low, median, high = np.quantile(error, [0.25, 0.5, 0.75], axis=0).tolist()
    return {"low": low, "median": median, "high": high}


def facts(run: reverie.training.Run) -> dict:
    state = run.state()
    nets = state.models.params.ensemble if hasattr(state, "models") else state.denoiser.params
    return {
        "updates": run.step,
        "parameters": parameter_count(nets),
        "minutes": float(run.metrics()["seconds"][-1]) / 60,
    }


def report(options: argparse.Namespace, curves: dict, trained: dict, windows: int, episodes: int) -> None:
    result = {"data": options.data, "windows": windows, "episodes": episodes, "trained": trained, "errors": curves}
    (options.out / "open_loop.json").write_text(json.dumps(result, indent=1) + "\n")
    text = table(curves)
    (options.out / "open_loop.md").write_text(text)
    print(text)
    for name, row in trained.items():
        print(f"{name}: {row['updates']:,} updates, {row['parameters']:,} parameters, {row['minutes']:.1f} minutes")
    title = f"{options.data}: {windows} windows of {episodes} episodes held out; median and quartiles"
    print(save(error_by_horizon(curves, title), options.out / "open_loop.png"))


def table(curves: dict) -> str:
    last = len(next(iter(curves.values()))["median"])
    steps = [step for step in SHOWN if step <= last]
    lines = [f"| error after | {' | '.join(f'{step}' for step in steps)} steps |", "|---" * (len(steps) + 1) + "|"]
    for name, curve in curves.items():
        cells = [
            f"{curve['median'][step - 1]:.3f} ({curve['low'][step - 1]:.3f} to {curve['high'][step - 1]:.3f})"
            for step in steps
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
