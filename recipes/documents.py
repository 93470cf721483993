"""Fill the tables of README.md and docs/ from what was measured: python recipes/documents.py [--check].

Between `<!-- scores NAME -->` and `<!-- end -->` stands the table NAME: of recipes/results/NAME.json, with the plan's
labels and published scores: every cell a mean, its marks, its 95 % interval and, in brackets, the published score.
`<!-- means NAME -->` has the means with their marks. The best of each column is bold. `--check` changes nothing, and
fails where a document says something else.
"""

import argparse
import re
import sys
from pathlib import Path

from tabling import plans, results
from tabling.report import Report, mean, with_interval

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "recipes" / "results"
WAYS = {"scores": with_interval, "means": mean}

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
        return opening + "\n".join((*report.table(WAYS[what]), closing))

    return BLOCK.sub(made, text)


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
