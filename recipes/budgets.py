"""What becomes of a budget: python recipes/budgets.py

The point on a line that is paid for its speed, which is also what it costs (`reverie data make speed`): of a budget as
much return comes as is spent, so the best that can be got is the budget. TREBI and CDT are trained once and asked for
each of the budgets; BC on the episodes that cost no more, and TD3+BC-Lag, are trained for each of their own. CDT is
also told the return: the highest of the data's episodes within the budget.

Writes OUT/budgets.png, costs got against budgets asked for with 95 % intervals over seeds and episodes, episodes above
the budget, and what is spent where the budget changes in the middle of an episode; and OUT/budgets.md. What is measured
is kept in OUT/budgets.json, and not measured again; trainings go on where they stopped.
"""

import argparse
import warnings
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from measured import once, read

import reverie
from reverie.baselines import BC, CDT, TD3BCLag
from reverie.data import Dataset, costs_to_go
from reverie.data.selecting import select
from reverie.environments.speed import GAIN, LIMIT
from reverie.errors import ReverieWarning
from reverie.evaluation import RunPolicy
from reverie.evaluation.plots import DISTINCT, panels, save
from reverie.evaluation.statistics import WithInterval, aggregate
from reverie.planners import TREBI

SHARES = (0.1, 0.2, 0.5, 0.8, 0.95)
"""Of 32, which the fastest episode costs nearly."""
OWN = (0.2, 0.5, 0.8)
"""For which the methods are trained that need a training for each budget."""
CAUTION = 0.95
"""Share of the budget that is asked for where something is kept back."""
CHANGES = ((0.8, 0.55), (0.2, 0.5))
"""Budgets before and after the middle of an episode."""
LINES = {
    "TREBI": (DISTINCT[2], "-"),
    f"TREBI, asked for {CAUTION:.0%}": (DISTINCT[2], "--"),
    "CDT": (DISTINCT[1], "-"),
    f"CDT, asked for {CAUTION:.0%}": (DISTINCT[1], "--"),
    "BC, episodes within": (DISTINCT[3], "-"),
    "TD3+BC-Lag": (DISTINCT[4], "-"),
}
"""Colour and line of what is drawn over all budgets."""
PLANNER = TREBI(
    horizon=16,
    width=32,
    multipliers=(1,),
    diffusion_steps=10,
    learning_rate=1e-3,
    ema_decay=0.97,
    candidates=8,
    guidance_scale=1.0,
)
TRANSFORMER = CDT(context=8, width=32, depth=2, timesteps=LIMIT, learning_rate=1e-3, warmup_updates=200, dropout=0.0)
SMALL = {"hidden": (64, 64), "batch_size": 128, "learning_rate": 1e-3}


@dataclass(frozen=True)
class Knowing(TREBI):
    """Knows what a window costs, where it reaches to the episode's end."""

    def to_go(self, net: Any, spec: Any, column: str) -> Callable:
        learned, blocks = super().to_go(net, spec, column), self.blocks(spec)
        actions, observations = blocks.slice("actions"), blocks.slice("observations")

        def known(x: Any, t: Any) -> Any:
            seen = spec.denormalise("observations", x[..., observations])
            speeds = jnp.clip(seen[..., 0], 0, 1) + GAIN * spec.denormalise("actions", x[..., actions])[..., 0]
            left, step = jnp.round(LIMIT * seen[..., :1, 1]), jnp.arange(self.horizon)
            costs = (self.discount**step * jnp.clip(speeds, 0, 1) * (step < left)).sum(-1)
            return jnp.where(left[..., 0] <= self.horizon, costs, learned(x, t))

        return known if column == "costs_to_go" else learned


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=3000, help="updates; BC and TD3+BC-Lag make twice as many")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--episodes", type=int, default=12, help="for each seed and budget")
    parser.add_argument("--out", type=Path, default=Path("runs/budgets"))
    options = parser.parse_args(arguments)
    data = reverie.load_dataset("speed")
    kept = options.out / "budgets.json"
    for name, measure in measurements(data, options).items():
        once(kept, {"method": name, "updates": options.steps, "episodes": options.episodes}, measure)
        print(f"{name} is measured", flush=True)
    rows = [row for row in read(kept) if (row["updates"], row["episodes"]) == (options.steps, options.episodes)]
    table(rows, options.out / "budgets.md")
    draw(rows, options.out / "budgets.png")


