"""Reverie and CleanDiffuser on the same work, in one run:

    python -m benchmarks.peers --cleandiffuser FOLDER [--only dql diffuser decision policy synther] [--pairs N]

FOLDER is a clone of github.com/CleanDiffuserTeam/CleanDiffuser; torch and einops must be installed beside Reverie.
Where one of them is missing Reverie's half runs alone. Four workloads with Hopper's sizes, Diffusion-QL, Diffuser,
Decision Diffuser and SynthER's sampling, and one with Push-T's, Diffusion Policy.

Equal work. Before anything is timed the script counts, by running them, the parameters of both sides' networks, the
evaluations of each network in an update or a plan (NFE) and the examples in each, and how far each evaluation in a
chain moves the sample. It refuses to go on where the parameters differ by more than 6 %, NFE or examples differ at all,
or an evaluation changes nothing. (CleanDiffuser's schedule repeats level 0 where sampling and diffusion steps are as
many, and an evaluation is wasted. Here it gets one diffusion step more, so that its NFE is that of its own settings,
and all count.)
The floating-point operations of both sides' matrix products stand in the table, and may differ by 12 %.

Equal terms. Both run on the same cores (--threads), or both on the GPU. Their batches are drawn from the same data:
Reverie's inside its compiled segment, as `fit` does it; CleanDiffuser's before the clock starts, which spares it its
data loader. It reads its losses with .item() in each update where its own training loops do. Reverie is timed as its
users run it: an update is a segment of --segment updates divided by them, acting is `Policy.act` from a NumPy
observation to a NumPy action. A plan is one step up the value's gradient at each level where guided, and the value's
choice among the candidates, on both sides. With --compiled CleanDiffuser's networks are also run through torch.compile,
on a GPU in mode reduce-overhead, which is CUDA graphs. (The GPU path was never run.)
"""

import argparse
import os
import statistics
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks import timing
from benchmarks.equality import Counts, Plan, Row, Side, UnequalError, check, check_moves, our_moves
from benchmarks.timing import Floor, Ratio, Work


def diffusion_ql(options: argparse.Namespace, peers: dict[str, Any]) -> Plan:
    from benchmarks import cleandiffuser
    from benchmarks.workloads import ACTION, Prepared, SizedDiffusionQL, counted
    from reverie.networks.layers import parameter_count

    algorithm = SizedDiffusionQL()
    ours, noted = Prepared.of(algorithm), Prepared.of(counted(algorithm))
    theirs = {name: cleandiffuser.DiffusionQL(on, batches(ours)) for name, on in peers.items()}
    state = ours.state
    actor = Counts("actor", parameter_count(state.actor.params))
    critic = Counts("critics", parameter_count(state.critic.online.params))
    for peer in theirs.values():
        actor.theirs, critic.theirs = map(cleandiffuser.parameters, (peer.net, peer.critic))
        check_moves("CleanDiffuser's Diffusion-QL", peer.changes(), peer.steps)
    observed = ours.batch()["observations"][:4]
    check_moves(
        "Diffusion-QL", our_moves(algorithm, (4, ACTION), lambda x, t, c: state.actor.params(x, t, observed)), 5
    )
    noticed = evaluations_of(noted.segment(1))
    rows = [updating("Diffusion-QL: update", options, ours, noticed, theirs, lambda peer: peer.update)]
    for n in (1, 50):
        act = lambda peer, n=n: lambda: peer.act(n)  # noqa: E731
        rows.append(acting(f"Diffusion-QL: act, {n} candidate{'s' * (n > 1)}", ours, noted, theirs, act, candidates=n))
    return Plan([actor, critic], rows)


