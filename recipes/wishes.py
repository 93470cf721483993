"""What becomes of what is asked for: python recipes/wishes.py returns RUN ... --env ENV | together

`returns`: a return is asked for, over the whole range seen in training and a little beyond, of one or more runs that
have the wish `target_return` (Decision Diffuser, Decision Transformer). Writes OUT/returns.png and OUT/returns.md: the
return got against the return asked for, with 95 % intervals over seeds and episodes. Got are returns as the run counts
them: where it has a `discount`, discounted from the episode's start.

`together`: paths in a plane that may pass through one place and through another. Half of the episodes say at every
step whether they will yet pass the one, the others whether they will pass the other. A Decision Diffuser learns from
them, in OUT/paths, and is asked for plans that pass the one, the other, both, and the one but NOT the other. Writes
OUT/together.png and OUT/together.md.

What is measured of runs is kept in OUT/wishes.json, and not measured again.
"""

import argparse
import math
import warnings
from dataclasses import replace
from functools import partial
from itertools import cycle
from pathlib import Path

import jax
import numpy as np
from measured import once, read

import reverie
from reverie.data import Dataset
from reverie.environments import make
from reverie.errors import ReverieError, ReverieWarning
from reverie.evaluation.plots import DISTINCT, panels, save
from reverie.evaluation.statistics import WithInterval, aggregate
from reverie.planners import DecisionDiffuser
from reverie.wishes import resolve

BEYOND = 0.1
"""Of the range: how far outside it is asked too."""
PLACES = {"one": (-0.6, 0.5), "other": (0.6, 0.5)}
RADIUS = 0.3
START = (0.0, -0.2)
PLANNER = DecisionDiffuser(
    multipliers=(1, 2, 4),
    diffusion_steps=50,
    labels=("one", "other"),
    learning_rate=5e-4,
    ema_decay=0.97,
    temperature=1.0,
)
ASKED = {
    "nothing": {},
    "the one": {"one_1": 1.0},
    "the other": {"other_1": 1.0},
    "both": {"one_1": 1.0, "other_1": 1.0},
    "the one, NOT the other": {"one_1": 1.0, "other_1": -0.5},
}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = parser.add_subparsers(required=True)
    returns = kinds.add_parser("returns")
    returns.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    returns.add_argument("--env", required=True)
    returns.add_argument("--points", type=int, default=9, help="returns that are asked for")
    returns.add_argument("--episodes", type=int, default=20, help="for each seed and return")
    returns.add_argument("--max-steps", type=int)
    returns.set_defaults(do=ask_returns)
    together = kinds.add_parser("together")
    together.add_argument("--paths", type=int, default=4000, help="episodes to learn from")
    together.add_argument("--horizon", type=int, default=32, help="steps of a path")
    together.add_argument("--width", type=int, default=32)
    together.add_argument("--steps", type=int, default=20_000, help="updates")
    together.add_argument("--seeds", type=int, default=3)
    together.add_argument("--plans", type=int, default=500, help="of each seed, for each wish")
    together.set_defaults(do=ask_together)
    for each in (returns, together):
        each.add_argument("--out", type=Path, default=Path("runs/wishes"))
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    try:
        options.do(options)
    except ReverieError as error:
        parser.error(str(error))


def ask_returns(options: argparse.Namespace) -> None:
    found = {}
    for path in options.runs:
        run = reverie.load(path)
        if "target_return" not in run.wishes:
            raise ReverieError(f"{run.name} in {path} cannot be asked for target_return.")
        setting = {"run": str(path), "step": run.step, "env": options.env, "episodes": options.episodes}
        rows = []
        for asked in grid(run.wishes["target_return"], options.points):
            wanted = setting | {"max_steps": options.max_steps, "asked": asked}
            once(options.out / "wishes.json", wanted, lambda run=run, asked=asked: got(run, asked, options))
            rows += [row for row in read(options.out / "wishes.json") if wanted.items() <= row.items()]
        found[f"{run.name}, {path.name}"] = [(row["asked"], aggregate({"": np.array(row["got"])})) for row in rows]
        wish = run.wishes["target_return"]
        print(
            f"{path}: seen in training {wish.low:.4g} to {wish.high:.4g}, got counted with discount {discount(run):g}"
        )
    write(
        "asked for | got",
        [(name, f"{x:.4g} | {shown(e)}") for name, each in found.items() for x, e in each],
        options.out / "returns.md",
    )
    draw_returns(found, reverie.load(options.runs[0]).wishes["target_return"], options)


