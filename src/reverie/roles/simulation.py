"""Generative simulation: a diffusion model of an environment's configurations, led to what a policy can just do.

After ADD (Chung, Lee, Kim, Kim & Oh 2024, "Adversarial environment design via regret-guided diffusion models"), where a
diffusion model that has learned random environments is guided by a critic of what the agent gets in them. There the
critic tells regret; here, the probability of success, and the guide is the likelihood of a wanted share of successes.
What is drawn is rounded to configurations, and those that can be solved and are new are kept.
"""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar, NamedTuple, Protocol

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

from reverie.configs import EMA, Adam, Sampling
from reverie.data import Dataset, MinMax, Normaliser, Spec, Transitions
from reverie.diffusion import Process, energy, sample, vp_cosine
from reverie.errors import DataError, ReverieError
from reverie.learning import Optimised, optimiser
from reverie.networks import NoisyValue, ResidualMLP
from reverie.settings import Acting, Count, NonNegative

PASSES = 50
"""Draws for one that is kept, at most, on average."""
BARREN = 5
"""Chunks of draws without one to keep, after which it is given up."""


class Space(Protocol):
    """What configurations there are, such as the module `environments.gridmaze`."""

    def encode(self, configurations: np.ndarray) -> np.ndarray:
        """Of configurations `[n, ...]` vectors in -1..1, float32 `[n, D]`."""

    def decode(self, x: np.ndarray) -> np.ndarray:
        """The nearest configurations `[n, ...]` of any vectors `[n, D]`."""

    def solvable(self, configurations: np.ndarray) -> np.ndarray:
        """Whether anyone could succeed: bool `[n]`."""


class Proposals(NamedTuple):
    """What was drawn and kept, and what the draws were like."""

    configurations: np.ndarray
    """`[n, ...]`, all solvable and new."""
    success: np.ndarray
    """The probability that the model gives each, `[n]`."""
    drawn: int
    """How many were drawn for them."""
    solvable: float
    """Share of the drawn."""
    novel: float
    """Share of the drawn that are neither in the data nor proposed or drawn before."""


def outcomes(space: Space, configurations: np.ndarray, success: Any) -> Dataset:
    """Configurations `[n, ...]` and what a policy's episodes in them ended with, 1 for success and 0 for none or any
    probability, `[n]`, as data: the configuration is the action of who sets the task, and the outcome its reward.
    Those that nobody can solve are left out.

    Raises DataError for another number of outcomes, for outcomes outside 0..1, and where none can be solved.
    """
    won = np.asarray(success, np.float32)
    if won.shape != (len(configurations),):
        raise DataError(
            f"{len(configurations)} configurations have outcomes of shape {list(won.shape)}; give one each."
        )
    check_probabilities(won)
    kept = space.solvable(configurations)
    if not kept.any():
        raise DataError(f"None of the {len(configurations)} configurations can be solved; give some that can.")
    x = space.encode(configurations[kept])
    blank, ends = np.zeros((len(x), 1), np.float32), np.ones(len(x), bool)
    return Dataset.from_arrays(blank, x, won[kept], terminals=ends, action_low=-1.0, action_high=1.0)


def check_probabilities(success: np.ndarray) -> None:
    """Raise DataError for outcomes outside 0..1."""
    wrong = (success < 0) | (success > 1)
    if wrong.any():
        raise DataError(f"An outcome is {success[wrong][0]:g}; give 1 for success, 0 for none, or a probability.")


class State(eqx.Module):
    denoiser: Optimised
    ema: ResidualMLP
    """Its average, which draws."""
    success: Optimised
    step: jax.Array


