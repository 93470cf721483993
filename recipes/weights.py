"""Keep the weights of a table's best runs: python recipes/weights.py NAME [--out FOLDER]

For every set and role the method of the highest mean score, and of its seeds the one of the highest, as one small file
OUT/SET-ROLE.safetensors that `reverie eval` and `reverie.load` take. A file stays until a method with a higher mean has
a run. What its method and its seed scored stands in the file; the seed is chosen by the same episodes, so that a little
less is to be expected of it in others.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from tabling import plans, results

import reverie
from reverie.errors import ReverieError


def main(arguments: list[str] | None = None) -> None:
    known = plans.everyone()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=known, metavar="NAME")
    parser.add_argument("--runs", type=Path, default=plans.OUT, help=f"folder of the runs; {plans.OUT} if not given")
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "weights")
    options = parser.parse_args(arguments)
    plan = known[options.name]
    cells = results.load(options.results / f"{plan.name}.json")
    # The best last, so that it is what stays.
    scored = [
        (float(np.mean(row["scores"])), method, name)
        for method, row_of in cells.items()
        for name, row in row_of.items()
    ]
    for mean, method, name in sorted(scored):
        folder = options.runs / plan.name / method / name
        if not (folder / "config.json").exists():
            continue
        try:
            run = reverie.load(folder)
        except ReverieError as error:  # such as of an earlier version's network
            print(f"weights.py: {folder} is left out: {error}", file=sys.stderr)
            continue
        keep(run, options.out, plan.sets[name].env, name, method, mean, cells[method][name])


def keep(run, out: Path, env: str, name: str, method: str, mean: float, row: dict) -> None:
    path = out / f"{name}-{run.algorithm.role}.safetensors"
    if path.exists():
        if reverie.load(path).about["mean"] >= mean:
            return
        path.unlink()
    out.mkdir(parents=True, exist_ok=True)
    each = np.mean(row["scores"], axis=1)
    seed = int(each.argmax())
    said = {"method": method, "set": name, "env": env, "updates": row["updates"], "command": row["commands"][0]}
    run.export(path, seed=row["seeds"][seed], mean=mean, seed_mean=round(float(each[seed]), 2), **said)
    print(f"{path}: {method}, {mean:.1f} over seeds, {each[seed]:.1f} of this one; {path.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
