"""The verbs that use a trained run: eval, two-sample, generate, export, serve, card; and fidelity, of what was
generated."""

import os
from pathlib import Path
from typing import Annotated, Literal

import tyro

import reverie
from reverie.cli.show import assignment, show, table
from reverie.deploy import export as write
from reverie.engines import Kind
from reverie.evaluation import fidelity as measure_fidelity
from reverie.evaluation import two_sample as measure_two_sample
from reverie.evaluation.diagnosis import check_data, check_run
from reverie.evaluation.overlap import draw_overlap
from reverie.evaluation.overlap import overlap as measure_overlap
from reverie.evaluation.plots import draw_marginals, save
from reverie.planners.shielded import shield_run


def evaluate(
    run: tyro.conf.Positional[Path],
    env: str,
    episodes: int = 20,
    seed: int = 0,
    max_steps: int | None = None,
    budget: float | None = None,
    barriers: tuple[str, ...] = (),
    acting: tuple[str, ...] = (),
    video: Path | None = None,
) -> None:
    """Let every seed of a run act, print the scores and keep them in the run's evaluation.json.

    Args:
        run: the run's folder, or a file of `reverie export`.
        env: a Gymnasium id such as Hopper-v5; pointmaze-umaze, -medium or -large, also with -single behind;
            metaworld-TASK; compass, fork, fork-images, fork-looks, multigoal, pusht, pusht-images or speed;
            hopper-velocity and the like, with costs; an id of OGBench, such as cube-single-singletask-task2-v0.
        episodes: for each seed.
        seed: of the starts.
        max_steps: cut episodes after so many steps.
        budget: what an episode may cost, where costs are reported; what the run is asked for unless given.
        barriers: what the plans of a planner of windows are kept clear of: disc, ellipse, half-plane, upper:ENTRY,
            lower:ENTRY, or module:function of a state; each as often as there are such, and told by --acting, as in
            --barriers disc --acting "disc=[[0.5,1,0.3]]" shield=relaxed.
        acting: what to change in acting, as NAME=VALUE: fields of the algorithm (candidates=8 solver=ddim) and
            what it is asked for (target_return=3600).
        video: a folder for films of the best and the worst of four episodes.
    """
    trained, changes = reverie.load(run), dict(map(assignment, acting))
    changed = shield_run(trained, barriers, **changes) if barriers else trained.acting(**changes)
    show(reverie.evaluate(changed, env, episodes, seed, max_steps, budget=budget, video=video).table())
    if video is not None:
        print(f"films: {video}")


def two_sample(
    run: tyro.conf.Positional[Path],
    data: str,
    rows: int = 10_000,
    seed: int = 0,
    blur: float = 0.0,
    acting: tuple[str, ...] = (),
) -> None:
    """Train a classifier to tell a run's actions from the data's, and print its accuracy on others: 50 % is perfect.

    Args:
        run: the run's folder, or a file of `reverie export`.
        data: source of the data.
        rows: pairs of an observation and an action of each kind, for training the classifier and again for judging.
        seed: of the choice of rows and of the classifier.
        blur: standard deviation of noise on both kinds of action, to hide what is finer.
        acting: fields of the algorithm to change in acting, as FIELD=VALUE: stochastic=True for bc.
    """
    changed = reverie.load(run).acting(**dict(map(assignment, acting)))
    found = measure_two_sample(changed, reverie.load_dataset(data), rows, seed=seed, blur=blur)
    cells = [(str(s), f"{100 * accuracy:.1f} %") for s, accuracy in zip(changed.seeds, found.accuracy, strict=True)]
    cells.append(("mean", f"{100 * found.mean:.1f} %"))
    show(table(("seed", "classifier accuracy"), cells))
    print(f"50 % where they cannot be distinguished; one seed's standard deviation is then {100 * found.noise:.1f} %.")


def check(run: tyro.conf.Positional[Path], data: str, episodes: int = 16, updates: int = 500, seed: int = 0) -> None:
    """Look for what may be wrong: of the data, of the run's actions beside the demonstrations', and of the method.

    Args:
        run: the run's folder, or a file of `reverie export`.
        data: source of the data that it was trained on.
        episodes: that the run is shown step by step.
        updates: by which the same method is to learn one episode by heart; 0 does not try.
        seed: of the choice of episodes and states.
    """
    trained, demonstrations = reverie.load(run), reverie.load_dataset(data)
    found = [*check_data(demonstrations, seed), *check_run(trained, demonstrations, episodes, updates, seed)]
    show(table(("", "", "found"), [(LEVELS[each.level], each.what, each.said) for each in found]))


LEVELS = {"fine": "[green]fine", "note": "[yellow]note", "wrong": "[red]wrong"}


def fidelity(
    made: tyro.conf.Positional[str],
    real: str,
    env: str | None = None,
    rows: int = 2000,
    seed: int = 0,
    out: Path | None = None,
    overlap: Path | None = None,
) -> None:
    """Measure how true synthetic transitions are: marginals, correlations, ends, copies, and dynamics in the simulator.

    Args:
        made: source of the synthetic data.
        real: source of the data that it was made from.
        env: the data's environment, such as Hopper-v5, for the dynamics.
        rows: of each kind that are judged.
        seed: of their choice.
        out: a picture of all marginals, as a PNG.
        overlap: a picture of both in the plane of the real rows' first two principal components.
    """
    synthetic, truth = reverie.load_dataset(made), reverie.load_dataset(real)
    show(table(("measure", "synthetic", "held-out real"), measure_fidelity(synthetic, truth, env, rows, seed).rows()))
    if out:
        print(f"picture: {save(draw_marginals(truth, synthetic), out)}")
    if overlap:
        print(f"picture: {save(draw_overlap(measure_overlap(synthetic, truth, rows, seed)), overlap)}")


