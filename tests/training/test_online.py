"""Online training: what is counted, what batches are made of, what goes on after a stop, and whether agents learn."""

from dataclasses import dataclass, fields, replace
from functools import partial
from typing import ClassVar

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_algorithm import TinyExplorer

import reverie
from reverie.baselines import BC, SAC, TD3BC
from reverie.cli import main
from reverie.data import Dataset, Transitions
from reverie.errors import DivergenceError, ReverieError, RunError
from reverie.learning import Stage
from reverie.models import Bootstraps
from reverie.training import Online, Synthesis, fit_online
from reverie.training.beside import roomy

SMALL = {"hidden": (8,), "critic_hidden": (8,), "batch_size": 16}
SHORT = {"warmup": 20, "update_interval": 10, "log_every": 20, "capacity": 100, "progress": False}


class Aim(gymnasium.Env):
    """Episodes of 5 steps, cut: sees a number, and is rewarded by how near to half of it the action is."""

    observation_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)
    action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)

    def _look(self):
        self.seen = self.np_random.uniform(-1, 1, 1).astype(np.float32)
        return self.seen

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return self._look(), {}

    def step(self, action):
        self.steps += 1
        reward = -abs(float(action[0]) - float(self.seen[0]) / 2)
        return self._look(), reward, False, self.steps == 5, {}


class Ruin(Aim):
    def step(self, action):
        seen, _, *rest = super().step(action)
        return seen, 3e37 * self.steps, *rest


@dataclass(frozen=True)
class Watching(SAC):
    """Tells how much of its batches is synthetic, and of which age."""

    def update(self, state, batch, key):
        state, metrics = super().update(state, batch, key)
        made = batch["rewards"] > 500
        return state, metrics | {"share": made.mean(), "age": jnp.where(made, batch["rewards"] - 1000, 0).max()}


@dataclass(frozen=True)
class Remembering(SAC):
    """Tells the least reward of a batch that is large enough to hold every row."""

    batch_size: int = 500

    def update(self, state, batch, key):
        state, metrics = super().update(state, batch, key)
        return state, metrics | {"least": batch["rewards"].min()}


@dataclass(frozen=True)
class Marking:
    """Learns nothing and makes rows whose reward is 1000 + the number of rows that it was shown."""

    name: ClassVar = "marking"
    role: ClassVar = "synthesizer"
    batch_size: int = 4

    def prepare(self, data, spec=None):
        view, spec = BC().prepare(data, spec)
        return view, replace(spec, kept={"rows": jnp.asarray(len(data))})

    def init(self, key, spec):
        return {"rows": spec.kept["rows"]}

    def update(self, state, batch, key):
        return state, {"nothing": jnp.zeros(())}

    def chunks(self, state, spec, key, n, start=0):
        rewards = np.full(n, 1000 + float(state["rows"]))
        zeros = np.zeros((n, 1))
        yield Dataset.from_arrays(zeros, zeros, rewards, np.ones(n), next_observations=zeros)


def same(one, other) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True))


def test_an_agent_learns_to_aim():
    """The mean distance from the best action after 1500 steps: below 0.1, where a random agent's is 0.54."""
    agent = SAC(hidden=(32, 32), critic_hidden=(32, 32), batch_size=64, learning_rate=3e-3, discount=0.5)
    run = fit_online(agent, Aim, steps=1500, warmup=300, update_interval=50, log_every=300, progress=False)
    seen = jnp.linspace(-1, 1, 21)[:, None]
    action, _ = agent.act(run.state(), run.spec, seen, (), {}, jax.random.key(0))
    assert np.abs(action[:, 0] - seen[:, 0] / 2).mean() < 0.1
    returns = run.metrics()["return"]
    assert returns[-1] > returns[0]


def test_steps_updates_and_episodes_are_counted():
    """100 steps of 2 environments, 20 of them random, 3 updates a step; an episode is 5 steps of one environment."""
    run = fit_online(SAC(**SMALL), Aim, steps=100, utd_ratio=3.0, envs=2, seeds=2, **SHORT)
    metrics = run.metrics()
    np.testing.assert_array_equal(metrics["step"], np.repeat([40, 60, 80, 100], 2))
    np.testing.assert_array_equal(
        metrics["episodes"], np.repeat([8, 4, 4, 4], 2)
    )  # the first row counts the random ones
    assert run.step == 100
    for history in run.histories:
        data = history.dataset()
        assert len(data) == 100
        np.testing.assert_array_equal(np.diff(data.episodes), 5)
        np.testing.assert_allclose(data.rewards, -np.abs(data.actions - data.observations / 2)[:, 0], atol=1e-6)
    counts = [leaf for leaf in jax.tree.leaves(run.states.critic.online.moments) if leaf.dtype == jnp.int32]
    np.testing.assert_array_equal(counts[0], 3 * 80)


def test_a_seed_is_the_same_alone_and_in_company():
    together = fit_online(SAC(**SMALL), Aim, steps=60, seeds=2, seed=4, **SHORT)
    alone = fit_online(SAC(**SMALL), Aim, steps=60, seed=5, **SHORT)
    assert same(together.state(5), alone.state(5))
    assert not same(together.state(4), alone.state(5))
    assert together.histories[1].dataset().fingerprint == alone.histories[0].dataset().fingerprint


