"""A table as Markdown and as pictures, of the records alone."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from reverie.evaluation.statistics import (
    WithInterval,
    aggregate,
    change,
    iqm,
    is_flat,
    performance_profile,
    probability_of_improvement,
)
from tabling.plans import Cell, Plan
from tabling.results import is_cut

NOT_FLAT, CUT, EARLIER = "†", "‡", "§"
NAMES = {
    "normalised": "normalised score",
    "success": "success in %",
    "best": "best reward of an episode in %",
    "return": "return",
}
BESIDE = NAMES | {"arrival": "steps until the first success, of the episodes that succeed"}


@dataclass(frozen=True)
class Filled:
    """A cell with its record."""

    cell: Cell
    row: dict[str, Any]

    @cached_property
    def score(self) -> WithInterval:
        return aggregate({"": self.row["scores"]})

    @cached_property
    def last_quarter(self) -> WithInterval | None:
        """The change; None where it was not measured."""
        curve = self.row["curve"]
        if not curve or not curve["last_quarter"]:
            return None
        changed = np.array(curve["last_quarter"]["change"])
        return change(np.zeros_like(changed), changed)

    @property
    def flat(self) -> bool:
        return self.last_quarter is not None and is_flat(self.last_quarter, self.cell.plan.tolerance)

    @property
    def rate(self) -> float:
        """Updates a second of all seeds; online environment steps, learning and evaluations included."""
        row = self.row
        if self.cell.plan.online:
            return len(row["scores"]) * row["updates"] / (60 * row["minutes"])
        return row["updates_per_second"]

    @property
    def earlier(self) -> bool:
        """Whether it was trained by another command than the plan has now; how often it was evaluated is no matter."""
        return [_training(each) for each in self.row["commands"]] != [_training(each) for each in self.cell.written()]

    @property
    def marks(self) -> str:
        held = {NOT_FLAT: not self.flat, CUT: is_cut(self.row), EARLIER: self.earlier}
        return "".join(mark for mark, holds in held.items() if holds)


@dataclass(frozen=True)
class Report:
    """Of a plan, and of the records that there are of its cells."""

    plan: Plan
    records: dict[str, dict[str, dict]]

    @cached_property
    def filled(self) -> list[Filled]:
        rows = [(cell, self.records.get(cell.method, {}).get(cell.set)) for cell in self.plan.cells()]
        return [Filled(cell, row) for cell, row in rows if row]

    @cached_property
    def lines(self) -> list[str]:
        return list(dict.fromkeys(each.cell.line for each in self.filled))

    @cached_property
    def panels(self) -> list[str]:
        return list(dict.fromkeys(each.cell.panel for each in self.filled))

    @cached_property
    def places(self) -> dict[tuple[str, str], Filled]:
        return {(each.cell.line, each.cell.panel): each for each in self.filled}

    def of(self, line: str) -> list[Filled]:
        return [each for each in self.filled if each.cell.line == line]

    def of_panel(self, panel: str) -> list[Filled]:
        return [each for each in self.filled if each.cell.panel == panel]

    def label(self, line: str) -> str:
        """What documents call a line."""
        method = self.plan.methods.get(line)
        return line if method is None else method.label or f"`{line}`"

    def scores(self, line: str) -> dict[str, list]:
        """Of a line, by panel: `[S, E]`."""
        return {each.cell.panel: each.row["scores"] for each in self.of(line)}

    def write(self, folder: Path) -> str:
        """table.md and the pictures; the text."""
        folder.mkdir(parents=True, exist_ok=True)
        text = self.markdown()
        (folder / "table.md").write_text(text)
        if self.filled:
            self.draw(folder)
        return text

    def markdown(self) -> str:
        if not self.filled:
            return f"## {self.plan.title}\n\nNo cell has been run.\n"
        parts = [f"## {self.plan.title}", "\n".join(self.table(with_interval)), "\n".join(self.notes())]
        parts += [*map("\n".join, map(self.further, self.plan.beside))]
        parts += ["\n".join(self.comparison()), "\n".join(self.details())]
        return "\n\n".join(part for part in parts if part) + "\n"

    def table(self, written: Callable[[Filled, bool], str]) -> Iterable[str]:
        """A line a method, a column a set; `written(cell, best)` of each cell, where `best` is the column's largest."""
        yield f"| | {' | '.join(self.panels)} | minutes |"
        yield "|---" * (len(self.panels) + 2) + "|"
        best = {panel: max(each.score.value for each in self.of_panel(panel)) for panel in self.panels}
        for line in self.lines:
            places = [(self.places.get((line, panel)), best[panel]) for panel in self.panels]
            cells = ["" if each is None else written(each, each.score.value == most) for each, most in places]
            minutes = np.mean([each.row["minutes"] for each in self.of(line)])
            yield f"| {self.label(line)} | {' | '.join(cells)} | {minutes:.1f} |"

    def notes(self) -> Iterable[str]:
        plan, rows = self.plan, [each.row for each in self.filled]
        seeds = _range(len(row["scores"]) for row in rows)
        episodes = _range(len(row["scores"][0]) for row in rows)
        machines = " or ".join(dict.fromkeys(row["hardware"] for row in rows))
        yield (
            f"The {NAMES[plan.score]} of the last checkpoint, {seeds} seeds of {episodes} episodes each, its 95 % "
            "interval (bootstrap over seeds and, within each, episodes) and, in brackets, what is published; the best "
            "of each column is bold. Minutes are of training all seeds, the evaluations meanwhile included "
            f"({machines}). {plan.note}".rstrip()
        )
        if not all(each.flat for each in self.filled):
            yield (
                f"\n{NOT_FLAT} not flat: in the last quarter of the training the score changed by more than "
                f"{plan.tolerance:g} points and the interval of the change does not contain 0, or it was not measured."
            )
        if cut := [each for each in self.filled if is_cut(each.row)]:
            done = (f"{each.cell.label} after {each.row['updates']:,} of {each.row['steps']:,}" for each in cut)
            yield f"\n{CUT} stopped by its limit of time: {'; '.join(done)} {plan.unit}."
        if earlier := [each.cell.label for each in self.filled if each.earlier]:
            yield f"\n{EARLIER} by other settings than the plan has now, in its commands below: {', '.join(earlier)}."
        if own := [each.cell.label for each in self.filled if each.row["own_data"]]:
            yield f"\nOn data of one's own in place of those named: {', '.join(own)}."
        if differs := [f"{name}: {row.differs}" for name, row in plan.methods.items() if row.differs]:
            yield f"\nWhat differs from the published method. {' '.join(differs)}"

    def further(self, measure: str) -> Iterable[str]:
        """A measure beside the score: the mean over all seeds and episodes."""
        yield f"The same runs' {BESIDE.get(measure, measure)}:\n"
        yield f"| | {' | '.join(self.panels)} |"
        yield "|---" * (len(self.panels) + 1) + "|"
        for line in self.lines:
            found = [self.places.get((line, panel)) for panel in self.panels]
            means = [each.row.get("beside", {}).get(measure) if each else None for each in found]
            yield f"| {line} | {' | '.join('–' if mean is None else f'{mean:.1f}' for mean in means)} |"

    def comparison(self) -> Iterable[str]:
        """Aggregates over the panels, and each line against the baseline."""
        base = self.plan.baseline if self.plan.baseline in self.lines else ""
        # Returns of several tasks have no mean.
        means = {} if self.plan.score == "return" and len(self.panels) > 1 else {"mean": (), "IQM": (iqm,)}
        heads = ["", *means, *([f"P(better than {base})"] if base else []), f"{self.plan.unit}/s, all seeds"]
        iqms = "IQM: the mean of the middle half of all runs. " if means else ""
        yield f"Over all columns. {iqms}{_improvement(base)}".rstrip() + "\n"
        yield f"| {' | '.join(heads)} |"
        yield "|---" * len(heads) + "|"
        for line in self.lines:
            scores, rates = self.scores(line), [each.rate for each in self.of(line)]
            some = "" if len(scores) == len(self.panels) else f" ({len(scores)} of {len(self.panels)} columns)"
            parts = [line + some, *(_written(aggregate(scores, *of)) for of in means.values())]
            if base:
                parts.append(self.improvement(line, base))
            yield f"| {' | '.join(parts)} | {_range(round(rate) for rate in rates)} |"

    def improvement(self, line: str, base: str) -> str:
        if line == base or not self.scores(line).keys() & self.scores(base).keys():
            return ""
        return _written(probability_of_improvement(self.scores(line), self.scores(base)), 2)

    def details(self) -> Iterable[str]:
        """The change in the last quarter, and the commands that remake each cell."""
        yield "<details><summary>The commands of each cell, and its change in the last quarter of training</summary>\n"
        for each in self.filled:
            row = each.row
            versions = ", ".join(f"{name} {version}" for name, version in row["versions"].items())
            changed = "change not measured" if each.last_quarter is None else f"change {_changed(each.last_quarter)}"
            yield f"**{each.cell.label}** ({changed}; {row['hardware']}; {versions}; {row['date'][:10]})\n"
            yield "```\n" + "\n".join(row["commands"]) + "\n```\n"
        yield "</details>"

    def draw(self, folder: Path) -> None:
        from reverie.evaluation import plots

        name = NAMES[self.plan.score]
        plots.save(plots.grouped_scores([self.as_row(each) for each in self.filled], name), folder / "scores.png")
        curves = {line: self.curves(line) for line in self.lines if self.curves(line)}
        if curves:
            plots.save(plots.curves_by_panel(curves, name, self.plan.unit), folder / "curves.png")
        every = np.concatenate([np.mean(each.row["scores"], axis=1) for each in self.filled])
        at = np.linspace(min(0.0, every.min()), every.max() * 1.02 + 1e-9, 101)
        profiles = {line: (at, *performance_profile(self.scores(line), at)) for line in self.lines}
        plots.save(plots.profiles(profiles, name), folder / "profiles.png")

    def as_row(self, each: Filled) -> dict[str, Any]:
        found = each.score
        return {
            "method": each.cell.line,
            "set": each.cell.panel,
            "by_seed": np.mean(each.row["scores"], axis=1).tolist(),
            "normalised": {"mean": found.value, "seeds": {"low": found.low, "high": found.high}},
            "published": each.cell.published,
            "flat": each.flat,
        }

    def curves(self, line: str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """By panel: updates `[T]` and the seeds' scores `[S, T]`."""
        return {
            each.cell.panel: (np.array(each.row["curve"]["steps"]), np.array(each.row["curve"]["scores"]).T)
            for each in self.of(line)
            if each.row["curve"]
        }


def mean(each: Filled, best: bool) -> str:
    """With its marks; the best is bold."""
    value = f"{each.score.value:.1f}"
    return f"{f'**{value}**' if best else value} {each.marks}".rstrip()


def with_interval(each: Filled, best: bool) -> str:
    """The mean, its interval and, in brackets, what is published."""
    found, published = each.score, each.cell.published
    beside = "" if published is None else f" ({published:g})"
    return f"{mean(each, best)}, {found.low:.1f} to {found.high:.1f}{beside}"


def _training(command: str) -> str:
    return re.sub(r" --evaluate-every \d+", "", command)


def _between(found: WithInterval, digits: int = 1) -> str:
    return f"({found.low:.{digits}f} to {found.high:.{digits}f})"


def _written(found: WithInterval, digits: int = 1) -> str:
    return f"{found.value:.{digits}f} {_between(found, digits)}"


def _changed(found: WithInterval) -> str:
    return f"{found.value:+.1f} ({found.low:+.1f} to {found.high:+.1f})"


def _range(values: Iterable[int]) -> str:
    found = sorted(set(values))
    return f"{found[0]:,}" if len(found) == 1 else f"{found[0]:,} to {found[-1]:,}"


def _improvement(base: str) -> str:
    return (
        f"P: a run's probability to score higher than one of {base}, ties half, averaged over columns." if base else ""
    )
