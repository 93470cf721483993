"""How many of four equal goals are kept: python recipes/goals.py [--steps N] [--seeds S] [--agents NAME ...]

Agents that learn online in the task `multigoal`, of which some have a policy of one mode. Each then acts in episodes
from the middle (SAC by samples): the share that reaches a goal, and to how many of the goals at least 5 % of them go.
Writes OUT/goals.md, .json and .png. A run is a folder, OUT/AGENT: what is there goes on, or is left as it is when it
has all its steps.
"""

import argparse
import subprocess
import sys
from pathlib import Path
from typing import Any

import measured
import numpy as np
from ways import Followed

import reverie
from reverie.environments.multigoal import GOAL_RADIUS, GOALS
from reverie.evaluation import bootstrap
from reverie.evaluation.plots import DISTINCT, page, save

PARTICLES = "--diffusion-steps 20 --candidates 1"
AGENTS = {
    "sac": "",
    "td3": "--exploring-noise 0.3",
    "dipo": "--diffusion-steps 20 --exploring-noise 0.1 --step-noise 1",
    "qsm": f"{PARTICLES} --temperature 0.2",
    "qsm-warm": f"{PARTICLES} --temperature 0.5",
    "sdac": f"{PARTICLES} --temperature 0.05 --particles 32",
    "sdac-warm": f"{PARTICLES} --temperature 0.3 --particles 32",
    "qvpo": f"{PARTICLES} --sampled-actions 16",
    "dpmd": f"{PARTICLES} --particles 8 --nfe 5 --target-kl 0.5",
}
"""By the method's name, which -warm follows where the temperature is higher than that of the line above."""
SHORT = (
    "--hidden 64 64 --critic-hidden 64 64 --batch-size 128 --learning-rate 1e-3 --warmup 1000 --update-interval 50 "
    "--utd-ratio 0.5 --log-every 500"
)
SHARE = 0.05
"""Of the episodes, from which on a goal is kept."""


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--agents", nargs="+", default=list(AGENTS), choices=AGENTS, metavar="NAME")
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--episodes", type=int, default=100, help="of each seed")
    parser.add_argument("--out", type=Path, default=Path("runs/goals"))
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    for agent in options.agents:
        wanted = {"agent": agent, "steps": options.steps, "seeds": options.seeds, "episodes": options.episodes}
        measured.once(options.out / "goals.json", wanted, lambda agent=agent: measure(agent, options))
    report(options)


def measure(agent: str, options: argparse.Namespace) -> dict[str, Any]:
    out = options.out / agent
    words = f"online {agent.removesuffix('-warm')} --env multigoal --steps {options.steps} --seeds {options.seeds}"
    words = f"{words} {SHORT} {AGENTS[agent]}"
    command = [*words.split(), "--resume", "--out", str(out)]
    print("reverie", *command, flush=True)
    with (options.out / f"{agent}.log").open("a") as log:
        subprocess.run([sys.executable, "-m", "reverie.cli", *command], check=True, stdout=log, stderr=log)
    run = reverie.load(out)
    seconds = run.metrics()["seconds"].max()
    found = [ends(*each) for each in followed(run, options.episodes)]
    return {"minutes": round(float(seconds) / 60, 1), "shares": found}


def followed(run: Any, episodes: int) -> list[tuple[list[np.ndarray], np.ndarray]]:
    """For each seed the paths `[T, 2]` of so many episodes, and whether each reached a goal."""
    acting = {"stochastic": True} if run.name == "sac" else {}
    policy = Followed(run.acting(**acting))
    scores = reverie.evaluate(policy, "multigoal", episodes * len(run.seeds))
    places = np.stack(policy.places, 1)
    paths = [place[:length] for place, length in zip(places, scores.lengths.ravel(), strict=True)]
    parts = [slice(k * episodes, (k + 1) * episodes) for k in range(len(run.seeds))]
    return [(paths[part], scores.successes.ravel()[part]) for part in parts]


def nearest(path: np.ndarray) -> int:
    """The number, from 0, of the goal that the path ends nearest to."""
    return int(np.linalg.norm(GOALS - path[-1], axis=1).argmin())


def ends(paths: list[np.ndarray], reached: np.ndarray) -> list[float]:
    """The share of the episodes that reach each goal."""
    goals = [nearest(path) for path, good in zip(paths, reached, strict=True) if good]
    return [goals.count(goal) / len(paths) for goal in range(len(GOALS))]


def report(options: argparse.Namespace) -> None:
    rows = {row["agent"]: row for row in measured.read(options.out / "goals.json")}
    shown = [agent for agent in options.agents if agent in rows]
    lines = ["| agent | goals kept, by seed | reaches a goal, 95 % over seeds | minutes |", "|---|---|---|---|"]
    for agent in shown:
        shares = np.array(rows[agent]["shares"])
        kept, reached = (shares >= SHARE).sum(1), 100 * shares.sum(1)
        by_seed = ", ".join(map(str, kept))
        lines.append(
            f"| {agent} | {by_seed} | {reached.mean():.0f} %, {bootstrap(reached)} | {rows[agent]['minutes']} |"
        )
    (options.out / "goals.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))
    print(f"picture: {draw(shown, options)}")


def draw(agents: list[str], options: argparse.Namespace) -> Path:
    """The paths of the first seed of each, coloured by the goal they end at."""
    from matplotlib.patches import Circle

    with page(2.3 * len(agents), 2.9) as figure:
        panels = np.atleast_1d(figure.subplots(1, len(agents), sharey=True))
        for panel, agent in zip(panels, agents, strict=True):
            run = reverie.load(options.out / agent)
            paths, reached = followed(run, options.episodes)[0]
            for path, good in zip(paths, reached, strict=True):
                panel.plot(*path.T, color=DISTINCT[nearest(path)] if good else "#8a919c", lw=0.6)
            for goal in GOALS:
                panel.add_patch(Circle(goal, GOAL_RADIUS, color="#90ee90"))
            panel.set(title=agent, aspect="equal", xlim=(-1.3, 1.3), ylim=(-1.3, 1.3))
        return save(figure, options.out / "goals.png")


if __name__ == "__main__":
    main()
