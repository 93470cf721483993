"""A trained run as a folder to be shared: one file that acts or generates, and a card that says what it is.

The card is Markdown with the header that model hubs read (YAML, of which JSON is a part).
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from reverie.catalogue import find
from reverie.errors import RunError
from reverie.evaluation.scores import FILE, MEASURES, PER_CENT, bootstrap, read
from reverie.settings import option
from reverie.training import Run, folder
from reverie.training.hub import MODEL
from reverie.training.settings import settings_of

CARD = "README.md"


def write(run: Run, out: Path, seed: int | None = None, licence: str | None = None, half: bool = False) -> Path:
    """Write the card and the file of one seed (the first if None) into the folder `out`, which is made.

    Raises RunError for a run of a file, whose training is not known, for a seed not trained, and where the folder has
    such files.
    """
    if run.path is None:
        raise RunError(f"{run.name} is of one file, which does not say how it was trained; give the run's folder.")
    for name in (CARD, MODEL):
        if (out / name).exists():
            raise RunError(f"{str(out / name)!r} exists already; give another folder.")
    out.mkdir(parents=True, exist_ok=True)
    at = run.place(seed)
    text = card(run, at, folder.read_config(run.path), scored(run), licence)
    run.export(out / MODEL, run.seeds[at], half)
    (out / CARD).write_text(text)
    return out / CARD


def scored(run: Run) -> list[Mapping[str, Any]]:
    """The last evaluation in each environment of the run as it is now, at its last step and asked for the same."""
    assert run.path is not None
    records = [each for found in read(run.path / FILE).values() for each in found]
    last = {each["environment"]: each for each in records if (each["step"], each["policy"]) == (run.step, run.name)}
    return list(last.values())


def command(config: Mapping[str, Any]) -> str:
    """The command that trains such a run: what is not a default is said. Of a run begun from another, that one's folder
    is to be filled in."""
    settings, online = dict(config["algorithm"]), config.get("online")
    cls, numbers = find(settings.pop("name")), config["training"]["seeds"]
    source = config["data"].get("source")
    given: dict[str, Any] = {}
    if online:
        given["env"] = config["data"]["attributes"].get("environment") or "ENV"
        given |= _changed(online, settings_of(cls))
        if config.get("synthesizer"):
            given["synthesizer"] = config["synthesizer"]["name"]
    if source or not online:
        given["data"] = source or "SOURCE"
    if config.get("initial"):
        given["initial"] = f"RUN-OF-{config['initial']['algorithm'].upper()}"
    given |= {"steps": config["training"]["steps"], "seeds": len(numbers)}
    given |= {"seed": numbers[0]} if numbers[0] else {}
    fields = given | _changed(settings, cls)
    words = [word for name, value in fields.items() for word in option(name, value)]
    return " ".join(["reverie", "online" if online else "train", config["algorithm"]["name"], *words])


def _changed(values: Mapping[str, Any], cls: Any) -> dict[str, Any]:
    """The fields that are not the class's defaults."""
    defaults = {
        field.name: list(field.default) if isinstance(field.default, tuple) else field.default
        for field in dataclasses.fields(cls)
    }
    return {name: value for name, value in values.items() if value != defaults.get(name)}


def card(run: Run, at: int, config: Mapping[str, Any], records: list[Mapping[str, Any]], licence: str | None) -> str:
    """The text of the card of the seed at that place."""
    algorithm, data = run.algorithm, config["data"]
    environments = [each["environment"] for each in records]
    header: dict[str, Any] = {
        "library_name": "reverie",
        "pipeline_tag": "reinforcement-learning",
        "tags": ["reinforcement-learning", algorithm.role, algorithm.name, *environments],
        "model-index": [{"name": algorithm.name, "results": [_result(each, at) for each in records]}],
    }
    if licence:
        header["license"] = licence
    unit = "environment steps" if config.get("online") else "updates"
    versions = ", ".join(f"{name} {number}" for name, number in config["versions"].items())
    known = {key: value for key, value in data.get("attributes", {}).items() if key not in ("name", "source")}
    about = [
        ("method", f"{algorithm.name} ({algorithm.role}; {algorithm.paper})"),
        ("data", data.get("source") or data.get("attributes", {}).get("name") or "not recorded"),
        ("of the data", "; ".join(f"{key}: {value}" for key, value in known.items()) or "nothing recorded"),
        ("fingerprint", data.get("fingerprint") or "none: it learned from what it collected"),
        ("trained", f"{run.step} {unit}; seed {run.seeds[at]} of {', '.join(map(str, run.seeds))}, last checkpoint"),
        ("versions", versions),
        ("licence", licence or "not stated"),
    ]
    return "\n".join(
        [
            "---",
            *(f"{name}: {json.dumps(value)}" for name, value in header.items()),
            "---",
            f"\n# {algorithm.name} on {data.get('attributes', {}).get('name', 'its own data')}\n",
            *_table(("", ""), about),
            f"\n## Trained by\n\n```\n{command(config)}\n```\n",
            "## Scores\n",
            *(_scores(records, at, run.seeds) or ["It was not evaluated at its last step."]),
            "\n## Use\n",
            f'```python\nimport reverie\n\nrun = reverie.load("{MODEL}")  # or by its name on a hub: "hf:USER/NAME"',
            *_use(run),
            "```",
            "",
        ]
    )


def _use(run: Run) -> list[str]:
    if not hasattr(run.algorithm, "act"):
        return ["data = run.generate(10_000)"]
    asked = "".join(f"{name}=..., " for name in run.wishes).removesuffix(", ")
    return ["policy = run.policy()", f"carry = policy.reset({asked})", "action, carry = policy.act(observation, carry)"]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    cells = [[str(cell).replace("|", "\\|").replace("\n", " ") for cell in row] for row in (head, *rows)]
    lines = [f"| {' | '.join(row)} |" for row in cells]
    return [lines[0], "|" + "---|" * len(head), *lines[1:]]


def _scores(records: list[Mapping[str, Any]], at: int, seeds: tuple[int, ...]) -> list[str]:
    """A line for each environment and measure: of this seed, and of all."""
    rows = []
    for record in records:
        for measure, values in _measured(record).items():
            own, every = bootstrap(values[at]), bootstrap(values.mean(1))
            rows.append(
                (
                    record["environment"],
                    measure + (" %" if measure.startswith(PER_CENT) else ""),
                    f"{values[at].mean():.1f}, {own}",
                    f"{values.mean():.1f}, {every}",
                    str(values.shape[1]),
                )
            )
    head = ("environment", "measure", "this seed, 95 % over episodes", f"{len(seeds)} seeds, 95 % over them")
    return _table((*head, "episodes each"), rows) if rows else []


def _measured(record: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """`[S, E]` each; shares in per cent."""
    stored = {**MEASURES, "cost": "costs"}
    found = {name: record.get(place) for name, place in stored.items()}
    arrays = {name: np.asarray(values, float) for name, values in found.items() if values is not None}
    return {name: 100 * values if name == "success" else values for name, values in arrays.items()}


def _result(record: Mapping[str, Any], at: int) -> dict[str, Any]:
    """As hubs read results of reinforcement learning."""
    returns = np.asarray(record["returns"], float)[at]
    value, task = f"{returns.mean():.2f} +/- {returns.std():.2f}", "reinforcement-learning"
    return {
        "task": {"type": task, "name": task},
        "dataset": {"type": record["environment"], "name": record["environment"]},
        "metrics": [{"type": "mean_reward", "name": "mean_reward", "value": value, "verified": False}],
    }