@dataclass(frozen=True)
class GenerativeSimulation(EMA, Sampling, Adam):
    """Generative simulation: configurations of an environment, solvable, new, and near what a policy can just do."""

    name: ClassVar = "generative-simulation"
    role: ClassVar[str] = "simulation"
    paper: ClassVar = "Chung et al. 2024"
    needs: ClassVar[tuple[str, ...]] = ("rewards",)

    width: Count = 512
    """Of the network that denoises configurations."""
    blocks: Count = 4
    """Its residual blocks."""
    hidden: tuple[int, ...] = (256, 256)
    """Widths of the hidden layers of the model of success."""
    nfe: Acting[Count] = 64
    """Network function evaluations (NFE) for a configuration."""
    guidance_scale: Acting[NonNegative] = 8.0
    """Of how many episodes the wanted share is asked to have succeeded: the larger, the nearer to it, and the farther
    from the data."""
    candidates: Acting[Count] = 4
    """Solvable and new ones for each that is proposed, of which those nearest to the wanted probability are taken."""
    chunk: Acting[Count] = 256
    """Configurations that are drawn at a time."""

    @property
    def process(self) -> Process:
        return vp_cosine(prediction="v")

    # What is learned.

    def prepare(self, data: Dataset, spec: Spec | None = None):
        rewards = data.require_rewards()
        check_probabilities(rewards)
        spec = spec or self.spec(data)
        x = spec.normalise("actions", data.actions)
        return Transitions({"actions": x, "rewards": jnp.asarray(rewards)}), spec

    def spec(self, data: Dataset) -> Spec:
        spec = Spec.fit(data)
        units: dict[str, Normaliser] = {"actions": MinMax(spec.action_low, spec.action_high)}
        return replace(spec, normalisers=units, kept={"configurations": jnp.asarray(data.actions)})

    def init(self, key, spec: Spec) -> State:
        keys, size = jax.random.split(key), spec.action_dim
        net = ResidualMLP(keys[0], size, width=self.width, blocks=self.blocks)
        success = NoisyValue(keys[1], size, hidden=self.hidden)
        create = partial(Optimised.create, by=self.optimiser)
        return State(create(net), net, create(success), jnp.zeros((), jnp.int32))

    def update(self, state: State, batch, key) -> tuple[State, dict[str, jax.Array]]:
        draw_key, success_key = jax.random.split(key)
        x = batch["actions"]
        denoiser, loss = state.denoiser.minimise(lambda net: self.process.loss(net, x, draw_key).mean(), self.optimiser)
        success, error = self.success_step(state.success, x, batch["rewards"], success_key, self.optimiser)
        average = self.averaged(state.ema, denoiser.params, state.step)
        return State(denoiser, average, success, state.step + 1), {"diffusion_loss": loss, "success_loss": error}

    def success_step(self, success: Optimised, x, won, key, by) -> tuple[Optimised, jax.Array]:
        """One step down the cross-entropy of outcomes `[B]`, of configurations `[B, D]` noised as the denoiser's."""
        noisy, t, _ = self.process.noised(key, x)
        feature = self.process.time_feature(t)

        def loss(net):
            return optax.sigmoid_binary_cross_entropy(net(noisy, feature), won).mean()

        return success.minimise(loss, by)

    @partial(jax.jit, static_argnums=(0, 7))
    def refitted(self, state: State, spec: Spec, x, won, count, key, updates: int) -> State:
        """With a model of success that has learned from the first `count` of configurations `[M, D]`, in the data's
        units, and their outcomes `[M]`, at the learning rate at which the training began. What draws them remains, as
        in ADD."""
        x, by = spec.normalise("actions", x), optimiser(self.learning_rate, betas=self.betas)

        def once(success, key):
            index_key, loss_key = jax.random.split(key)
            rows = jax.random.randint(index_key, (self.batch_size,), 0, count)
            return self.success_step(success, x[rows], won[rows], loss_key, by)

        begun = Optimised.create(state.success.params, by)
        success, _ = jax.lax.scan(once, begun, jax.random.split(key, updates))
        return replace(state, success=Optimised(success.params, state.success.moments))

    # What it is asked for.

    @partial(jax.jit, static_argnums=(0, 5))
    def drawn(self, state: State, spec: Spec, key, success, guided: bool = True) -> jax.Array:
        """A chunk of vectors `[chunk, D]`, in the data's units, led to the probability `success` where `guided`."""
        denoiser = self.process.denoiser(state.ema)
        if guided:
            guide = partial(self.log_likelihood, self.logit(state), success)
            denoiser = energy(self.process, denoiser, guide, self.guidance_scale)
        shape = (self.chunk, spec.action_dim)
        options: Any = {"nfe": self.nfe, "solver": self.solver, "clip_x0": (-1.0, 1.0)}
        return spec.denormalise("actions", sample(self.process, denoiser, key, shape, **options))

    def logit(self, state: State):
        """(x_t, t) -> the logit of success."""
        return lambda x, t: state.success.params(x, self.process.time_feature(t))

    @staticmethod
    def log_likelihood(logit, success, x, t) -> jax.Array:
        """That a share `success` of episodes succeeds, an episode's: s log p + (1 - s) log(1 - p). It is largest where
        p = s, and its gradient is (s - p) times the logit's, which does not vanish where p is near 0 or 1."""
        odds = logit(x, t)
        return success * odds - jax.nn.softplus(odds)

    @partial(jax.jit, static_argnums=0)
    def success(self, state: State, spec: Spec, x) -> jax.Array:
        """Probabilities of success of vectors `[n, D]` in the data's units: `[n]`."""
        return jax.nn.sigmoid(self.logit(state)(spec.normalise("actions", x), jnp.float32(self.process.t_min)))

    def known(self, spec: Spec, space: Space) -> set[bytes]:
        """The data's configurations."""
        return {each.tobytes() for each in space.decode(np.asarray(spec.kept["configurations"]))}

    def propose(
        self,
        state: State,
        spec: Spec,
        space: Space,
        key,
        n: int,
        success: float | None = None,
        seen: set[bytes] | None = None,
    ) -> Proposals:
        """n configurations that are solvable and new, drawn for a probability of success (as they come if None).

        seen: those that are not new, by their `tobytes`; `known` if None.

        Raises ReverieError for a `success` outside 0..1 and for fewer than one configuration, and where hardly any of
        the draws can be kept.
        """
        if success is not None and not 0 <= success <= 1:
            raise ReverieError(f"success = {success} is no probability; give one from 0 to 1, or None for any.")
        if n < 1:
            raise ReverieError(f"{n} configurations cannot be proposed; ask for at least 1.")
        seen = self.known(spec, space) if seen is None else set(seen)
        kept: list[np.ndarray] = []
        drawn, solved, novel, wanted = 0, 0, 0, n if success is None else n * self.candidates
        while len(kept) < wanted:
            if drawn >= (PASSES * wanted if kept else BARREN * self.chunk):
                raise ReverieError(
                    f"Of {drawn} configurations drawn {solved} are solvable and {novel} new, {len(kept)} both, where "
                    f"{wanted} are wanted; train longer, on more data, or lower "
                    f"guidance_scale = {self.guidance_scale:g}."
                )
            now = jax.random.fold_in(key, drawn // self.chunk)
            made = space.decode(np.asarray(self.drawn(state, spec, now, success or 0.0, success is not None)))
            can = space.solvable(made)
            new = np.array([_added(seen, each.tobytes()) for each in made])
            kept += list(made[can & new])
            drawn, solved, novel = drawn + len(made), solved + int(can.sum()), novel + int(new.sum())
        chosen, told = self.nearest(state, spec, space, np.stack(kept[:wanted]), n, success)
        return Proposals(chosen, told, drawn, solved / drawn, novel / drawn)

    def nearest(self, state: State, spec: Spec, space: Space, configurations: np.ndarray, n: int, success):
        """The n of the probabilities nearest to `success` (the first n if None), as they came, and these `[n]`."""
        told = np.asarray(self.success(state, spec, space.encode(configurations)))
        order = np.arange(n) if success is None else np.sort(np.abs(told - success).argsort(kind="stable")[:n])
        return configurations[order], told[order]


def _added(seen: set[bytes], each: bytes) -> bool:
    """Whether it is new; it is among the seen afterwards."""
    new = each not in seen
    seen.add(each)
    return new


def propose(run: Any, space: Space, n: int, success: float | None = None, seed: int | None = None, key: int = 0):
    """`GenerativeSimulation.propose` of a trained run: another `key` proposes others."""
    return run.algorithm.propose(run.state(seed), run.spec, space, jax.random.key(key), n, success)
