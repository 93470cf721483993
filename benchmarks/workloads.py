"""The workloads as Reverie does them, at the peer's sizes: Hopper's 11 observations and 3 actions.

A class here changes the size of a network of the library's, or trains one of two networks alone; what runs is the
library's. `Counted` notes every evaluation of a network as it is run.
"""

import warnings
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.flops import matmul_flops, matmuls
from benchmarks.timing import Work
from reverie.data import Dataset
from reverie.errors import ReverieWarning
from reverie.evaluation.rollout import RunPolicy
from reverie.imitation import DiffusionPolicy
from reverie.imitation.diffusion_policy import ChunkDenoising, Network
from reverie.networks import DenoisingMLP, LayerNormResNet, Linear, TemporalUNet, WindowTransformer, WindowValue
from reverie.planners import DecisionDiffuser, Diffuser
from reverie.planning import WindowDiffusion
from reverie.policies import DiffusionQL
from reverie.protocols import Wishing
from reverie.rl import Selection
from reverie.synthesizers import SynthER
from reverie.training import loop
from reverie.training.inputs import signals_of
from reverie.training.placing import SEEDS, device_mesh, placed
from reverie.training.run import Policy, Run
from reverie.training.sharding import sharded
from reverie.wishes import resolve

OBSERVATION, ACTION = 11, 3


@dataclass(frozen=True)
class SizedDiffusionQL(DiffusionQL):
    """Time embedded in 64 numbers, critics of three hidden layers with layer norms, and a candidate drawn by exp Q."""

    critic_layer_norm: ClassVar = True
    decay_updates: int = 2_000_000
    nfe: int = 5
    selection: Selection = "softmax"

    def network(self, key, spec):
        return DenoisingMLP(key, spec.action_dim, spec.observation_dim, hidden=self.hidden, time_dim=64)


@dataclass(frozen=True)
class SizedDiffuser(Diffuser):
    """Kernels of 3 in the value, and at every level of the chain one step up its gradient (none if unguided)."""

    guidance_steps: int = 1
    guidance_stop: int = 0
    candidates: int = 1

    def value_network(self, key, spec):
        size = spec.action_dim + spec.observation_dim
        return WindowValue(key, size, self.horizon, width=self.width, multipliers=self.multipliers, kernel=3)


@dataclass(frozen=True)
class DenoiserOnly(SizedDiffuser):
    def update(self, state, batch, key):
        denoiser, loss = state.denoiser.minimise(lambda net: self.denoising_loss(net, batch, key), self.optimiser)
        ema = self.averaged(state.denoiser_ema, denoiser.params, state.step)
        return replace(state, denoiser=denoiser, denoiser_ema=ema, step=state.step + 1), {"diffusion_loss": loss}


@dataclass(frozen=True)
class ValueOnly(SizedDiffuser):
    def update(self, state, batch, key):
        value, ema, loss = self.learn_value(state, batch, key)
        return replace(state, value=value, value_ema=ema, step=state.step + 1), {"value_loss": loss}


@dataclass(frozen=True)
class SizedDecisionDiffuser(DecisionDiffuser):
    """A transformer of the peer's size in place of the U-Net, its EMA moved in every update, and DDIM of 20 steps."""

    horizon: int = 32
    width: int = 64
    hidden: tuple[int, ...] = (512, 512)
    discount: float = 0.997
    ema_decay: float = 0.9999
    ema_every: int = 1
    ema_start: int = 0
    nfe: int = 20
    solver: Any = "ddim"

    def network(self, key, spec):
        return WindowTransformer(key, spec.observation_dim, width=320, heads=10, depth=2, cond_dim=self.cond_dim(spec))


class ProjectedNetwork(Network):
    """A network that is told a projection of all observations in a row, as wide as the time's embedding."""

    projection: Linear

    def read(self, observations, key=None):
        return self.projection(super().read(observations, key))


@dataclass(frozen=True)
class SizedDiffusionPolicy(DiffusionPolicy):
    """A narrow U-Net that reads a projection of the observations, and as few noise levels as the peer's."""

    width: int = 64
    diffusion_steps: int = 5
    warmup_updates: int = 0
    decay_updates: int = 1_000_000

    def network(self, key, spec):
        key, projection_key = jax.random.split(key)
        net, sizes = super().network(key, spec), {"width": self.width, "multipliers": self.multipliers, "film": True}
        unet = TemporalUNet(key, spec.action_dim, cond_dim=self.width, **sizes)
        projection = Linear(projection_key, net.denoiser.cond_dim, self.width)
        return ProjectedNetwork(net.encoder, unet, projection)