def test_a_share_of_each_batch_is_synthetic_and_made_anew_from_all_that_was_seen():
    """A quarter of each batch; a fresh synthesizer every 40 steps, from as many rows as there are then. Before 40 there
    is none, though the warm-up is over at 20."""
    synthesis = Synthesis(interval=40, updates=2, rows=50, ratio=0.25)
    run = fit_online(Watching(**SMALL), Aim, steps=120, synthesizer=Marking(), synthesis=synthesis, **SHORT)
    metrics = run.metrics()
    np.testing.assert_array_equal(metrics["step"], [40, 60, 80, 100, 120])
    np.testing.assert_array_equal(metrics["share"], [0, 0.25, 0.25, 0.25, 0.25])
    np.testing.assert_array_equal(metrics["age"], [0, 40, 40, 80, 80])


@dataclass(frozen=True)
class Bootstrapping(Marking):
    """Draws rows by MBPO's view, one for each of two members, and tells how many there were."""

    def prepare(self, data, spec=None):
        view, spec = super().prepare(data, spec)
        return Bootstraps(view, jnp.tile(jnp.arange(len(view)), (2, 1))), spec

    def update(self, state, batch, key):
        assert batch["actions"].shape == (4, 2, 1)
        return super().update(state, batch, key)


def test_a_synthesizer_that_draws_its_batches_in_a_way_of_its_own_learns_online_too():
    """At 20 and at 40 steps, from so many rows."""
    synthesis = Synthesis(interval=20, updates=2, rows=20)
    run = fit_online(Watching(**SMALL), Aim, steps=60, synthesizer=Bootstrapping(), synthesis=synthesis, **SHORT)
    np.testing.assert_array_equal(run.metrics()["age"], [20, 40])


def test_what_a_synthesizer_learns_from_is_every_row_with_room_for_more_or_without():
    """Of 6 rows, where the replay has room for 8 and where it has for 4."""
    rows = {"actions": jnp.arange(6.0)[:, None]}
    for capacity, size in ((8, 8), (4, 6)):
        view, own = roomy(Transitions(rows), capacity)
        view = view.joined(jax.tree.map(lambda x: x[0], own)) if own else view
        assert len(view.rows["actions"]) == size
        assert set(view.draw(jax.random.key(0), 500)["actions"][:, 0].tolist()) == set(range(6))


def test_a_replay_with_less_room_than_the_warm_up_holds_its_newest_steps():
    """20 random steps into room for 8, then 10 more."""
    run = fit_online(
        Remembering(hidden=(8,), critic_hidden=(8,)), Aim, steps=40, **SHORT | {"capacity": 8, "warmup": 20}
    )
    seen = run.histories[0].dataset().rewards
    np.testing.assert_allclose(run.metrics()["least"], [np.mean([seen[12:20].min(), seen[22:30].min()])], rtol=1e-6)


def test_training_stops_when_the_returns_have_reached_what_was_asked_for():
    run = fit_online(SAC(**SMALL), Aim, steps=1000, until=-1000.0, **SHORT)
    assert run.step == 100  # 20 episodes of 5 steps
    assert run.metrics()["step"][-1] == 100


def test_a_run_goes_on_with_its_replay(tmp_path):
    out = tmp_path / "run"
    before = fit_online(SAC(**SMALL), Aim, steps=60, out=out, **SHORT)
    with pytest.raises(RunError, match="already holds a run; go on with it by resume=True"):
        fit_online(SAC(**SMALL), Aim, steps=100, out=out, **SHORT)
    with pytest.raises(RunError, match="begun with algorithm = "):
        fit_online(SAC(hidden=(9,), batch_size=16), Aim, steps=100, out=out, resume=True, **SHORT)
    with pytest.raises(RunError, match="at step 60, past steps=40"):
        fit_online(SAC(**SMALL), Aim, steps=40, out=out, resume=True, **SHORT)
    after = fit_online(SAC(**SMALL), Aim, steps=100, out=out, resume=True, **SHORT)
    np.testing.assert_array_equal(after.metrics()["step"], [40, 60, 80, 100])
    old, new = before.histories[0].dataset(), after.histories[0].dataset()
    np.testing.assert_array_equal(new.observations[:60], old.observations)
    assert len(new) == 100
    assert [each.name for each in (out / "replay").iterdir()] == ["100"]
    assert same(reverie.load(out).states, after.states)


