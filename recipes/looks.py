"""Demonstrations in other looks: python recipes/looks.py [--arms demonstrations in-painted ...]

The fork seen from above: all demonstrations are before one plain ground. A policy of frames learns from them, and from
as many again, `--passes` times, whose ground is

- drawn anew by in-painting, learned from pictures of other looks without actions (`in-painted`);
- of one colour an episode, drawn at random (`one-colour`);
- drawn by the task itself, from the looks that the evaluation has: what the others can hope for (`true-looks`).

How often does it reach the goal, before the ground of the demonstrations and before others? Everything is made from
--seeds, and what is in OUT.json is not measured again. Writes OUT.json, OUT.md and OUT.png.
"""

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from measured import once, read

import reverie
from reverie.data import Dataset, concatenate
from reverie.environments.fork_images import COLOURS, draw, draw_look
from reverie.evaluation.plots import page, save
from reverie.imitation import MDN
from reverie.synthesizers import Inpainting, frames

ENVIRONMENTS = ("fork-images", "fork-looks")
SYNTHESIZER = Inpainting(
    keep=tuple(bytes(colour).hex() for colour in COLOURS.values()), width=24, batch_size=32, nfe=10
)
POLICY = MDN(
    hidden=(128, 128),
    observation_horizon=1,
    horizon=8,
    action_horizon=4,
    image_widths=(16, 32),
    keypoints=16,
    image_features=32,
    batch_size=64,
    learning_rate=1e-3,
)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arms", nargs="+", choices=list(ARMS), default=list(ARMS))
    parser.add_argument("--frame-steps", type=int, default=4000, help="updates of the synthesizer")
    parser.add_argument("--steps", type=int, default=2500, help="updates of a policy")
    parser.add_argument("--passes", type=int, default=2, help="times that every demonstration is drawn anew")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--episodes", type=int, default=400, help="of each seed in each environment")
    parser.add_argument("--out", type=Path, default=Path("runs/looks"), help="without a suffix")
    options = parser.parse_args(arguments)
    demonstrations, pictures = reverie.load_dataset("fork-images"), reverie.load_dataset("fork-looks")
    run = reverie.fit(
        SYNTHESIZER,
        concatenate(demonstrations, pictures),
        steps=options.frame_steps,
        out=options.out / "inpainting",
        resume=True,
    )
    table = options.out.with_suffix(".json")
    for arm in options.arms:
        wanted = {"data": arm, "updates": options.steps, "passes": options.passes}
        once(table, wanted, lambda arm=arm: measured(arm, ARMS[arm](demonstrations, run, options.passes), options))
    options.out.with_suffix(".md").write_text(markdown(read(table)))
    print(markdown(read(table)))
    show(demonstrations, run, pictures, options.out.with_suffix(".png"))


def nothing(demonstrations: Dataset, run: Any, passes: int) -> Dataset:
    return demonstrations


def in_painted(demonstrations: Dataset, run: Any, passes: int) -> Dataset:
    return concatenate(demonstrations, run.generate(passes * len(demonstrations)))


def one_colour(demonstrations: Dataset, run: Any, passes: int) -> Dataset:
    rng, seen = np.random.default_rng(0), demonstrations.observations
    mask = frames.masks(demonstrations, seen, SYNTHESIZER.keep, SYNTHESIZER.tolerance)[..., None]
    lengths = np.diff(demonstrations.episodes)[:, 0]

    def dressed() -> Dataset:
        colours = np.repeat(rng.integers(0, 256, (len(lengths), 1, 1, 3)), lengths, 0)
        return replace(demonstrations, observations=np.where(mask, colours, seen).astype(np.uint8))

    return concatenate(demonstrations, *(dressed() for _ in range(passes)))


def true_looks(demonstrations: Dataset, run: Any, passes: int) -> Dataset:
    rng, lengths = np.random.default_rng(0), np.diff(demonstrations.episodes)[:, 0]

    def dressed() -> Dataset:
        looks = [look for length in lengths for look in [draw_look(rng)] * length]
        drawn = [draw(place, look) for place, look in zip(demonstrations.infos["position"], looks, strict=True)]
        return replace(demonstrations, observations=np.stack(drawn))

    return concatenate(demonstrations, *(dressed() for _ in range(passes)))


ARMS: dict[str, Callable[[Dataset, Any, int], Dataset]] = {
    "demonstrations": nothing,
    "in-painted": in_painted,
    "one-colour": one_colour,
    "true-looks": true_looks,
}
"""What a policy learns from, by name."""


def measured(arm: str, data: Dataset, options: argparse.Namespace) -> dict[str, Any]:
    """By environment: the mean success in percent, its interval over episodes, and each seed's."""
    out = options.out / arm
    run = reverie.fit(POLICY, data, steps=options.steps, seeds=options.seeds, out=out, resume=True)
    found: dict[str, Any] = {"rows": len(data), "seeds": options.seeds, "episodes": options.episodes}
    for env in ENVIRONMENTS:
        scores = reverie.evaluate(replace(run, path=None), env, options.episodes)
        success = scores.estimates["success"]
        interval = [success.episodes.low, success.episodes.high]
        by_seed = (100 * scores.successes.mean(1)).tolist()
        found[env] = {"mean": success.mean, "interval": interval, "by_seed": by_seed}
    return found


def markdown(rows: list[dict[str, Any]]) -> str:
    lines = [
        "| learned from | rows | the demonstrations' ground | other looks | each seed there |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        cells = []
        for env in ENVIRONMENTS:
            low, high = row[env]["interval"]
            cells.append(f"{row[env]['mean']:.1f}, {low:.1f} to {high:.1f}")
        seeds = ", ".join(f"{each:.1f}" for each in row[ENVIRONMENTS[1]]["by_seed"])
        lines.append(f"| {row['data']} | {row['rows']} | {' | '.join(cells)} | {seeds} |")
    return "\n".join(lines) + "\n"


def show(demonstrations: Dataset, run: Any, pictures: Dataset, path: Path, columns: int = 8, count: int = 4) -> None:
    """Frames of the first episode, of the first ones drawn anew, and pictures that the synthesizer learned from."""
    rows = int(demonstrations.episodes[count - 1, 1])
    made = run.generate(rows, progress=False)
    lines = []
    for number in range(count):
        lines.append(("before", frames_along(demonstrations, number, columns)))
        lines.append(("after", frames_along(made, number, columns)))
    lines.append(("learned from", pictures.observations[:columns]))
    with page(columns * 0.8, len(lines) * 0.85) as figure:
        panels = figure.subplots(len(lines), columns)
        for panel_row, (label, images) in zip(panels, lines, strict=True):
            for panel, image in zip(panel_row, images, strict=True):
                panel.imshow(image, interpolation="nearest")
                panel.set(xticks=[], yticks=[])
            panel_row[0].set_ylabel(label, fontsize=7)
        save(figure, path)


def frames_along(data: Dataset, episode: int, count: int) -> np.ndarray:
    """So many of an episode's frames, evenly apart."""
    first, stop = data.episodes[episode]
    return data.observations[np.linspace(first, stop - 1, count).round().astype(int)]


if __name__ == "__main__":
    main()