@dataclass(frozen=True)
class WideSynthER(SynthER):
    """With IDQL's network of the peer's size in place of the paper's."""

    def network(self, key, spec):
        return LayerNormResNet(
            key, 2 * spec.observation_dim + spec.action_dim + 2, width=self.width, blocks=self.blocks
        )


@cache
def hopper_like(rows: int = 20_000, episode: int = 500) -> Dataset:
    """Random numbers of Hopper's sizes: how long a method takes does not depend on them."""
    return random_data(OBSERVATION, ACTION, rows, episode)


@cache
def maze_like() -> Dataset:
    """Of the point maze's: positions and velocities."""
    return random_data(4, 2, 20_000, 500)


@cache
def pusht_like() -> Dataset:
    """Of Push-T's: the pusher, the block and its angle."""
    return random_data(5, 2, 20_000, 500)


def random_data(observation: int, action: int, rows: int, episode: int) -> Dataset:
    random = np.random.default_rng(0)
    ends = np.arange(1, rows + 1) % episode == 0
    return Dataset.from_arrays(
        random.normal(size=(rows, observation)),
        random.uniform(-1, 1, (rows, action)),
        random.normal(size=rows),
        terminals=ends & (np.arange(rows) % (2 * episode) >= episode),
        timeouts=ends & (np.arange(rows) % (2 * episode) < episode),
    )


@dataclass(frozen=True)
class Prepared:
    """An algorithm with its data on the device, and the state of one seed."""

    algorithm: Any
    view: Any
    spec: Any
    states: Any
    each: loop.Each

    @classmethod
    def of(cls, algorithm: Any, seeds: int = 1, data: Dataset | None = None) -> "Prepared":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ReverieWarning)  # few rows for a network that is not trained here
            view, spec = algorithm.prepare(hopper_like() if data is None else data)
        each = loop.each_seed(tuple(range(seeds)))
        return cls(algorithm, view, spec, loop.initial_states(algorithm, each, spec), each)

    @property
    def state(self) -> Any:
        return jax.tree.map(lambda leaf: leaf[0], self.states)

    def segment(self, length: int, seeds_by: loop.SeedsBy = "auto", devices: int = 1) -> Work:
        """`length` updates of every seed as `fit` makes them, and the look at them from the host."""
        (_, states, *rest), options = self.arguments(length, seeds_by, devices)

        def work() -> None:
            nonlocal states
            states, metrics, finite, _ = loop.advance(self.algorithm, states, *rest, **options)
            jax.tree.map(np.asarray, (metrics, finite))

        return work

    def arguments(
        self, length: int, seeds_by: loop.SeedsBy = "auto", devices: int = 1, shard: bool = False
    ) -> tuple[tuple, dict[str, Any]]:
        """Of `loop.advance`, for such a segment; `shard` divides the data among the devices."""
        seeds = len(self.each.key)
        mesh = device_mesh(devices, seeds, self.algorithm.batch_size)
        chosen = loop.chosen_seeds_by(seeds_by, seeds // (mesh.shape[SEEDS] if mesh else 1))
        states, each = placed((jax.tree.map(jnp.copy, self.states), self.each), mesh, SEEDS)
        done = placed(np.uint32(0), mesh)
        view = sharded(self.view, self.algorithm.batch_size, mesh) if shard and mesh else placed(self.view, mesh)
        return (self.algorithm, states, each, done, view, {}), {"length": length, "seeds_by": chosen, "mesh": mesh}

    def compiled(self, length: int, devices: int = 1, shard: bool = False) -> str:
        """The text of such a segment's program, once compiled."""
        arguments, options = self.arguments(length, devices=devices, shard=shard)
        return loop.advance.lower(*arguments, **options).compile().as_text()

    def acting(self, environments: int = 1, **changes: Any) -> Work:
        """One observation in, one action out, on the host; or one for each of the environments, as in `evaluate`."""
        algorithm = replace(self.algorithm, **changes)
        if environments > 1:
            together = RunPolicy(Run(algorithm, self.spec, self.states, 0, tuple(range(len(self.each.key)))))
            together.reset(environments)
            observations = np.zeros((environments, self.spec.observation_dim), np.float32)
            return lambda: together.act(observations)
        policy = Policy(algorithm, self.spec, self.state)
        carry, observation = policy.reset(), np.zeros(self.spec.observation_dim, np.float32)

        def work() -> None:
            nonlocal carry
            _, carry = policy.act(observation, carry)

        return work

    def generating(self) -> Work:
        """A chunk of a synthesizer's rows, on the host."""
        net, key = self.state.ema, jax.random.key(0)
        return lambda: jax.tree.map(np.asarray, self.algorithm.rows(net, self.spec, key))

    def batch(self, key: int = 0) -> dict[str, jax.Array]:
        return self.view.draw(jax.random.key(key), self.algorithm.batch_size)

    def update_flops(self) -> float:
        return matmul_flops(self.algorithm.update, self.state, self.batch(), jax.random.key(0))

    def update_matmuls(self) -> int:
        return matmuls(self.algorithm.update, self.state, self.batch(), jax.random.key(0))

    def acting_flops(self, environments: int = 1, **changes: Any) -> float:
        algorithm = replace(self.algorithm, **changes)
        observation, carry, feedback = acting_inputs(algorithm, self.spec, environments)
        act = partial(algorithm.act, self.state, self.spec)
        return matmul_flops(act, observation, carry, feedback, jax.random.key(0))

    def generating_flops(self) -> float:
        return matmul_flops(lambda key: self.algorithm.rows(self.state.ema, self.spec, key), jax.random.key(0))


@dataclass(frozen=True)
class Untrained:
    """A state that acts, of random numbers: nothing is compiled for it, as an `init` of many layers is."""

    spec: Any
    state: Any

    @classmethod
    def of(cls, algorithm: Any, data: Dataset) -> "Untrained":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ReverieWarning)
            _, spec = algorithm.prepare(data)
        random = np.random.default_rng(0)
        shapes = jax.eval_shape(lambda key: algorithm.init(key, spec), jax.random.key(0))
        return cls(spec, jax.tree.map(lambda x: jnp.asarray(random.normal(0, 0.05, x.shape), x.dtype), shapes))


