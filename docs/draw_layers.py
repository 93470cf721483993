"""Draws the layers of the library: `python docs/draw_layers.py` writes docs/images/layers.png."""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

# From the bottom: the modules and packages (with a slash) of a floor, and what they are for. tests/test_floors.py reads
# this list: an import goes from a higher floor to a lower one.
FLOORS: list[tuple[tuple[str, ...], str]] = [
    (("errors",), "what a user can mend, in a sentence"),
    (
        ("settings", "paths", "control", "engines", "terminal", "wishes", "version"),
        "small things that know nothing above",
    ),
    (("compilation", "data/", "diffusion/", "networks/", "environments/", "learning/"), "pieces that work alone"),
    (("protocols", "configs"), "what an algorithm is, and what many share"),
    (("rl/",), "critics, actors, choosing"),
    (("planning/", "models/"), "windows, ensembles, rollouts"),
    (("planners/", "policies/", "synthesizers/", "imitation/", "roles/", "baselines/"), "one file, one paper"),
    (("catalogue",), "every algorithm by its name"),
    (("training/",), "fit, fit_online, a run's folder"),
    (("evaluation/", "realtime", "deploy/"), "rollouts, scores, pictures; a loop at a fixed rate; export"),
    (("collection/",), "agents and mazes that make data"),
    (("loading",), "load_dataset, resume"),
    (("demo", "recipes", "sweeps/"), "what is run as it is"),
    (("cli/",), "what people type"),
]
METHODS = "planners/"  # whose floor is the one that grows

INK, FAINT, EDGE = "#1f2937", "#6b7280", "#c3cad5"
BOX, ACCENT = "#f3f5f9", "#3f51b5"
LEFT, RIGHT, GAP, HEIGHT = 0.0, 10.0, 0.12, 0.62


def draw(floors: list[tuple[tuple[str, ...], str]], path: Path) -> None:
    """Write the picture: a row of boxes a floor, as wide together on every floor, and the floors' meanings beside."""
    figure, axes = plt.subplots(figsize=(11.5, 0.52 * len(floors) + 0.7), dpi=150)
    for level, (names, meaning) in enumerate(floors):
        bottom, high = level * (HEIGHT + GAP), METHODS in names
        left, room = LEFT, RIGHT - LEFT - GAP * (len(names) - 1)
        for name in names:
            width = room * (len(name) + 4) / sum(len(each) + 4 for each in names)
            box(axes, left, bottom, width, name, high)
            left += width + GAP
        middle = bottom + HEIGHT / 2
        axes.text(RIGHT + 0.3, middle, meaning, va="center", fontsize=9.5, color=INK if high else FAINT)
        axes.text(LEFT - 0.7, middle, str(level + 1), va="center", ha="right", fontsize=9, color=FAINT)
    top = len(floors) * (HEIGHT + GAP) - GAP
    axes.add_patch(FancyArrowPatch((-0.38, top), (-0.38, 0), arrowstyle="-|>", mutation_scale=13, color=FAINT, lw=1.1))
    axes.text(-0.38, top + 0.16, "imports", ha="center", va="bottom", fontsize=9, color=FAINT)
    axes.set(xlim=(-1.3, RIGHT + 4.2), ylim=(-0.1, top + 0.55))
    axes.axis("off")
    figure.savefig(path, bbox_inches="tight", pad_inches=0.1, facecolor="white")
    plt.close(figure)


def box(axes: plt.Axes, left: float, bottom: float, width: float, name: str, high: bool) -> None:
    shape = FancyBboxPatch(
        (left, bottom), width, HEIGHT, boxstyle="round,pad=0,rounding_size=0.09",
        facecolor=ACCENT if high else BOX, edgecolor=ACCENT if high else EDGE, linewidth=1,
    )  # fmt: skip
    axes.add_patch(shape)
    place = (left + width / 2, bottom + HEIGHT / 2 - 0.02)
    axes.text(*place, name, ha="center", va="center", fontsize=10, color="white" if high else INK)


if __name__ == "__main__":
    draw(FLOORS, Path(__file__).parent / "images" / "layers.png")
