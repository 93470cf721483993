"""Fill the tables of README.md and docs/ from what was measured: python recipes/documents.py [--check].

Between `<!-- scores NAME -->` and `<!-- end -->` stands the table NAME: of recipes/results/NAME.json, with the plan's
labels and published scores: every cell a mean, its marks, its 95 % interval and, in brackets, the published score.
`<!-- means NAME -->` has the means with their marks. The best of each column is bold. `--check` changes nothing, and
fails where a document says something else.
"""

import argparse
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from tabling import plans, results
from tabling.report import Filled, Report

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "recipes" / "results"

BLOCK = re.compile(r"(<!-- (scores|means) ([\w-]+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)


def documents() -> list[Path]:
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def filled(text: str, folder: Path = RESULTS) -> str:
    """A document with each of its tables as the records have it now. Raises ValueError for a table without a plan."""

    def made(found: re.Match) -> str:
        opening, what, name, _, closing = found.groups()
        known = plans.everyone()
        if name not in known:
            raise ValueError(f"there is no table {name!r}; the tables are {', '.join(known)}")
        report = Report(known[name], results.load(folder / f"{name}.json"))
        return opening + "\n".join((*table(report, WAYS[what]), closing))

    return BLOCK.sub(made, text)


def table(report: Report, written: Callable[[Filled, bool], str]) -> Iterator[str]:
    yield f"| | {' | '.join(report.panels)} | minutes |"
    yield "|---" * (len(report.panels) + 2) + "|"
    best = {panel: max(each.score.value for each in report.of_panel(panel)) for panel in report.panels}
    for line in report.lines:
        places = [report.places.get((line, panel)) for panel in report.panels]
        cells = ["" if each is None else written(each, each.score.value == best[each.cell.panel]) for each in places]
        minutes = np.mean([each.row["minutes"] for each in report.of(line)])
        yield f"| {report.label(line)} | {' | '.join(cells)} | {minutes:.1f} |"


def mean(each: Filled, best: bool) -> str:
    value = f"{each.score.value:.1f}"
    return f"{f'**{value}**' if best else value} {each.marks}".rstrip()


def score(each: Filled, best: bool) -> str:
    found, published = each.score, each.cell.published
    beside = "" if published is None else f" ({published:g})"
    return f"{mean(each, best)}, {found.low:.1f} to {found.high:.1f}{beside}"


WAYS = {"scores": score, "means": mean}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing; fail where something would change")
    check = parser.parse_args().check
    stale = []
    for path in documents():
        before = path.read_text()
        after = filled(before)
        if after != before:
            stale.append(str(path.relative_to(ROOT)))
            if not check:
                path.write_text(after)
    print(f"{'stale' if check else 'filled'}: {', '.join(stale) or 'none'}")
    sys.exit(bool(check and stale))


if __name__ == "__main__":
    main()