def diffuser(options: argparse.Namespace, peers: dict[str, Any]) -> Plan:
    from benchmarks import cleandiffuser, cleandiffuser_planners
    from benchmarks.workloads import ACTION, OBSERVATION, DenoiserOnly, Prepared, SizedDiffuser, ValueOnly, counted
    from reverie.networks.layers import parameter_count

    algorithm = SizedDiffuser()
    ours, noted = Prepared.of(algorithm), Prepared.of(counted(algorithm))
    theirs = {name: cleandiffuser_planners.Diffuser(on, batches(ours)) for name, on in peers.items()}
    denoiser = Counts("denoiser", parameter_count(ours.state.denoiser.params))
    value = Counts("value", parameter_count(ours.state.value.params))
    for peer in theirs.values():
        denoiser.theirs, value.theirs = map(cleandiffuser.parameters, (peer.net, peer.value))
        check_moves("CleanDiffuser's Diffuser", peer.changes(), peer.steps)
    size = (1, algorithm.horizon, OBSERVATION + ACTION)
    check_moves("Diffuser", our_moves(algorithm, size, ours.state.denoiser_ema), algorithm.diffusion_steps)
    noticed = evaluations_of(noted.segment(1))
    rows = []
    for what, cls, update, networks in (
        ("denoiser update", DenoiserOnly, lambda peer: peer.update_denoiser, ("denoiser",)),
        ("value update", ValueOnly, lambda peer: peer.update_value, ("value",)),
        ("both updates", SizedDiffuser, lambda peer: peer.update, ("denoiser", "value")),
    ):
        part = replace(ours, algorithm=cls())
        own = {name: noticed[name] for name in networks}
        rows.append(updating(f"Diffuser: {what}", options, part, own, theirs, update))
    for n in (1, 64):
        for guided in (False, True):
            name = f"Diffuser: plan, {n} candidate{'s' * (n > 1)}{', guided' * guided}"
            plan = lambda peer, n=n, guided=guided: lambda: peer.plan(n, guided)  # noqa: E731
            rows.append(acting(name, ours, noted, theirs, plan, candidates=n, guidance_steps=int(guided)))
    return Plan([denoiser, value], rows)


def decision_diffuser(options: argparse.Namespace, peers: dict[str, Any]) -> Plan:
    """Both with a transformer; a plan of one doubled batch an evaluation, for one environment and for 50."""
    import jax.numpy as jnp

    from benchmarks import cleandiffuser, cleandiffuser_planners
    from benchmarks.workloads import OBSERVATION, Prepared, SizedDecisionDiffuser, counted
    from reverie.networks.layers import parameter_count

    algorithm = SizedDecisionDiffuser()
    ours, noted = Prepared.of(algorithm), Prepared.of(counted(algorithm))
    theirs = {name: cleandiffuser_planners.DecisionDiffuser(on, batches(ours)) for name, on in peers.items()}
    denoiser = Counts("denoiser of states", parameter_count(ours.state.denoiser.params))
    inverse = Counts("inverse dynamics", parameter_count(ours.state.inverse.params))
    for peer in theirs.values():
        denoiser.theirs, inverse.theirs = map(cleandiffuser.parameters, (peer.agent.model, peer.inverse.mlp))
        check_moves("CleanDiffuser's Decision Diffuser", peer.changes(), peer.steps)
    told = ours.state.denoiser_ema
    size = (1, algorithm.horizon, OBSERVATION)
    moved = our_moves(algorithm, size, lambda x, t, _: told(x, t, jnp.zeros((1, told.size + 1))))
    check_moves("Decision Diffuser", moved, algorithm.nfe)
    name, noticed = "Decision Diffuser", evaluations_of(noted.segment(1))
    rows = [updating(f"{name}: update", options, ours, noticed, theirs, lambda peer: peer.update)]
    for n in (1, 50):
        act = lambda peer, n=n: lambda: peer.act(n)  # noqa: E731
        rows.append(acting(f"{name}: plan, {n} environment{'s' * (n > 1)}", ours, noted, theirs, act, environments=n))
    return Plan([denoiser, inverse], rows)


def diffusion_policy(options: argparse.Namespace, peers: dict[str, Any]) -> Plan:
    """Push-T's sizes and a narrow U-Net; each action chooses a chunk anew, for one environment and for 50."""
    from benchmarks import cleandiffuser, cleandiffuser_imitation
    from benchmarks.workloads import Prepared, SizedDiffusionPolicy, counted, pusht_like
    from reverie.networks.layers import parameter_count

    algorithm = SizedDiffusionPolicy(action_horizon=1)
    ours, noted = (Prepared.of(each, data=pusht_like()) for each in (algorithm, counted(algorithm)))
    theirs = {
        name: cleandiffuser_imitation.DiffusionPolicy(on, batches(ours), algorithm.width) for name, on in peers.items()
    }
    network = Counts("network", parameter_count(ours.state.denoiser.params))
    for peer in theirs.values():
        network.theirs = cleandiffuser.parameters(peer.net)
        check_moves("CleanDiffuser's Diffusion Policy", peer.changes(), peer.steps)
    net, name = ours.state.denoiser_ema, "Diffusion Policy"
    told = net.read(ours.batch()["observations"][:1])
    size = (1, algorithm.horizon, ours.spec.action_dim)
    check_moves(name, our_moves(algorithm, size, lambda x, t, _: net.denoiser(x, t, told)), algorithm.diffusion_steps)
    noticed = evaluations_of(noted.segment(1))
    rows = [updating(f"{name}: update", options, ours, noticed, theirs, lambda peer: peer.update)]
    for n in (1, 50):
        act = lambda peer, n=n: lambda: peer.act(n)  # noqa: E731
        rows.append(acting(f"{name}: chunk, {n} environment{'s' * (n > 1)}", ours, noted, theirs, act, environments=n))
    return Plan([network], rows)