def grid(wish, points: int) -> list[float]:
    """From a little below what was seen in training to a little above it, in numbers of four digits."""
    span = BEYOND * (wish.high - wish.low)
    return [float(f"{x:.4g}") for x in np.linspace(wish.low - span, wish.high + span, points)]


def discount(run) -> float:
    return getattr(run.algorithm, "discount", 1.0)


def got(run, asked: float, options: argparse.Namespace) -> dict:
    # Without its folder, so that its `evaluation.json` is not added to by what is asked here.
    factor, wanted = discount(run), replace(run.acting(target_return=asked), path=None)
    made: list = []

    def env():
        made.append(discounted(options.env, factor))
        return made[-1]

    told = env if factor < 1 else options.env
    with warnings.catch_warnings(action="ignore", category=ReverieWarning):  # outside the range is asked on purpose
        scores = reverie.evaluate(wanted, told, options.episodes, max_steps=options.max_steps)
    returns = np.reshape([each.returns[0] for each in made], scores.returns.shape) if made else scores.returns
    return {"got": np.round(returns, 4).tolist()}


def discounted(name: str, factor: float):
    """The environment, which pays as ever, as a run that counts what is still to come discounts the rewards itself; its
    `returns` are its episodes' from their starts, discounted, the first first."""
    from gymnasium import Wrapper

    class Discounted(Wrapper):
        def __init__(self, env):
            super().__init__(env)
            self.returns: list[float] = []

        def reset(self, **options):
            self.weight = 1.0
            self.returns.append(0.0)
            return super().reset(**options)

        def step(self, action):
            seen, reward, *rest = super().step(action)
            self.returns[-1] += self.weight * float(reward)
            self.weight *= factor
            return seen, reward, *rest

    return Discounted(make(name))


def draw_returns(found: dict, wish, options: argparse.Namespace) -> None:
    with panels(1, width=6.0, height=4.6) as (figure, axes):
        ax = axes[0]
        ends = [x for each in found.values() for x, _ in (each[0], each[-1])]
        ax.plot(
            [min(ends), max(ends)], [min(ends), max(ends)], color="#b9bfc8", linewidth=1, label="got what was asked"
        )
        for (name, each), colour in zip(found.items(), cycle(DISTINCT[1:])):
            x = [asked for asked, _ in each]
            ax.fill_between(
                x, [e.low for _, e in each], [e.high for _, e in each], color=colour, alpha=0.15, linewidth=0
            )
            ax.plot(x, [e.value for _, e in each], "o-", color=colour, linewidth=1.8, markersize=4, label=name)
        if len(found) == 1:
            ax.axvspan(wish.low, wish.high, color="#eceef1", zorder=0, label="seen in training")
        ax.set(xlabel="return asked for", ylabel="return got", title=options.env)
        ax.legend(loc="best", fontsize=8)
    print(f"picture: {save(figure, options.out / 'returns.png')}")


def paths(episodes: int, length: int, seed: int = 0) -> Dataset:
    """Smooth paths from one place, each a mixture of four waves, of which half are told of the one place and half of
    the other."""
    rng = np.random.default_rng(seed)
    along = np.linspace(0, 1, length)
    waves = np.stack([np.sin(math.pi * (k + 0.5) * along) for k in range(4)])
    weights = rng.normal(size=(episodes, 2, 4)) * (0.7 / np.arange(1, 5))
    places = np.array(START) + np.moveaxis(weights @ waves, 1, 2)
    actions = np.diff(places, axis=1, append=places[:, -1:])
    judged = rng.random(episodes) < 0.5
    yet = {name: np.flip(np.logical_or.accumulate(np.flip(inside(places, name), 1), 1), 1) for name in PLACES}
    told = {"one": judged, "other": ~judged}
    labels = {name: np.where(told[name][:, None], yet[name], -1) for name in PLACES}
    return Dataset.from_arrays(
        places.reshape(-1, 2),
        actions.reshape(-1, 2),
        timeouts=np.tile(np.arange(length) == length - 1, episodes),
        infos={name: label.reshape(-1) for name, label in labels.items()},
        attributes={"name": "paths"},
    )


