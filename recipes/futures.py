"""Values by future states: python recipes/futures.py [--set hopper-mixture --env Hopper-v5]

DVF learns from all episodes but every tenth. Of states and actions of those that it has not seen it tells the values of
the behaviour, which are compared with the discounted returns from there: by correlation, and by bias. Steps whose
recording was cut before the discount is a thousandth are left out, as their return is not known. It then acts, by the
best of one and of 4 actions that its model of the behaviour draws.

The run is kept in OUT; writes OUT.json, where what is there is not measured again, and OUT.png.
"""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from measured import once, read

import reverie
from reverie.data import Dataset, rewards_to_go
from reverie.evaluation.plots import BLUE, DISTINCT, INK, page, save
from reverie.roles import DVF
from reverie.roles.dvf import values

METHOD = DVF(width=128, blocks=2, hidden=(128, 128), draws=16)
HELD = 10
"""Of so many episodes one is not learned from."""
ROWS = 3000
"""Of these the values are told."""


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", default="hopper-mixture", metavar="SOURCE")
    parser.add_argument("--env", default="Hopper-v5")
    parser.add_argument("--updates", type=int, default=20_000)
    parser.add_argument("--candidates", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--episodes", type=int, default=40)
    parser.add_argument("--out", type=Path, default=Path("runs/futures"))
    options = parser.parse_args(arguments)
    learned, held = parted(reverie.load_dataset(options.set))
    method = replace(METHOD, decay_updates=options.updates)
    run = reverie.fit(method, learned, steps=options.updates, out=options.out, resume=True)
    run, results = replace(run, path=None), options.out.with_suffix(".json")
    for name in ("states", "states and actions"):
        once(results, {"values of": name}, lambda name=name: compared(run, held, name == "states"))
    for count in options.candidates:
        once(results, {"candidates": count}, lambda count=count: acted(run, count, options))
    rows = read(results)
    for row in rows:
        print({name: each for name, each in row.items() if not isinstance(each, list)})
    print(draw(rows, options.out.with_suffix(".png")))


def parted(data: Dataset) -> tuple[Dataset, Dataset]:
    """What is learned from, and what is not."""
    held = np.arange(len(data.episodes)) % HELD == 0
    return data.take_episodes(np.flatnonzero(~held)), data.take_episodes(np.flatnonzero(held))


def compared(run: Any, held: Dataset, alone: bool) -> dict[str, Any]:
    """Values of rows whose return is known, and the returns."""
    view = run.algorithm.prepare(held, run.spec)[0]
    known = np.flatnonzero(np.asarray(view.reach) >= view.longest)
    rows = np.sort(np.random.default_rng(0).choice(known, min(ROWS, len(known)), replace=False))
    told = values(run, held.observations[rows], None if alone else held.actions[rows])
    true = rewards_to_go(held, run.algorithm.discount)[rows]
    error = told - true
    return {
        "correlation": round(float(np.corrcoef(told, true)[0, 1]), 3),
        "bias": round(float(error.mean()), 2),
        "mean return": round(float(true.mean()), 1),
        "standard deviation": round(float(true.std()), 1),
        "rms error": round(float(np.sqrt(np.square(error).mean())), 1),
        "told": told.round(2).tolist(),
        "true": true.round(2).tolist(),
    }


def acted(run: Any, count: int, options: argparse.Namespace) -> dict[str, Any]:
    scores = reverie.evaluate(run.acting(candidates=count), options.env, episodes=options.episodes)
    found = scores.estimates["return"]
    return {
        "return": round(found.mean, 1),
        "low": round(found.episodes.low, 1),
        "high": round(found.episodes.high, 1),
        "returns": scores.returns.ravel().round(1).tolist(),
    }


def draw(rows: list[dict[str, Any]], path: Path) -> Path:
    """Values against returns, and what the choice among candidates is worth."""
    compared, chosen = ([row for row in rows if key in row] for key in ("values of", "candidates"))
    with page(3.2 * (len(compared) + 1), 3.1) as figure:
        *panels, last = figure.subplots(1, len(compared) + 1)
        for panel, row in zip(panels, compared, strict=True):
            panel.plot(row["true"], row["told"], ".", color=BLUE, markersize=1.5, alpha=0.4)
            panel.axline((row["mean return"],) * 2, slope=1, color=INK, lw=0.8)
            panel.set(title=f"{row['values of']}\nr = {row['correlation']}", xlabel="discounted return from there")
        panels[0].set(ylabel="value told")
        place = np.arange(len(chosen))
        for x, row in zip(place, chosen, strict=True):
            last.plot(np.full(len(row["returns"]), x), row["returns"], ".", color=DISTINCT[0], markersize=3)
            last.errorbar(x + 0.15, row["return"], [[row["return"] - row["low"]], [row["high"] - row["return"]]],
                          fmt="o", color=BLUE, markersize=4, lw=1.2)  # fmt: skip
        last.set(title="episodes' returns", xlabel="candidates", xlim=(-0.5, len(chosen) - 0.5))
        last.set_xticks(place, labels=[str(row["candidates"]) for row in chosen])
        return save(figure, path)


if __name__ == "__main__":
    main()