def synther(options: argparse.Namespace, peers: dict[str, Any]) -> Plan:
    """At the peer's size with the same network; and at the original's, with its network against the peer's narrowed."""
    from benchmarks import cleandiffuser
    from benchmarks.workloads import Prepared, WideSynthER, counted
    from reverie.networks.layers import parameter_count
    from reverie.synthesizers import SynthER

    settings: Any = {"nfe": options.nfe, "solver": "ddpm", "chunk": options.rows, "width": options.width}
    plan = Plan([], [])
    for name, algorithm, width in (
        ("peer's size", WideSynthER(**settings), options.width),
        ("original's size", SynthER(**settings), round(364 * options.width / 1024)),
    ):
        ours, noted = Prepared.of(algorithm), Prepared.of(counted(algorithm))
        theirs = {key: cleandiffuser.SynthER(on, options.rows, options.nfe, width) for key, on in peers.items()}
        counts = Counts(f"network of {name}", parameter_count(ours.state.ema))
        for peer in theirs.values():
            counts.theirs = cleandiffuser.parameters(peer.net)
            check_moves("CleanDiffuser's SynthER", peer.changes(), options.nfe)
        side = Side(ours.generating(), 1, ours.generating_flops(), evaluations_of(noted.generating()))
        row = Row(f"SynthER: {options.rows} rows, NFE {options.nfe}, {name}", side)
        row.theirs = {key: their_side(peer, peer.generate) for key, peer in theirs.items()}
        plan.counts.append(counts)
        plan.rows.append(row)
    return plan


WORKLOADS = {
    "dql": diffusion_ql,
    "diffuser": diffuser,
    "decision": decision_diffuser,
    "policy": diffusion_policy,
    "synther": synther,
}


def batches(ours: Any, n: int = 8) -> list[dict[str, Any]]:
    """Some of our own batches, on the host."""
    import jax
    import numpy as np

    return [jax.tree.map(np.asarray, ours.batch(key)) for key in range(n)]


def evaluations_of(work: Work) -> dict[str, list[int]]:
    from benchmarks import workloads

    return workloads.evaluations_of(work)


def updating(
    name: str, options: argparse.Namespace, ours: Any, noticed: dict[str, list[int]], theirs: dict, update: Callable
) -> Row:
    side = Side(ours.segment(options.segment), options.segment, ours.update_flops(), noticed)
    return Row(name, side, {key: their_side(peer, update(peer)) for key, peer in theirs.items()})


def acting(name: str, ours: Any, noted: Any, theirs: dict, act: Callable, **changes: Any) -> Row:
    side = Side(ours.acting(**changes), 1, ours.acting_flops(**changes), evaluations_of(noted.acting(**changes)))
    return Row(name, side, {key: their_side(peer, act(peer)) for key, peer in theirs.items()})


def their_side(peer: Any, work: Work) -> Side:
    """Counted as it runs uncompiled: a compiled network's hooks and operations are not seen."""
    from benchmarks import cleandiffuser

    side = Side(peer.on.finish(work))
    if not peer.on.compiled:
        side.nfe = cleandiffuser.evaluations_of(work, **peer.networks)
        side.flops = peer.on.flops(work)
    return side


def measure(row: Row, pairs: int, least: float, floor: Floor) -> dict[str, Any]:
    """Seconds of a unit on every side, sample by sample, and what follows."""
    sides = {"ours": row.ours} | row.theirs
    taken = timing.interleaved({name: side.work for name, side in sides.items()}, pairs, least)
    taken = {name: [each / sides[name].units for each in times] for name, times in taken.items()}
    medians = {name: statistics.median(times) for name, times in taken.items()}
    return {
        "name": row.name,
        "seconds": taken,
        "median": medians,
        "ratio": {name: vars(Ratio.of(taken["ours"], taken[name])) for name in row.theirs},
        "flops": {name: side.flops for name, side in sides.items()},
        "nfe": {name: len(examples) for name, examples in (row.ours.nfe or {}).items()},
        "of_matmul": row.ours.flops / medians["ours"] / floor.matmul,
    }