def inside(places: np.ndarray, name: str) -> np.ndarray:
    """Which points `[..., 2]` of paths are in the place."""
    return np.linalg.norm(places - np.array(PLACES[name]), axis=-1) < RADIUS


def passes(places: np.ndarray, name: str) -> np.ndarray:
    """Whether paths `[n, H, 2]` come into the place."""
    return inside(places, name).any(-1)


def ask_together(options: argparse.Namespace) -> None:
    planner = replace(PLANNER, horizon=options.horizon, width=options.width, ema_start=options.steps // 4)
    data = paths(options.paths, options.horizon)
    run = reverie.fit(planner, data, steps=options.steps, seeds=options.seeds, out=options.out / "paths", resume=True)
    plans = {name: [plans_of(run, seed, options.plans, wish) for seed in run.seeds] for name, wish in ASKED.items()}
    share = {
        name: {place: aggregate({"": np.stack([100.0 * passes(x, place) for x in each])}) for place in PLACES}
        | {"both": aggregate({"": np.stack([100.0 * (passes(x, "one") & passes(x, "other")) for x in each])})}
        for name, each in plans.items()
    }
    rows = [(name, " | ".join(f"{shown(e)} %" for e in each.values())) for name, each in share.items()]
    write("passes the one | the other | both", rows, options.out / "together.md")
    draw_together({name: each[0] for name, each in plans.items()}, share, options.out / "together.png")


def plans_of(run, seed: int, n: int, wish: dict[str, float]) -> np.ndarray:
    """Whole paths from where all begin: `[n, H, 2]`."""
    algorithm, spec = run.algorithm, run.spec
    carry = algorithm.reset(spec, n, resolve(algorithm.name, run.wishes, wish, n))
    start = np.broadcast_to(np.float32(START), (n, 2))
    rows = planned(algorithm, run.state(seed), spec, carry, start, jax.random.key(seed))
    return np.asarray(spec.denormalise("observations", rows))


@partial(jax.jit, static_argnums=0)
def planned(algorithm, state, spec, carry, start, key):
    return algorithm.plan(algorithm.denoiser(state, spec, carry), spec, start, carry[0], key)


def draw_together(plans: dict, share: dict, path: Path) -> None:
    from matplotlib.patches import Circle

    with panels(len(plans), width=2.05, height=2.8) as (figure, axes):
        for ax, (name, each) in zip(axes, plans.items(), strict=True):
            for x in each[:60]:
                ax.plot(*x.T, color=DISTINCT[2], alpha=0.25, linewidth=0.8)
            for place, colour in zip(PLACES, (DISTINCT[1], DISTINCT[3]), strict=True):
                ax.add_patch(Circle(PLACES[place], RADIUS, color=colour, alpha=0.35))
            told = ", ".join(f"{e.value:.0f}" for e in share[name].values())
            ax.set(title=f"{name}\n{told} %", xlim=(-1.6, 1.6), ylim=(-1.6, 1.6), aspect="equal")
            ax.title.set_fontsize(8)
        figure.supxlabel("per cent of the plans that pass the one, the other, both", x=0.01, ha="left", fontsize=8)
    print(f"picture: {save(figure, path)}")


def write(columns: str, rows: list[tuple[str, str]], path: Path) -> None:
    head = f"| | {columns} |"
    text = (
        "\n".join([head, "|---" * (head.count("|") - 1) + "|", *(f"| {name} | {cells} |" for name, cells in rows)])
        + "\n"
    )
    path.write_text(text)
    print(text)


def shown(e: WithInterval) -> str:
    return f"{e.value:.4g} ({e.low:.4g} to {e.high:.4g})"


if __name__ == "__main__":
    main()