def generate(
    run: tyro.conf.Positional[Path],
    n: Annotated[int, tyro.conf.arg(aliases=["-n"])],
    out: str,
    seed: int | None = None,
    key: int = 0,
    workers: int = 1,
    engine: Kind = "local",
    acting: tuple[str, ...] = (),
) -> None:
    """Write data made by a synthesizer's run. What was killed goes on where it was by the same command, into d4rl.

    Args:
        run: the run's folder, or a file of `reverie export`.
        n: rows to generate.
        out: d4rl:FILE.hdf5 (images at the end) or parquet:FOLDER, written as it is made, or minari:ID for some
            thousands of rows.
        seed: which of the run's seeds generates; the first if not given.
        key: another key makes other data.
        workers: processes that make chunks side by side; the rows are the same whatever their number.
        engine: where they run: on this machine, or on the Ray cluster that RAY_ADDRESS names.
        acting: fields of the algorithm to change in generating, as FIELD=VALUE: nfe=63 chunk=10000.
    """
    reverie.load(run).acting(**dict(map(assignment, acting))).write(out, n, seed, key, workers=workers, engine=engine)
    print(f"{n} steps in {out}")


def export(
    run: tyro.conf.Positional[Path],
    out: Path,
    to: Literal["safetensors", "npz", "stablehlo", "onnx"] = "safetensors",
    seed: int | None = None,
    half: bool = False,
    acting: tuple[str, ...] = (),
    about: tuple[str, ...] = (),
) -> None:
    """Write what a run reads when it acts, or generates, to one file, which eval, two-sample and generate take; or its
    whole way of acting to a file that is run without Reverie.

    Args:
        run: the run's folder.
        out: FILE.safetensors; FILE.npz; FILE.onnx; any name for stablehlo.
        to: safetensors, for Reverie; npz, the same arrays for NumPy alone; stablehlo, the acting function for JAX
            alone; onnx, the acting function for ONNX Runtime (pip install 'reverie[onnx]').
        seed: which of the run's seeds; the first if not given.
        half: store numbers of half precision (float16), which takes half the room; of safetensors and npz.
        acting: fields of the algorithm to change in acting, as FIELD=VALUE: what is read then is stored.
        about: what to keep with it, as NAME=VALUE: returns=3600 minutes=12.
    """
    changed = reverie.load(run).acting(**dict(map(assignment, acting)))
    write(changed, out, to, seed, half, **dict(map(assignment, about)))
    print(f"{changed.name}, {out.stat().st_size / 1000:,.0f} kB in {out}")


def serve(
    run: tyro.conf.Positional[Path],
    port: int,
    host: str = "127.0.0.1",
    token: str = "",
    seed: int | None = None,
    sessions: int = 64,
    batch: int = 32,
    vectorised: bool = False,
    acting: tuple[str, ...] = (),
) -> None:
    """Answer clients' observations with actions, over websockets, until Ctrl-C or SIGTERM.

    Args:
        run: the run's folder, or a file of `reverie export`.
        port: where it listens; 0 takes a free one.
        host: 127.0.0.1, this machine alone, or another address of it, which needs a token.
        token: what clients must show; from REVERIE_TOKEN in the environment, where processes do not show it, if not
            given.
        seed: which of the run's seeds acts; the first if not given.
        sessions: clients at a time.
        batch: clients that are answered by one act, at most.
        vectorised: compute a batch's actions together, for a GPU; else one after another in one program.
        acting: what to change in acting, as NAME=VALUE: fields of the algorithm and what it is asked for.
    """
    from reverie.deploy.serving import serve as answer

    policy = reverie.load(run).acting(**dict(map(assignment, acting))).policy(seed)
    told = token or os.environ.get("REVERIE_TOKEN", "")
    answer(policy, host=host, port=port, token=told, sessions=sessions, batch=batch, vectorised=vectorised)


def card(
    run: tyro.conf.Positional[Path],
    out: Path,
    seed: int | None = None,
    licence: str | None = None,
    half: bool = False,
    acting: tuple[str, ...] = (),
) -> None:
    """Write a folder to be shared: the run as one file, and a card with its method, data, command and scores.

    Args:
        run: the run's folder, with the evaluations that are to be on the card.
        out: the folder, which is made.
        seed: which of the run's seeds; the first if not given.
        licence: of the weights, as hubs name it: apache-2.0.
        half: store numbers of half precision (float16), which takes half the room.
        acting: fields of the algorithm to change in acting, as FIELD=VALUE; evaluations of that way count.
    """
    from reverie.evaluation import cards

    changed = reverie.load(run).acting(**dict(map(assignment, acting)))
    print(f"{changed.name}: {cards.write(changed, out, seed, licence, half)}")