def test_a_run_that_may_not_go_on_stays_as_it_is(tmp_path):
    """With other seeds, elsewhere, to fewer steps than it has made, or where its replay cannot be read."""
    out = tmp_path / "run"
    go_on = partial(fit_online, TinyExplorer(), steps=40, out=out, resume=True, **SHORT)
    go_on(Aim)
    config = (out / "config.json").read_bytes()
    for how, message in (
        ({"env": Aim, "seed": 1}, r"begun with seeds = \[0\] and not \[1\]"),
        ({"env": Aim, "seeds": 2}, r"begun with seeds = \[0\] and not \[0, 1\]"),
        ({"env": "Pendulum-v1"}, "begun with environment = None and not Pendulum-v1"),
        ({"env": Aim, "steps": 30}, "at step 40, past steps=30"),
    ):
        with pytest.raises(RunError, match=message):
            go_on(**how)
        assert (out / "config.json").read_bytes() == config
    (out / "replay" / "40" / "0.hdf5").write_bytes(b"")
    with pytest.raises(ReverieError):
        go_on(Aim, steps=60)
    assert (out / "config.json").read_bytes() == config


def test_a_loss_that_is_not_finite_stops_the_run():
    with pytest.raises(DivergenceError, match=r"q\w* became (inf|nan) at update \d+ of seed 0.*--rewards"):
        fit_online(SAC(**SMALL), Ruin, steps=60, **SHORT)


def test_a_ratio_may_be_any_that_makes_whole_updates_whatever_its_binary_fraction_is():
    """0.58 times 50 is 28.999... in floating point."""
    assert Online(steps=10_000, utd_ratio=0.58).updates == 29


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"steps": 0}, "steps = 0, but it must be a whole number of at least 1"),
        ({"steps": 100, "envs": 3}, "update_interval=10 steps do not divide among envs=3"),
        ({"steps": 105}, "steps=105 must be a multiple of update_interval=10"),
        ({"steps": 20}, "warmup=20 must be at least update_interval=10 and below steps=20"),
        (
            {"steps": 100, "utd_ratio": 0.25},
            "utd_ratio=0.25 times update_interval=10 must be a whole number",
        ),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, message):
    with pytest.raises(ReverieError, match=message):
        fit_online(SAC(**SMALL), Aim, **SHORT | settings)


def test_a_misspelt_setting_is_refused():
    known = [each.name for each in fields(Online) if each.name != "steps"]
    with pytest.raises(RunError, match=f"fit_online has no setting 'utd'; it has {', '.join(known)}"):
        fit_online(SAC(**SMALL), Aim, steps=100, utd=2, **SHORT)


def test_methods_of_another_kind_are_refused():
    with pytest.raises(RunError, match=r"td3-bc learns from a data set; .*\bsac\b.* learn online"):
        fit_online(TD3BC(), Aim, steps=100, **SHORT)
    with pytest.raises(RunError, match="td3-bc is a baseline and generates no data; use synther"):
        fit_online(SAC(), Aim, steps=100, synthesizer=TD3BC(), **SHORT)


def test_methods_of_several_stages_are_refused():
    first, then = (Stage(lambda state, batch, key: (state, {}), updates) for updates in (5, None))

    @dataclass(frozen=True)
    class Staged(TinyExplorer):
        name: ClassVar = "staged"
        stages: ClassVar = (first, then)

    @dataclass(frozen=True)
    class StagedMarking(Marking):
        name: ClassVar = "staged-marking"
        stages: ClassVar = (first, then)

    with pytest.raises(RunError, match="staged learns in 2 stages, for which data must be there at once; use `fit`"):
        fit_online(Staged(), Aim, steps=100, **SHORT)
    with pytest.raises(RunError, match="staged-marking learns in 2 stages"):
        fit_online(TinyExplorer(), Aim, steps=100, synthesizer=StagedMarking(), **SHORT)


@pytest.mark.slow
def test_the_command_line_trains_goes_on_and_evaluates(tmp_path, capsys):
    """With a synthesizer, whose own fields have its name before them."""
    out = str(tmp_path / "run")
    sizes = [
        "--hidden",
        "8",
        "--critic-hidden",
        "8",
        "--batch-size",
        "16",
        "--warmup",
        "20",
        "--update-interval",
        "10",
        "--log-every",
        "20",
    ]
    made = ["--synthesizer", "synther", "--synthesizer.width", "16", "--synthesizer.blocks", "1"]
    made += ["--synthesizer.nfe", "3", "--synthesizer.chunk", "50", "--synthesis.updates", "2"]
    made += ["--synthesis.rows", "50", "--synthesis.interval", "40"]
    assert main(["online", "sac", "--env", "Pendulum-v1", "--steps", "60", "--out", out, *sizes, *made]) == 0
    assert "60 environment steps of 1 seed(s)" in capsys.readouterr().out
    assert main(["train", "--resume", out, "--steps", "80"]) == 0
    assert len(reverie.load_dataset(f"d4rl:{out}/replay/80/0.hdf5")) == 80
    assert main(["eval", out, "--env", "Pendulum-v1", "--episodes", "1", "--max-steps", "3"]) == 0
    assert main(["online", "sac", "--env", "CartPole-v1", "--steps", "60", "--out", out + "2", *sizes]) == 2
    assert "CartPole-v1 has actions Discrete(2)" in capsys.readouterr().err
    assert main(["online", "--env", "Pendulum-v1"]) == main(["online"]) == 2
    assert "online needs the name of an algorithm first, such as sac" in capsys.readouterr().err
