"""The verbs of data: list, info, make."""

import tyro

import reverie
from reverie.cli.show import in_words, show, table
from reverie.collection import DATASETS, make_dataset
from reverie.data.writers import check_target


def data_list() -> None:
    """The kinds of source, and the sets that are generated here."""
    kinds = [
        ("d4rl:FILE.hdf5", "a file in D4RL's layout"),
        ("minari:ID", "a Minari data set, local or from its server"),
        ("ogbench:FILE.npz", "a file of OGBench"),
        ("SOURCE@best=0.1", "the tenth of its episodes with the highest returns"),
        ("SOURCE@every=10", "every tenth of its episodes"),
        ("SOURCE+SOURCE", "several of one task, such as real and synthetic data"),
    ]
    generated = [
        (name, f"generated here, {entry.steps:,} steps: {entry.description}") for name, entry in DATASETS.items()
    ]
    show(table(("source", "what it is"), kinds + generated))


def data_info(source: tyro.conf.Positional[str]) -> None:
    """Sizes, returns and attributes of a data set.

    Args:
        source: as `reverie data list` shows.
    """
    summary = reverie.load_dataset(source).summary()
    attributes = summary.pop("attributes", {})
    show(table((source, ""), [(key, in_words(value)) for key, value in (summary | attributes).items()]))


def data_make(name: tyro.conf.Positional[str], out: str, steps: int | None = None, seed: int = 0) -> None:
    """Generate a data set and write it.

    Args:
        name: as `reverie data list` shows.
        out: d4rl:FILE.hdf5 or minari:ID.
        steps: environment steps; the set's own number if not given.
        seed: same seed, same data.
    """
    check_target(out)
    data = make_dataset(name, steps=steps, seed=seed, progress=True)
    data.save(out)
    print(f"{len(data):,} steps in {out}")
