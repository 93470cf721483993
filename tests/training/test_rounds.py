"""Training on policy: what a round is, what is recorded of it, and what such a method is not told."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_algorithm import TinyExplorer, synthetic

import reverie
from reverie.cli import main
from reverie.data import Gaussian, Spec, transitions
from reverie.errors import RunError
from reverie.training import Rounds, fit_online

SHORT = {"warmup": 20, "update_interval": 20, "log_every": 20, "envs": 2, "progress": False}


class Count(gymnasium.Env):
    """Sees the number of its step since it was made; episodes of 3 and 4 steps in turn, ended and cut."""

    observation_space = gymnasium.spaces.Box(-1e3, 1e3, (1,), np.float32)
    action_space = gymnasium.spaces.Box(-10, 10, (1,), np.float32)
    total = -1

    def _look(self):
        self.total += 1
        return np.full(1, self.total, np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps, self.long = 0, not getattr(self, "long", True)
        return self._look(), {}

    def step(self, action):
        self.steps += 1
        ended, cut = self.steps == 3 and not self.long, self.steps == 4
        return self._look(), float(self.steps), ended, cut, {}


@dataclass(frozen=True)
class Recording:
    """Acts by the number of its round; tells whether rounds are what they should be."""

    name: ClassVar[str] = "recording"
    role: ClassVar[str] = "policy"
    paper: ClassVar[str] = "none"
    needs: ClassVar[tuple[str, ...]] = ("rewards",)

    batch_size: int = 4

    def prepare(self, data, spec=None):
        spec = spec or Spec.fit(data, observations=Gaussian)
        return transitions(data, spec), spec

    def init(self, key, spec):
        return {"round": jnp.zeros(()), "mean": spec.normalisers["observations"].mean, "noise": jnp.zeros(())}

    @property
    def exploring(self):
        return self

    def reset(self, spec, n, wishes):
        return {"since": jnp.zeros(n), "rewards": jnp.zeros(n), "secret": jnp.zeros((n, 3))}

    def act(self, state, spec, observation, carry, feedback, key) -> Any:
        n = len(observation)
        carry = carry | {"since": carry["since"] + 1, "rewards": carry["rewards"] + feedback["reward"]}
        return jnp.full((n, 1), state["round"]), carry

    def recorded(self, carry):
        return {"since": carry["since"], "earned": carry["rewards"]}

    def update(self, state, batch, key):
        steps, since = batch["observations"], batch["since"]
        ends = jnp.maximum(batch["terminals"], batch["timeouts"])
        wrong = {
            "columns": set(batch) != {*self.columns, "since", "earned"},
            "shape": any(x.shape[:2] != (10, 2) for x in batch.values()),
            "age": (batch["actions"] != state["round"]).any(),
            "order": (jnp.diff(steps, axis=0) <= 0).any(),
            "carry": (since[1:] != jnp.where(ends[:-1], 1, since[:-1] + 1)).any(),
            "reward": (since != batch["rewards"]).any(),
            "earned": (batch["earned"] != since * (since - 1) / 2).any(),
            "ended": (batch["terminals"] * (batch["rewards"] != 3)).any(),
            "cut": (batch["timeouts"] * (batch["rewards"] != 4)).any(),
            "endless": (ends.sum() < 4) | (batch["terminals"].sum() < 2),
        }
        noise = state["noise"] + jax.random.uniform(key)
        state = state | {"round": state["round"] + 1, "noise": noise}
        return state, {name: jnp.asarray(x, jnp.float32) for name, x in wrong.items()}

    columns: ClassVar = ("observations", "actions", "rewards", "next_observations", "terminals", "timeouts")


@dataclass(frozen=True)
class Going(Recording):
    """Begins from a counter, always, and goes on from its count in its units."""

    name: ClassVar[str] = "going"
    begins_from: ClassVar[str] = "recording"

    def init_from(self, key, spec, other, state):
        return state | {"round": state["round"] + 100}


@dataclass(frozen=True)
class Wide(Going):
    def init_from(self, key, spec, other, state):
        return state | {"mean": jnp.zeros(2)}


@pytest.fixture(scope="module")
def first():
    return fit_online(Recording(), Count, steps=80, seeds=2, **SHORT)


def test_a_round_is_all_that_the_present_policy_did_in_the_order_of_time_with_what_it_recorded(first):
    metrics = first.metrics()
    np.testing.assert_array_equal(metrics["step"], np.repeat([40, 60, 80], 2))
    for name in ("columns", "shape", "age", "order", "carry", "reward", "earned", "ended", "cut", "endless"):
        np.testing.assert_array_equal(metrics[name], 0, name)
    assert (first.states["round"] == 3).all()
    for history in first.histories:
        assert len(history.dataset()) == 80


@pytest.mark.bits
def test_a_seed_is_the_same_alone_and_in_company(first):
    alone = fit_online(Recording(), Count, steps=80, seed=1, **SHORT)
    assert first.state(1)["noise"] == alone.state(1)["noise"] != first.state(0)["noise"]


def test_a_run_goes_on_with_the_number_of_its_round(tmp_path):
    out = tmp_path / "run"
    fit_online(Recording(), Count, steps=60, out=out, **SHORT)
    run = fit_online(Recording(), Count, steps=80, out=out, resume=True, **SHORT)
    assert run.states["round"] == 3
    np.testing.assert_array_equal(run.metrics()["step"], [40, 60, 80])
    np.testing.assert_array_equal(run.metrics()["age"], 0)
    assert len(run.histories[0].dataset()) == 80
    assert not list(out.rglob("rows.npz"))
    # The same key as of an update in an uninterrupted run.
    through = fit_online(Recording(), Count, steps=80, **SHORT)
    np.testing.assert_allclose(run.states["noise"], through.states["noise"], rtol=1e-6)


def test_a_method_that_goes_on_in_the_units_of_another_s_run_needs_one_and_acts_at_once(first, tmp_path):
    one = replace(first, seeds=first.seeds[:1], states=jax.tree.map(lambda leaf: leaf[:1], first.states))
    with pytest.raises(RunError, match=r"going begins from recording; give it by initial= \(--initial\)\."):
        fit_online(Going(), Count, steps=40, out=tmp_path / "none", **SHORT)
    out = tmp_path / "run"
    fit_online(Going(), Count, steps=40, initial=one, out=out, **SHORT)
    run = fit_online(Going(), Count, steps=60, out=out, resume=True, **SHORT)
    assert run.states["round"] == 105
    for mine, theirs in zip(jax.tree.leaves(run.spec), jax.tree.leaves(first.spec), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    np.testing.assert_array_equal(run.histories[0].dataset().actions[:10, 0], 10)  # 103, within the bounds
    with pytest.raises(RunError, match="other sizes than those of this going"):
        fit_online(Wide(), Count, steps=40, initial=one, **SHORT)


def test_what_has_no_meaning_on_policy_is_refused(tmp_path, capsys):
    for name, value in (("utd_ratio", 1.0), ("capacity", 100)):
        with pytest.raises(RunError, match=f"recording makes one update of each round .* leave {name} out"):
            fit_online(Recording(), Count, steps=40, **SHORT | {name: value})
    with pytest.raises(RunError, match="recording learns from what its present policy does, and not from what tiny"):
        fit_online(Recording(), Count, steps=40, synthesizer=Making(), **SHORT)
    with pytest.raises(RunError, match=r"recording learns from what its own policy does, .*\(reverie online"):
        reverie.fit(Recording(), synthetic(), steps=1)
    with pytest.raises(SystemExit):
        main(["online", "ppo", "--env", "Pendulum-v1", "--steps", "4096", "--utd-ratio", "1"])
    assert "--utd-ratio" in capsys.readouterr().err


@dataclass(frozen=True)
class Making(TinyExplorer):
    name: ClassVar[str] = "tiny-making"

    def chunks(self, state, spec, key, n, start=0):
        yield from ()


def test_a_round_has_a_length_of_its_own_by_default():
    online = Rounds(steps=4096)
    assert (online.warmup, online.update_interval, online.log_every, online.updates) == (2048, 2048, 2048, 1)
