"""Which critics can choose among many actions: python recipes/candidates.py [--critics NAME ...] [--candidates N ...]

IDQL's two halves are trained apart, since neither knows of the other: a diffusion model of the behaviour once, and the
critics of implicit Q-learning in several ways, each different from the first in one thing. Then one of N samples acts,
the best by Q or one drawn in proportion to exp Q, for several N. Writes OUT/candidates.md and OUT/candidates.png; what
is measured is kept in recipes/results/candidates.json, and not measured again. Runs in OUT go on where they are.
"""

import argparse
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import jax
import numpy as np
from measured import once, read

import reverie
from reverie.baselines import IQL
from reverie.errors import ReverieError
from reverie.evaluation.plots import DISTINCT, panels, save
from reverie.evaluation.statistics import WithInterval, aggregate
from reverie.policies import DiffusionBC
from reverie.rl import Selection, StepPolicy, select

BEHAVIOUR = DiffusionBC(hidden=(128, 128, 128))
# The Gaussian policy that IQL trains beside its critics is small, as nothing uses it.
CRITIC = IQL(rewards="returns", hidden=(32,), critic_hidden=(128, 128), tau=0.02, critic_layer_norm=False)
CRITICS = {
    "two critics": CRITIC,
    "256 wide": replace(CRITIC, critic_hidden=(256, 256)),
    "tau 0.005": replace(CRITIC, tau=0.005),
    "ten critics": replace(CRITIC, critics=10),
    "layer norm": replace(CRITIC, critic_layer_norm=True),
}
SETTING = ("set", "env", "behaviour_updates", "critic_updates", "seeds", "episodes")
"""Options with which a row was measured; the report is of the rows of the same."""
RESULTS = Path(__file__).parent / "results" / "candidates.json"


@dataclass(frozen=True)
class Chosen(StepPolicy):
    """One of n samples of the behaviour, by the critics' smallest Q. Its state are the two halves' states."""

    name: ClassVar[str] = "chosen"

    n: int = 1
    selection: Selection = "argmax"

    def choose(self, state, spec, observation, key):
        behaviour, implicit = state
        actions = BEHAVIOUR.sample_candidates(behaviour.actor.params, observation, key, self.n, spec.action_dim)
        values = implicit.critic.q.target(observation[:, None], actions).min(0)
        return select(actions, values, self.selection, jax.random.fold_in(key, 1))


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", default="hopper-mixture")
    parser.add_argument("--env", default="Hopper-v5")
    parser.add_argument("--critics", nargs="+", choices=CRITICS, default=list(CRITICS), metavar="NAME")
    parser.add_argument("--candidates", nargs="+", type=int, default=[1, 4, 16, 64], metavar="N")
    parser.add_argument("--behaviour-updates", type=int, default=60_000, metavar="N")
    parser.add_argument("--critic-updates", type=int, default=30_000, metavar="N")
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--episodes", type=int, default=20)
    parser.add_argument("--out", type=Path, default=Path("runs/candidates"))
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    try:
        run(options)
    except ReverieError as error:
        parser.error(str(error))


def run(options: argparse.Namespace) -> None:
    data = reverie.load_dataset(options.set)
    common = {"seeds": options.seeds, "resume": True}
    behaviour = reverie.fit(
        BEHAVIOUR, data, steps=options.behaviour_updates, out=options.out / options.set / "behaviour", **common
    )
    setting = {name: vars(options)[name] for name in SETTING}
    ways = [*((n, "argmax") for n in options.candidates), (max(options.candidates), "softmax")]
    for name in options.critics:
        folder = options.out / options.set / name.replace(" ", "-")
        critic = reverie.fit(CRITICS[name], data, steps=options.critic_updates, out=folder, **common)
        for n, selection in ways:
            once(
                options.results,
                setting | {"critics": name, "n": n, "selection": selection},
                lambda critic=critic, n=n, how=selection: evaluate(behaviour, critic, n, how, options),
            )
    report([row for row in read(options.results) if setting.items() <= row.items()], options.out)


def evaluate(behaviour, critic, n: int, selection: Selection, options: argparse.Namespace) -> dict:
    chosen = replace(
        critic, algorithm=Chosen(n=n, selection=selection), states=(behaviour.states, critic.states), path=None
    )
    scores = reverie.evaluate(chosen, options.env, episodes=options.episodes)
    return {"normalised": np.round(scores.normalised, 2).tolist(), "length": round(float(scores.lengths.mean()), 1)}


def report(rows: list[dict], out: Path) -> None:
    """The table and the picture of one set, means with 95 % intervals over seeds and episodes."""
    out.mkdir(parents=True, exist_ok=True)
    found = {}
    for row in rows:
        how = f"best of {row['n']}" if row["selection"] == "argmax" else f"softmax of {row['n']}"
        found.setdefault(row["critics"], {})[how] = (row, aggregate({row["set"]: np.array(row["normalised"])}))
    ways = sorted(
        {how for each in found.values() for how in each}, key=lambda how: (how[0] == "s", int(how.split()[-1]))
    )
    lines = ["| critics | " + " | ".join(ways) + " |", "|---" * (1 + len(ways)) + "|"]
    for critics, each in found.items():
        cells = [shown(each[how][1]) if how in each else "" for how in ways]
        lines.append(f"| {critics} | {' | '.join(cells)} |")
    text = "\n".join(lines) + "\n"
    (out / "candidates.md").write_text(text)
    print(text)
    draw(found, out / "candidates.png")


def shown(e: WithInterval) -> str:
    return f"{e.value:.1f}, {e.low:.1f} to {e.high:.1f}"


def draw(found: dict, path: Path) -> None:
    with panels(1, width=7.2, height=4.2) as (figure, axes):
        for (critics, each), colour in zip(found.items(), DISTINCT, strict=False):
            best = sorted(
                ((row["n"], e) for row, e in each.values() if row["selection"] == "argmax"), key=lambda p: p[0]
            )
            n, means = [n for n, _ in best], [e.value for _, e in best]
            axes[0].fill_between(n, [e.low for _, e in best], [e.high for _, e in best], color=colour, alpha=0.12, lw=0)
            axes[0].plot(n, means, "o-", color=colour, linewidth=1.8, markersize=4, label=critics)
        axes[0].set(
            xscale="log", xlabel="candidates, of which the best by Q acts", ylabel="normalised return", ylim=(0, 110)
        )
        axes[0].set_xticks(n, [str(each) for each in n], minor=False)
        axes[0].minorticks_off()
        axes[0].legend(loc="upper left")
    print(f"picture: {save(figure, path)}")


if __name__ == "__main__":
    main()
