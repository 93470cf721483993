"""The benchmarks' pictures, in the library's style."""

from pathlib import Path
from typing import Any

from reverie.evaluation.plots import BLUE, DISTINCT, INK, STYLE, save

WIDTH, HEIGHT = 3.4, 2.8
"""Inches of a panel."""


def panels(rows: int, columns: int) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(columns * WIDTH, rows * HEIGHT), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False)


def plain(axis: Any) -> None:
    """Numbers as one reads them on a logarithmic axis, which may span less than a decade."""
    from matplotlib.ticker import LogLocator

    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter("{x:g}")


def score_against_nfe(results: list[dict[str, Any]], path: Path) -> None:
    """A row a task: the score, and its interval, against NFE and against the latency; a line a solver."""
    from matplotlib import rc_context

    from benchmarks.steps import interval, shown

    tasks = list(dict.fromkeys(result["task"] for result in results))
    with rc_context(STYLE):
        figure, axes = panels(len(tasks), 2)
        for row, task in zip(axes, tasks, strict=True):
            own = [result for result in results if result["task"] == task]
            for line, colour in zip(dict.fromkeys(result["line"] for result in own), DISTINCT[::-1], strict=False):
                points = [result for result in own if result["line"] == line]
                scores = [shown(point)[1] for point in points]
                means = [score["mean"] for score in scores]
                bounds = [interval(score) or (score["mean"], score["mean"]) for score in scores]
                errors = [[m - b[0] for m, b in zip(means, bounds, strict=True)]]
                errors += [[b[1] - m for m, b in zip(means, bounds, strict=True)]]
                for ax, places in (
                    (row[0], [point["nfe"] for point in points]),
                    (row[1], [1e3 * point["latency"]["median"] for point in points]),
                ):
                    ax.errorbar(places, means, errors, label=line, color=colour, marker="o", markersize=3, linewidth=1)
            for ax, label in zip(row, ("NFE", "milliseconds to an action"), strict=True):
                ax.set(title=own[0]["environment"], xlabel=label, ylabel=shown(own[0])[0], xscale="log", ylim=(0, None))
                plain(ax.xaxis)
                ax.minorticks_off()
            row[0].legend(fontsize=7, loc="lower right")
        save(figure, path)


def scaling(results: list[dict[str, Any]], path: Path) -> None:
    """A panel for each size that was varied: the time, and the least that the machine's floor allows."""
    from matplotlib import rc_context

    kinds = list(dict.fromkeys((found["part"], found["method"], found["varied"]) for found in results))
    columns = min(3, len(kinds))
    with rc_context(STYLE):
        figure, axes = panels(-(-len(kinds) // columns), columns)
        for ax in axes.ravel()[len(kinds) :]:
            ax.remove()
        for ax, kind in zip(axes.ravel(), kinds, strict=False):
            own = [found for found in results if (found["part"], found["method"], found["varied"]) == kind]
            sizes = [found["value"] for found in own]
            ax.loglog(sizes, [1e3 * found["seconds"] for found in own], "o-", color=BLUE, label="measured")
            ax.loglog(sizes, [1e3 * found["floor"] for found in own], "--", color=DISTINCT[0], label="floor")
            ax.set(title=f"{kind[1]}: {own[0]['kind']}", xlabel=kind[2], ylabel="ms")
            ax.set_xticks(sizes, [str(n) for n in sizes], minor=False)
            ax.minorticks_off()
            plain(ax.yaxis)
        axes[0, 0].legend(fontsize=8)
        save(figure, path)


def plans(results: list[dict[str, Any]], path: Path) -> None:
    """A panel a size, a bar a setting: a replanned step's time on a log axis, and a tick for the first action's."""
    from matplotlib import rc_context
    from matplotlib.patches import Patch

    from benchmarks.plans import GOAL, label

    sizes = list(dict.fromkeys(result["size"] for result in results))
    own = {size: [result for result in results if result["size"] == size] for size in sizes}
    times = [1e3 * each["median"] for result in results for each in result["seconds"].values()]
    fast, slow = f"{GOAL} Hz or more", "less"
    with rc_context(STYLE):
        figure, axes = panels(1, len(sizes))
        figure.set_size_inches(5.2 * len(sizes), 1.2 + 0.2 * max(map(len, own.values())))
        for ax, size in zip(axes[0], sizes, strict=True):
            for row, result in enumerate(own[size]):
                again, first = (1e3 * result["seconds"][name]["median"] for name in ("replanned", "first"))
                ax.barh(row, again, color=BLUE if again <= 1e3 / GOAL else DISTINCT[1], height=0.7)
                (tick,) = ax.plot(first, row, "|", color=INK, markersize=8, label="first action")
            ax.axvline(1e3 / GOAL, color=INK, linewidth=1, linestyle="--")
            labels = [f"{result['planner']}: {label(result)}" for result in own[size]]
            ax.set_yticks(range(len(labels)), labels, fontsize=7)
            ax.set(title=size, xlabel="milliseconds", xscale="log", xlim=(0.7 * min(times), 1.5 * max(times)))
            ax.invert_yaxis()
            ax.grid(axis="y", visible=False)
            ax.xaxis.set_major_formatter("{x:g}")
        bars = [Patch(color=BLUE, label=f"replanned: {fast}"), Patch(color=DISTINCT[1], label=slow)]
        figure.legend(handles=[*bars, tick], loc="outside lower center", ncols=3, fontsize=8)
        save(figure, path)