def measurements(data: Dataset, options: argparse.Namespace) -> dict[str, Callable[[], dict[str, Any]]]:
    """By the names of what is compared, how it is measured."""
    budgets = LIMIT * np.array(SHARES)
    planner = replace(PLANNER, ema_start=options.steps // 4)

    def fitted(name: str, algorithm: Any, data: Dataset, factor: int = 1) -> Any:
        steps, out = factor * options.steps, options.out / name
        return reverie.fit(algorithm, data, steps=steps, seeds=options.seeds, out=out, resume=True, progress=False)

    def trebi(share: float = 1.0, kind: type = TREBI, **changes: Any) -> dict[str, Any]:
        run = fitted("trebi", planner, data).acting(**changes)
        same = {each.name: getattr(run.algorithm, each.name) for each in fields(run.algorithm)}
        return asked(replace(run, algorithm=kind(**same)), {"budget": share * budgets}, options.episodes)

    def cdt(share: float = 1.0) -> dict[str, Any]:
        wishes = {"budget": share * budgets}
        wishes["target_return"] = np.array([highest_return(data, budget) for budget in wishes["budget"]])
        return asked(fitted("cdt", TRANSFORMER, data), wishes, options.episodes)

    def own(make: Callable[[float], tuple[Any, Dataset]], name: str) -> dict[str, Any]:
        runs = [fitted(f"{name}-{share}", *make(LIMIT * share), 2) for share in OWN]
        found = [played(RunPolicy(run), options.episodes, 1) for run in runs]
        return {"shares": OWN} | {key: [each[key][0] for each in found] for key in ("costs", "returns")}

    def safe_bc(budget: float) -> tuple[Any, Dataset]:
        return BC(**SMALL, standardise=True), select(data, "max_cost", str(budget))

    def lagrangian(budget: float) -> tuple[Any, Dataset]:
        return TD3BCLag(**SMALL, critic_hidden=(64, 64), standardise=True, budget=budget, discount=0.95), data

    def changed() -> dict[str, Any]:
        policy = Changing(fitted("trebi", planner, data), options.episodes)
        found = played(policy, options.episodes, len(CHANGES))
        return found | {"shares": [after for _, after in CHANGES], "spent": policy.spent()}

    return {
        "TREBI": trebi,
        f"TREBI, asked for {CAUTION:.0%}": lambda: trebi(CAUTION),
        "TREBI, candidates alone": lambda: trebi(guidance_steps=0),
        "TREBI, guidance alone": lambda: trebi(candidates=1),
        "TREBI, true costs at last": lambda: trebi(kind=Knowing),
        "CDT": cdt,
        f"CDT, asked for {CAUTION:.0%}": lambda: cdt(CAUTION),
        "BC, episodes within": lambda: own(safe_bc, "bc"),
        "TD3+BC-Lag": lambda: own(lagrangian, "td3-bc-lag"),
        "TREBI, changed": changed,
    }


def highest_return(data: Dataset, budget: float) -> float:
    """Of the data's episodes within the budget; 0 where there is none."""
    within = costs_to_go(data)[data.episodes[:, 0]] <= budget
    return float(data.returns[within].max(initial=0.0))


def asked(run: Any, wishes: dict[str, np.ndarray], episodes: int) -> dict[str, Any]:
    """Episodes for each budget, all in one go."""
    each = {name: np.repeat(values, episodes).astype(np.float32) for name, values in wishes.items()}
    return {"shares": SHARES} | played(RunPolicy(run.acting(**each)), episodes, len(SHARES))


def played(policy: Any, episodes: int, budgets: int) -> dict[str, Any]:
    """Costs and returns, `[budgets][seeds][episodes]`."""
    with warnings.catch_warnings(action="ignore", category=ReverieWarning):  # outside what was seen is asked on purpose
        seeds = len(policy.run.seeds)
        # A policy counts as one seed; the run's are told apart here.
        found = reverie.evaluate(policy, "speed", seeds * budgets * episodes, progress=False)
    shape = seeds, budgets, episodes
    return {
        name: np.round(values.reshape(shape).swapaxes(0, 1), 4).tolist()
        for name, values in (("costs", found.costs), ("returns", found.returns))
    }


class Changing(RunPolicy):
    """Is asked for another budget in the middle of the episode, and remembers what was spent."""

    def __init__(self, run: Any, episodes: int):
        before, after = (LIMIT * np.repeat([each[i] for each in CHANGES], episodes) for i in (0, 1))
        super().__init__(run.acting(budget=before.astype(np.float32)))
        self.after, self.costs = after, []

    def act(self, observations: Any, feedback: Any = None) -> np.ndarray:
        self.costs.append(np.array(feedback["cost"]))
        if len(self.costs) == LIMIT // 2 + 1:
            budgets = np.broadcast_to(self.after, self.carries[1].budget.shape)
            self.carries = self.run.algorithm.rewish(self.carries, {"budget": budgets.astype(np.float32)})
        return super().act(observations, feedback)

    def spent(self) -> list:
        """Up to every step but the last, of every change and episode: `[changes][seeds * episodes][LIMIT]`."""
        sums = np.cumsum(self.costs, 0).reshape(LIMIT, len(self.run.seeds), len(CHANGES), -1)
        return np.round(sums.transpose(2, 1, 3, 0).reshape(len(CHANGES), -1, LIMIT), 3).tolist()


def shown(e: WithInterval) -> str:
    return f"{e.value:.2f} ({e.low:.2f} to {e.high:.2f})"


def table(rows: list[dict[str, Any]], path: Path) -> None:
    lines = ["| | budget | cost | return | episodes above the budget |", "|---|---|---|---|---|"]
    for row in rows:
        for share, costs, returns in zip(row["shares"], row["costs"], row["returns"], strict=True):
            budget, above = LIMIT * share, 100 * (np.array(costs) > LIMIT * share).mean()
            cost, got = (shown(aggregate({"": np.array(each)})) for each in (costs, returns))
            lines.append(f"| {row['method']} | {budget:.1f} | {cost} | {got} | {above:.0f} % |")
    path.write_text("\n".join(lines) + "\n")
    print(path.read_text())


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    with panels(3, width=3.5, height=3.3) as (figure, (cost, above, change)):
        cost.plot([0, LIMIT], [0, LIMIT], color=DISTINCT[0], linewidth=1, label="the budget")
        for row in rows:
            if row["method"] in LINES:
                draw_kept(cost, above, row)
            if row["method"] == "TREBI, changed":
                draw_changes(change, row)
        cost.set(xlabel="budget", ylabel="cost of an episode, which is its return", title="What is spent")
        cost.legend(fontsize=8)
        above.set(xlabel="budget", ylim=(-3, 103), title="Per cent of the episodes above")
        print(f"picture: {save(figure, path)}")


def draw_kept(cost: Any, above: Any, row: dict[str, Any]) -> None:
    """What is spent, and how many of the episodes are above, of each budget."""
    colour, line = LINES[row["method"]]
    x = LIMIT * np.array(row["shares"])
    each = [aggregate({"": np.array(costs)}) for costs in row["costs"]]
    cost.fill_between(x, [e.low for e in each], [e.high for e in each], color=colour, alpha=0.15, linewidth=0)
    options = {"color": colour, "linestyle": line, "marker": "o", "markersize": 3.5, "linewidth": 1.3}
    cost.plot(x, [e.value for e in each], label=row["method"], **options)
    above.plot(x, [100 * (np.array(c) > b).mean() for c, b in zip(row["costs"], x, strict=True)], **options)


def draw_changes(ax: Any, row: dict[str, Any]) -> None:
    middle = LIMIT // 2
    for (before, after), spent, colour in zip(CHANGES, row["spent"], DISTINCT[1:], strict=False):
        ax.plot(np.array(spent).T, color=colour, alpha=0.25, linewidth=0.8)
        ax.hlines(LIMIT * before, 0, middle, color=colour, linestyle="--")
        ax.hlines(LIMIT * after, middle, LIMIT, color=colour, linestyle="--")
    ax.set(xlabel="step", title="Spent, and the budget (dashed)")


if __name__ == "__main__":
    main()
