"""Run a recipe: python recipes/run.py NAME [--steps N] [--minutes M] [--seeds S] [--smoke].

A recipe is a row of a TOML file beside this one: the arguments of `reverie train` and `reverie eval`. The run goes
into runs/NAME and is resumed if it is there. With --minutes it is stopped, saved and evaluated after so long; with
--smoke it makes a few updates and plays a few steps, to see that everything works.
"""

import argparse
import subprocess
import sys
import time
import tomllib
from pathlib import Path

from reverie.sweeps.running import waited

HERE = Path(__file__).parent
FILES = sorted(HERE.glob("*.toml"))
RECIPES = {name: row for file in FILES for name, row in tomllib.loads(file.read_text()).items()}


def reverie(*arguments: str, seconds: float | None = None) -> None:
    """Run the command line; a training that outlasts the seconds is interrupted, which saves it."""
    print("reverie", *arguments, flush=True)
    if status := waited(subprocess.Popen([sys.executable, "-m", "reverie.cli", *arguments]), seconds):
        sys.exit(status)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=RECIPES, metavar="NAME", help=", ".join(RECIPES))
    parser.add_argument("--steps", type=int, help="updates, in place of the paper's")
    parser.add_argument("--minutes", type=float, help="stop training after so long")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--smoke", action="store_true")
    options = parser.parse_args()

    recipe, out = RECIPES[options.name], Path("runs") / (options.name + "-smoke" * options.smoke)
    steps = options.steps or (4 if options.smoke else recipe["steps"])
    train = recipe["train"].split()
    if options.smoke:
        train += ["--batch-size", "4", "--segment", "2"]
    begun = time.perf_counter()
    reverie(
        *("train", *train, "--steps", str(steps), "--seeds", str(options.seeds), "--out", str(out), "--resume"),
        seconds=None if options.minutes is None else 60 * options.minutes,
    )
    minutes = (time.perf_counter() - begun) / 60
    evaluation = recipe["eval"].split()
    if options.smoke:
        evaluation[evaluation.index("--episodes") + 1] = "2"
        evaluation += ["--max-steps", "3"]
    reverie("eval", str(out), *evaluation)
    print(f"{options.name}: trained for {minutes:.1f} minutes; published {recipe.get('published', 'nowhere')}")


if __name__ == "__main__":
    main()
