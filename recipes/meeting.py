"""Who agrees: python recipes/meeting.py

Two agents must go to the same of two places (`meeting`). MADiff plans for both, with attention across them and without,
and each agent for itself and the other. Draws the paths of episodes, coloured by whether the agents met, and how far
from the truth an agent's plan for the other is, by how many steps ahead and how long they have been under way: on
demonstrations that were not trained on. Runs are kept in OUT; what is in OUT.json is not measured again.
"""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from measured import once, read

import reverie
from reverie.collection import make_dataset
from reverie.data import Dataset
from reverie.evaluation import RunPolicy
from reverie.evaluation.plots import BLUE, DISTINCT, page, save
from reverie.planners import MADiff
from reverie.wishes import resolve

ARMS = {
    "planned together": MADiff(),
    "without attention": MADiff(agent_attention=False),
    "each for itself": MADiff(execution="decentralised"),
}
SMALL: dict[str, Any] = {
    "discount": 1.0, "horizon": 8, "width": 16, "multipliers": (1, 2), "diffusion_steps": 10, "hidden": (32,),
    "batch_size": 64, "learning_rate": 2e-3, "ema_start": 200, "ema_decay": 0.97,
}  # fmt: skip
STARTS = (0, 1, 3)
"""Steps since the episode's start, at which an agent tells what the other will do."""


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--updates", type=int, default=3000)
    parser.add_argument("--episodes", type=int, default=100)
    parser.add_argument("--out", type=Path, default=Path("runs/meeting"))
    options = parser.parse_args(arguments)
    results, unseen = options.out.with_suffix(".json"), make_dataset("meeting", seed=1)
    for name in ARMS:
        run = trained(name, options)
        once(results, {"arm": name}, lambda run=run: followed(run, options.episodes))
        if run.algorithm.execution == "decentralised":
            for start in STARTS:
                wanted = {"told after": start}
                once(results, wanted, lambda run=run, start=start: {"error": misses(run, unseen, start)})
    rows = read(results)
    for row in rows:
        print(f"{row['arm']}: {row['met']:.0%} met" if "arm" in row else f"after {row['told after']}: {row['error']}")
    print(draw(rows, options.out.with_suffix(".png")))


def trained(name: str, options: argparse.Namespace) -> Any:
    folder = options.out / name.replace(" ", "-")
    if folder.exists():
        return reverie.load(folder)
    algorithm = replace(ARMS[name], **SMALL, decay_updates=options.updates)
    return reverie.fit(algorithm, make_dataset("meeting"), steps=options.updates, out=folder)


class Followed(RunPolicy):
    """Remembers the positions, `[steps, n, 2]`."""

    def reset(self, n: int) -> None:
        super().reset(n)
        self.places: list[np.ndarray] = []

    def act(self, observations: Any, feedback: Any = None) -> np.ndarray:
        self.places.append(np.array(observations)[..., 0])
        return super().act(observations, feedback)


def followed(run: Any, episodes: int) -> dict[str, Any]:
    """The share of the episodes in which the agents met, and the paths of all."""
    policy = Followed(replace(run, path=None), 0)
    scores = reverie.evaluate(policy, "meeting", episodes)
    places, lengths = np.stack(policy.places, 1), scores.lengths.ravel()
    paths = [place[:length].round(3).tolist() for place, length in zip(places, lengths, strict=True)]
    met = scores.successes.ravel()
    return {"met": float(met.mean()), "meetings": met.tolist(), "paths": paths}


def misses(run: Any, data: Dataset, start: int) -> list[float]:
    """How far from the truth is where the first agent, by what it sees `start` steps after the beginning, expects the
    second 0, 1, ... steps later: the mean of all episodes that last so long."""
    algorithm, spec, horizon = run.algorithm, run.spec, run.algorithm.horizon
    begins = data.episodes[np.diff(data.episodes)[:, 0] > start, 0] + start
    carry = algorithm.reset(spec, len(begins), resolve(run.name, run.wishes, {}, len(begins)))
    rows = expected(algorithm, run.state(), spec, jnp.asarray(data.observations[begins]), carry)
    told = np.asarray(spec.denormalise("observations", rows.reshape(*rows.shape[:3], 2, -1)))[:, 0, :, 1, 0]
    ends = data.episodes[np.diff(data.episodes)[:, 0] > start, 1]
    found = []
    for ahead in range(horizon):
        there = begins + ahead < ends
        if there.mean() > 0.5:
            gap = told[there, ahead] - data.observations[(begins + ahead)[there], 1, 0]
            found.append(round(float(np.abs(gap).mean()), 4))
    return found


def _expected(algorithm: Any, state: Any, spec: Any, observation: Any, carry: Any) -> jax.Array:
    denoiser = algorithm.denoiser(state, spec, carry)
    return algorithm.plan(denoiser, spec, observation, carry[0], jax.random.key(0))


expected = jax.jit(_expected, static_argnums=0)


def draw(rows: list[dict[str, Any]], path: Path) -> Path:
    arms, errors = ([row for row in rows if key in row] for key in ("arm", "told after"))
    with page(2.7 * (len(arms) + 1), 3.0) as figure:
        *panels, last = figure.subplots(1, len(arms) + 1)
        for panel, row in zip(panels, arms, strict=True):
            for places, met in list(zip(row["paths"], row["meetings"], strict=True))[:20]:
                panel.plot(np.array(places), color=BLUE if met else DISTINCT[1], lw=0.6)
            panel.set(title=f"{row['arm']}\n{row['met']:.0%} met", xlabel="step", ylim=(-1.25, 1.25))
        panels[0].set(ylabel="position")
        for row in errors:
            last.plot(row["error"], marker="o", markersize=3, label=f"after {row['told after']} steps")
        last.set(title="an agent's plan for the other:\nmean error", xlabel="steps ahead", ylim=(0, None))
        last.legend(frameon=False, fontsize=8)
        return save(figure, path)


if __name__ == "__main__":
    main()
