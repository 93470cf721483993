"""How well policies model data of many ways to act: python recipes/modes.py [--sets SET ...] [--updates N ...]

Behaviour cloning by a Gaussian of the state and by diffusion with 5 and 50 noise levels, on the mixtures of agents.
After each number of updates a classifier learns to tell the policy's actions from the data's (`reverie two-sample`);
50 % of held-out actions are told where it cannot. Writes OUT/modes.md and OUT/modes-SET.png: actions of data and
policies at frequent states. What is measured is kept in recipes/results/modes.json; runs in OUT go on where they are.
"""

import argparse
from pathlib import Path

import numpy as np
from measured import once, read

import reverie
from reverie.baselines import BC
from reverie.errors import ReverieError
from reverie.evaluation import two_sample
from reverie.evaluation.data_pictures import MARKS, NEAR, frequent, sample, standardised
from reverie.evaluation.plots import page, save
from reverie.policies import DiffusionBC

WIDTH = (128, 128, 128)
MODELS = {
    "a Gaussian of the state": BC(hidden=WIDTH, stochastic=True),
    "diffusion, 5 levels": DiffusionBC(hidden=WIDTH, diffusion_steps=5),
    "diffusion, 50 levels": DiffusionBC(hidden=WIDTH, diffusion_steps=50),
}
RESULTS = Path(__file__).parent / "results" / "modes.json"
BLUR = 0.1


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", nargs="+", default=["hopper-mixture", "halfcheetah-mixture"], metavar="SET")
    parser.add_argument("--updates", nargs="+", type=int, default=[15_000, 60_000, 120_000], metavar="N")
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--rows", type=int, default=10_000, help="pairs of each kind that train the classifier")
    parser.add_argument("--out", type=Path, default=Path("runs/modes"))
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    try:
        run(options)
    except ReverieError as error:
        parser.error(str(error))


def run(options: argparse.Namespace) -> None:
    for name in options.sets:
        data = reverie.load_dataset(name)
        for label, model in MODELS.items():
            for updates in sorted(options.updates):
                measure(name, label, model, updates, data, options)
        draw(data, options.out / name, options.out / f"modes-{name}.png")
    text = table(read(options.results))
    (options.out / "modes.md").write_text(text)
    print(text)


def folder(out: Path, label: str) -> Path:
    return out / label.replace(", ", "-").replace(" ", "-")


def measure(name: str, label: str, model, updates: int, data, options: argparse.Namespace) -> None:
    """Train on to so many updates, and judge, unless that is done."""
    wanted = {"set": name, "model": label, "updates": updates, "seeds": options.seeds}
    once(options.results, wanted, lambda: judge(name, label, model, updates, data, options))


def judge(name: str, label: str, model, updates: int, data, options: argparse.Namespace) -> dict:
    out = folder(options.out / name, label)
    run = reverie.fit(model, data, steps=updates, seeds=options.seeds, out=out, resume=True)
    judged = {str(blur): two_sample(run, data, options.rows, blur=blur).accuracy.tolist() for blur in (0.0, BLUR)}
    return {"accuracy": judged, "minutes": float(run.metrics()["seconds"][-1]) / 60}


def table(rows: list[dict]) -> str:
    """Markdown: mean accuracy and the range of the seeds."""
    lines = [f"| set | behaviour cloning by | updates | classifier accuracy | with both blurred by {BLUR} | minutes |"]
    lines.append("|---" * 6 + "|")
    for row in rows:
        told = [
            f"{100 * np.mean(x):.1f} % ({100 * min(x):.1f} to {100 * max(x):.1f})" for x in row["accuracy"].values()
        ]
        cells = (row["set"], row["model"], f"{row['updates']:,}", *told, f"{row['minutes']:.1f}")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def draw(data, runs: Path, path: Path) -> None:
    """At three frequent states the actions of the nearest rows of the data, and as many samples of each policy."""
    sampled = sample(data)
    states = frequent(sampled.states, standardised(sampled.plane))
    trained = {label: reverie.load(folder(runs, label)) for label in MODELS}
    with page(3.0 * (1 + len(trained)), 2.8 * len(states)) as figure:
        figure.set_layout_engine("constrained")
        grid = figure.subplots(len(states), 1 + len(trained), sharex="row", sharey="row", squeeze=False)
        for row, state in enumerate(states):
            near = np.argsort(np.linalg.norm(sampled.states - sampled.states[state], axis=1), kind="stable")[:NEAR]
            shown = {"the data": sampled.actions[near]}
            for label, run in trained.items():
                seen = data.observations[sampled.rows[near]]
                shown[label] = actions(run, seen)
            first, second = np.sort(np.argsort(-shown["the data"].std(axis=0))[:2])
            for ax, (label, acted) in zip(grid[row], shown.items(), strict=True):
                ax.scatter(acted[:, first], acted[:, second], s=12, color=MARKS[row], alpha=0.45, linewidths=0)
                ax.set_xlabel(f"action {first}")
                ax.set_title(label if row == 0 else "")
            grid[row][0].set_ylabel(f"state {row + 1}: action {second}")
    print(f"picture: {save(figure, path)}")


def actions(run, observations: np.ndarray) -> np.ndarray:
    """One of the first seed at each observation [n, obs]."""
    import jax

    seen = jax.numpy.asarray(observations)
    acted, _ = run.algorithm.act(run.state(), run.spec, seen, (), {}, jax.random.key(0))
    return np.asarray(acted)


if __name__ == "__main__":
    main()