def table(results: list[dict[str, Any]], peers: list[str]) -> str:
    head = ["", "Reverie", *(each for name in peers for each in (name, "times as fast")), "GFLOP ours | theirs"]
    rows = []
    for result in results:
        cells = [result["name"], timing.span(result["median"]["ours"])]
        for name in peers:
            cells += [timing.span(result["median"][name]), str(Ratio(**result["ratio"][name]))]
        work = [f"{flops / 1e9:.3g}" for flops in result["flops"].values() if flops]
        rows.append([*cells, " | ".join(work).replace("|", "\\|"), f"{100 * result['of_matmul']:.0f} %"])
    head[-1] = head[-1].replace("|", "\\|")
    return timing.markdown([*head, "ours of matrix product's rate"], rows)


def peers_of(options: argparse.Namespace) -> dict[str, Any]:
    """How the clone is run; nothing, with a word why, where it cannot be."""
    if options.cleandiffuser is None:
        print("No --cleandiffuser FOLDER was given: Reverie's half alone.")
        return {}
    from benchmarks import cleandiffuser

    try:
        torch = cleandiffuser.load(options.cleandiffuser)
    except ImportError as error:
        print(f"Reverie's half alone: {error}.")
        return {}
    torch.set_num_threads(options.threads)
    device = options.device or ("cuda" if torch.cuda.is_available() and on_gpu() else "cpu")
    variants = {"CleanDiffuser": False} | ({"CleanDiffuser, compiled": True} if options.compiled else {})
    return {name: cleandiffuser.Setting(torch, device, compiled) for name, compiled in variants.items()}


def on_gpu() -> bool:
    import jax

    return jax.default_backend() == "gpu"


def run(options: argparse.Namespace) -> dict[str, Any]:
    peers = peers_of(options)
    about = timing.machine(options.threads, ("jax", "jaxlib", *(("torch",) if peers else ())))
    floor = Floor.measure(least=options.least)
    found: dict[str, Any] = {"about": about, "floor": vars(floor), "pairs": options.pairs}
    found |= {"results": [], "parameters": []}
    for plan in plans(options, peers):
        found["parameters"] += [vars(counts) for counts in plan.counts]
        for row in plan.rows:
            found["results"].append(measure(row, options.pairs, options.least, floor))
            print(f"  {row.name}: {timing.span(found['results'][-1]['median']['ours'])}", flush=True)
            timing.write(options.out, "peers", report(found, list(peers), floor), found)  # lest it is cut off
    print(report(found, list(peers), floor))
    return found


def report(found: dict[str, Any], peers: list[str], floor: Floor) -> str:
    parameters = "; ".join(str(Counts(**counts)) for counts in found["parameters"])
    note = f"Medians of {found['pairs']} interleaved pairs (least and largest ratio); "
    note += timing.caption(found["about"], floor)
    return f"{table(found['results'], peers)}\nParameters: {parameters}.\n\n{note}"


def plans(options: argparse.Namespace, peers: dict[str, Any]) -> Iterator[Plan]:
    for name in options.only:
        plan = WORKLOADS[name](options, peers)
        check(plan)
        yield plan


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cleandiffuser", type=Path, help="a clone of it")
    parser.add_argument("--only", nargs="+", default=list(WORKLOADS), choices=WORKLOADS)
    parser.add_argument("--pairs", type=int, default=7, help="interleaved samples of each side")
    parser.add_argument("--least", type=float, default=0.5, help="seconds of a sample, at least")
    parser.add_argument("--segment", type=int, default=10, help="updates in one compiled segment of ours")
    parser.add_argument("--rows", type=int, default=256, help="rows that SynthER samples at once")
    parser.add_argument("--nfe", type=int, default=16, help="SynthER's network evaluations for a row; 128 in full")
    parser.add_argument("--width", type=int, default=1024, help="of SynthER's network; the peer's 1024")
    parser.add_argument("--threads", type=int, default=2, help="cores for both sides")
    parser.add_argument("--clock", choices=timing.CLOCKS, default="wall", help="cpu: where other work shares the cores")
    parser.add_argument("--device", help="torch's; the GPU where JAX has one")
    parser.add_argument("--compiled", action="store_true", help="also with torch.compile")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks"))
    options = parser.parse_args(words)
    for name in ("pairs", "segment", "rows", "nfe", "threads"):
        if getattr(options, name) < 1:
            parser.error(f"--{name} {getattr(options, name)} must be at least 1")
    return options


def main(words: list[str] | None = None) -> None:
    options = arguments(words)
    timing.use_threads(options.threads)
    timing.use_clock(options.clock)
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # on a GPU the two share its memory
    try:
        run(options)
    except UnequalError as error:
        sys.exit(f"The work is not equal, so nothing was timed. {error}.")


if __name__ == "__main__":
    main()
