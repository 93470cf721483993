"""The verbs of data: list, info, make."""

import re
from contextlib import ExitStack
from pathlib import Path

import tyro

import reverie
from reverie.cli.show import in_words, show, table
from reverie.collection.datasets import SUITES, VALIDATION, making
from reverie.compilation import cores
from reverie.data.writers import check_target
from reverie.errors import ReverieError
from reverie.paths import cache_folder, replacing

PICTURES = (".png", ".svg", ".pdf")


def data_list() -> None:
    """The kinds of source, and the sets that are collected here."""
    kinds = [
        ("d4rl:FILE.hdf5", "a file in D4RL's layout"),
        ("minari:ID", "a Minari data set, local or from its server"),
        ("ogbench:FILE.npz", "a file of OGBench; FILE-singletask-task2.npz is FILE.npz with a task's rewards"),
        (
            "robomimic:FILE.hdf5",
            "a file of robomimic; after it what is chosen: @keys=NAME,NAME, @vector=NAME,NAME, @filter=NAME",
        ),
        ("lerobot:FOLDER", "a LeRobotDataset; after it @keys and @vector as above, @image_size=96, @episodes=0:50"),
        ("parquet:FOLDER", "a folder of shards, as data.save writes it; `reverie train --stream` reads it in a stream"),
        ("SOURCE@best=0.1", "the tenth of its episodes with the highest returns"),
        ("SOURCE@every=10", "every tenth of its episodes"),
        ("SOURCE@times=20", "all of it twenty times, for a larger share beside another source"),
        ("SOURCE@chunk=4", "four actions in a row as one, for the environment NAME@chunk=4"),
        ("SOURCE+SOURCE", "several of one task, such as real and synthetic data"),
    ]
    show(table(("source", "what it is"), kinds))
    for suite in SUITES:
        listed = {suite.as_one: next(iter(suite.entries.values()))} if suite.as_one else suite.entries
        rows = [
            (name, f"{entry.steps:,}", f"{entry.megabytes:.0f}", _minutes(entry.minutes), entry.description)
            for name, entry in listed.items()
        ]
        made = table(("", "steps", "MB", "minutes", ""), rows)
        made.title, made.title_justify = f"{suite.title}\n[dim]{suite.simulator}", "left"
        made.columns[0].no_wrap = True
        show(made)
    print("Collected by `reverie data make NAME`, under Apache-2.0; minutes are those of two cores of an AMD EPYC.")


def _minutes(minutes: float) -> str:
    return f"{minutes:.1f}" if minutes < 10 else f"{minutes:.0f}"


def data_info(source: tyro.conf.Positional[str], out: str | None = None) -> None:
    """Sizes, returns and attributes of a data set, and a picture of its states, returns, lengths and actions.

    `order_by_discount` says how well discounted returns put the better half of the episodes in the order of their
    returns (Spearman's correlation). Where it is low, values at the start do not tell the best way to act.

    Args:
        source: as `reverie data list` shows.
        out: the picture's file (.png, .svg or .pdf); in $REVERIE_CACHE/pictures if not given.
    """
    from reverie.evaluation.data_pictures import draw_data
    from reverie.evaluation.discounts import order_by_discount

    path = _picture_file(source, out)
    data = reverie.load_dataset(source)
    summary = data.summary()
    # What is measured counts: an attribute may be of a larger set that these data are a part of.
    shown = summary | summary.pop("attributes") | summary
    if order := order_by_discount(data):
        shown["order_by_discount"] = ", ".join(f"{value:.2f} by {discount}" for discount, value in order.items())
    show(table((source, ""), [(key, in_words(value)) for key, value in shown.items()]))
    figure = draw_data(data, f"{source}: {len(data):,} steps")
    with replacing(str(path)) as unfinished:
        figure.savefig(unfinished, dpi=150, format=path.suffix[1:].lower())
    print(f"Its picture is {path}")


def _picture_file(source: str, out: str | None) -> Path:
    """Raises ReverieError where a picture cannot be of the name's kind."""
    if out is None:
        return cache_folder() / "pictures" / f"{re.sub('[^A-Za-z0-9.+-]+', '-', source)[-120:]}.png"
    if Path(out).suffix.lower() not in PICTURES:
        raise ReverieError(f"{out!r} is no name of a picture; end it in {', '.join(PICTURES)}.")
    return Path(out).expanduser()


def data_make(
    name: tyro.conf.Positional[str], out: str, steps: int | None = None, seed: int = 0, jobs: int | None = None
) -> None:
    """Collect a data set and write it. The same command goes on where one was stopped.

    Args:
        name: as `reverie data list` shows.
        out: d4rl:FILE.hdf5, minari:ID, parquet:FOLDER or ogbench:FILE.npz; beside the last one goes FILE-val.npz, with
            a tenth of the steps from other random numbers, where the set has such.
        steps: environment steps; the set's own number if not given.
        seed: same seed, same data.
        jobs: processes at once, which do not change the data; as many as there are cores if not given.
    """
    wanted = {name: (out, steps)}
    if out.startswith("ogbench:") and f"{name}-val" in VALIDATION:
        wanted[f"{name}-val"] = (f"{out.removesuffix('.npz')}-val.npz", None if steps is None else max(1, steps // 10))
    for target, _ in wanted.values():
        check_target(target)
    # Both are collected before either is saved: the same command again would be refused a file that is there already.
    with ExitStack() as kept:
        made = {
            target: kept.enter_context(
                making(each, steps=size, seed=seed, jobs=cores() if jobs is None else jobs, progress=True)
            )
            for each, (target, size) in wanted.items()
        }
        for target, data in made.items():
            data.save(target)
            print(f"{len(data):,} steps in {target}")