def acting_inputs(algorithm: Any, spec: Any, n: int) -> tuple[jax.Array, Any, dict[str, jax.Array]]:
    """What `act` is given at the first step in n environments: observations, carry and feedback."""
    feedback = {name: jnp.zeros(n) for name in signals_of(algorithm)}
    asked = resolve(algorithm.name, algorithm.wishes(spec), {}, n) if isinstance(algorithm, Wishing) else {}
    return jnp.zeros((n, spec.observation_dim)), algorithm.reset(spec, n, asked), feedback


EVALUATIONS: list[tuple[str, int]] = []
"""(network, examples) of every evaluation of a counted network."""


class Counted(eqx.Module):
    """A network that notes its evaluations, as they are run, in `EVALUATIONS`."""

    net: Any
    name: str = eqx.field(static=True)
    axes: int = eqx.field(static=True)
    """Of one example."""

    def __call__(self, x, *rest):
        examples = int(np.prod(x.shape[: x.ndim - self.axes]))
        # With a number of x, so that it is taken for no constant of a loop.
        jax.debug.callback(lambda _: EVALUATIONS.append((self.name, examples)), jax.lax.stop_gradient(x.ravel()[0]))
        return self.net(x, *rest)


@cache
def counting(cls: Any) -> Any:
    """The algorithm's class with its denoiser, and its value if it has one, counted."""
    axes = 2 if issubclass(cls, WindowDiffusion | ChunkDenoising) else 1

    class Counting(cls):  # type: ignore[valid-type, misc]
        def network(self, key, spec):
            net = super().network(key, spec)
            if isinstance(net, Network):  # which reads observations besides
                return eqx.tree_at(lambda net: net.denoiser, net, Counted(net.denoiser, "denoiser", axes))
            return Counted(net, "denoiser", axes)

        if issubclass(cls, Diffuser):

            def value_network(self, key, spec):
                return Counted(super().value_network(key, spec), "value", axes)

    return Counting


def counted(algorithm: Any) -> Any:
    """The same algorithm whose networks note their evaluations."""
    return counting(type(algorithm))(**vars(algorithm))  # type: ignore[arg-type]


def evaluations_of(work: Work) -> dict[str, list[int]]:
    """Examples in each evaluation of each counted network, in one run of the work, compiled without much care."""
    EVALUATIONS.clear()
    jax.config.update("jax_disable_most_optimizations", True)
    try:
        work()
        jax.effects_barrier()
    finally:
        jax.config.update("jax_disable_most_optimizations", False)
    return {
        name: sorted(n for each, n in EVALUATIONS if each == name) for name in sorted({name for name, _ in EVALUATIONS})
    }
