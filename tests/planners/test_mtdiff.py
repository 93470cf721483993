"""MTDiff-p: what the prompt and the return do, exactly and learned; how a task is told in acting and in evaluation."""

from dataclasses import replace
from functools import partial
from typing import ClassVar

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import reverie
from reverie.data import Dataset, join_tasks
from reverie.data.host import on_host
from reverie.diffusion import sample
from reverie.errors import DataError, ReverieError, RunError
from reverie.planners import MTDiffPlanner
from reverie.planners.mtdiff import Told, returns_told
from reverie.planning.chunks import Overlap
from reverie.planning.tasks import RANGES, mean_rewards_to_go, step_tasks
from reverie.realtime import RealTimeLoop
from reverie.wishes import resolve

TINY = MTDiffPlanner(
    horizon=4, action_horizon=1, width=16, heads=2, depth=1, diffusion_steps=5, prompt_steps=3, batch_size=16,
    learning_rate=3e-3, ema_start=0, ema_decay=0.9, ema_every=1,
)  # fmt: skip
KEY = jax.random.key(0)


def single(sign: float, episodes: int = 6) -> Dataset:
    """Episodes of eight steps anywhere on a line; the action is the sign's, for which a third of them is paid."""
    rng = np.random.default_rng(int(sign > 0))
    steps = 8 * episodes
    seen = rng.uniform(-1, 1, (steps, 1))
    actions = sign * rng.uniform(0.5, 1.0, (steps, 1))
    last = np.arange(steps) % 8 == 7
    rewards = np.repeat(np.arange(episodes) % 3 == 0, 8).astype(np.float32)
    return Dataset.from_arrays(seen, actions, rewards, np.zeros(steps), last, action_low=-1, action_high=1)


DATA = join_tasks({"left": single(-1.0), "right": single(1.0)})


@pytest.fixture(scope="module")
def run():
    return reverie.fit(TINY, DATA, steps=300, progress=False)


@partial(jax.jit, static_argnums=0)
def chosen(method, net, spec, wishes, seen, key):
    carry = method.reset(spec, len(seen), wishes)
    return method.choose(Told(net, carry.told), spec, seen, Overlap(carry.rows, carry.chosen > 0, carry.rows), key)


N = 100


def chunks(run, key=KEY, **changes):
    """Chosen from N observations, `[N, horizon, action]`. All tests ask for the same few, which are compiled once."""
    run = run.acting(**changes)
    wishes = resolve("it", run.wishes, {"task": 0, "target_return": 0.5, **run.asked}, N)
    return np.asarray(chosen(run.algorithm, run.state().denoiser_ema, run.spec, wishes, HISTORIES, key))


HISTORIES = jnp.tile(jnp.linspace(-1, 1, N)[:, None, None], (1, 2, 1))
"""Of two observations, which are alike."""


def test_permuted_prompts_give_permuted_chunks(run):
    net, spec = run.state().denoiser_ema, run.spec
    prompts = TINY.prompts(spec).draw(KEY, jnp.array([0, 1, 0, 1]))
    x, seen = jnp.ones((4, 4, 1)), jnp.full((4, 2, 1), 0.3)
    returns = jnp.ones((4, 1, 2))
    order = jnp.array([2, 0, 3, 1])
    denoise = jax.jit(lambda prompts: TINY.process.denoise(net, x, 0.5, (prompts, returns, seen)))
    here, there = denoise(prompts), denoise(prompts[order])
    np.testing.assert_allclose(here[order], there, atol=1e-5)
    assert np.abs(np.asarray(here[0] - here[1])).max() > 1e-3


@partial(jax.jit, static_argnums=0)
def unguided(method, net, prompt, returns, told, key):
    """Chunks of the network itself, by its own units."""
    shown = returns_told(jnp.full(N, returns), jnp.full(N, told))
    denoiser = method.process.denoiser(net, (prompt, shown, HISTORIES))
    return sample(method.process, denoiser, key, (N, 4, 1), nfe=5, clip_x0=(-1, 1))


def test_a_scale_of_1_is_the_conditional_model_and_0_does_not_know_the_return(run):
    net, prompt = run.state().denoiser_ema, TINY.prompts(run.spec).rows[:3]
    for scale in (1.0, 0.0):
        expected = unguided(TINY, net, prompt, 0.8, scale, KEY)
        np.testing.assert_allclose(chunks(run, guidance_scale=scale, target_return=0.8), expected, atol=1e-4)
    assert np.abs(chunks(run, target_return=0.8) - expected).max() > 1e-2


def test_only_the_return_is_ever_dropped(run):
    """Without it the prompt still counts."""
    one, other = (chunks(run, guidance_scale=0.0, task=task) for task in ("left", "right"))
    assert np.abs(one - other).max() > 1e-3
    batch = {"returns": jnp.linspace(0.1, 1, 4000), "observations": jnp.zeros((4000, 2, 1))}
    shown = np.asarray(TINY.given(batch, KEY)[0])
    told = shown[:, 0, 1]
    assert abs(told.mean() - TINY.told) < 4 * (0.8 * 0.2 / 4000) ** 0.5
    np.testing.assert_allclose(shown[:, 0, 0], told * batch["returns"], rtol=1e-6)


def test_it_is_deterministic_but_for_the_key_and_noise_has_a_scale(run):
    np.testing.assert_array_equal(chunks(run), chunks(run))
    assert np.abs(chunks(run) - chunks(run, key=jax.random.key(1))).max() > 1e-3
    assert np.abs(chunks(run) - chunks(run, noise_temperature=0.0)).max() > 1e-3


def test_returns_are_normalised_by_task_and_windows_told_theirs():
    view, spec = TINY.prepare(DATA)
    paid = replace(DATA, rewards=np.where(DATA.infos["task"] == 1, 50 * DATA.rewards - 3, DATA.rewards))
    other, theirs = TINY.prepare(paid)
    index = np.flatnonzero(step_tasks(DATA, spec) >= 0)
    told, again = (on_host(each).take(index)["returns"] for each in (view, other))
    np.testing.assert_allclose(told, again, atol=1e-5)
    np.testing.assert_allclose(told, mean_rewards_to_go(DATA, 0.99)[index], atol=1e-6)
    np.testing.assert_allclose(spec.kept[RANGES], [[0, 1], [0, 1]], atol=1e-6)
    np.testing.assert_allclose(theirs.kept[RANGES], [[0, 1], [-3, 47]], atol=1e-4)
    np.testing.assert_array_equal(view.sizes, [40, 40])


def test_by_default_what_the_best_of_the_task_s_episodes_has_at_its_start_is_asked_for():
    """The tasks' ranges are of all steps: where only an episode's last step is paid, none begins near the highest."""
    paid = np.where(DATA.last, np.where(DATA.infos["task"] == 1, 50 * DATA.rewards - 3, DATA.rewards), 0)
    data = replace(DATA, rewards=paid.astype(np.float32))
    view, spec = TINY.prepare(data)
    told, tasks = on_host(view).take(np.arange(len(data)))["returns"], step_tasks(data, spec)
    best = [told[starts].max() for starts in (data.episodes[:, 0][tasks[data.episodes[:, 0]] == i] for i in (0, 1))]
    assert max(best) < 0.2 and abs(best[0] - best[1]) > 0.01
    asked = resolve("it", TINY.wishes(spec), {"task": ["right", "left", "right"]}, 3)
    np.testing.assert_allclose(asked["target_return"], [best[1], best[0], best[1]], rtol=1e-5)
    own = resolve("it", TINY.wishes(spec), {"task": np.zeros((3, 2))}, 1)
    np.testing.assert_allclose(own["target_return"], np.mean(best), rtol=1e-5)


def test_the_first_action_weighs_more_and_padding_nothing():
    heavy = replace(TINY, action_weight=10.0, mask_padding=True)
    mask = jnp.array([[1.0, 1, 1, 0]])
    np.testing.assert_array_equal(heavy.weight({"mask": mask})[0, :, 0], [1, 10, 1, 0])


def test_the_task_and_the_return_may_change_in_an_episode(run):
    policy, seen = run.policy(), np.zeros(1, np.float32)
    carry = policy.reset(seed=1, task="left")
    one, other = policy.act(seen, carry)[0], policy.act(seen, policy.rewish(carry, task="right"))[0]
    again = policy.act(seen, policy.rewish(carry, task=0))[0]
    np.testing.assert_array_equal(one, again)
    assert abs(one - other) > 1e-4
    assert abs(one - policy.act(seen, policy.rewish(carry, target_return=0.0))[0]) > 1e-5
    key, own = policy.act(seen, carry)[1]
    for wish in ({"task": "right"}, {"target_return": 0.0}):
        # Of a chunk as long as all its actions nothing is left to be executed.
        np.testing.assert_array_equal(policy.rewish((key, own), **wish)[1].step, [TINY.horizon])


def test_a_loop_at_a_fixed_rate_serves_the_chunks_of_the_task_that_was_asked_for(run):
    policy = run.acting(task="left", action_horizon=2).policy()
    loop = RealTimeLoop(policy, lambda: np.zeros(1, np.float32), print, rate=10)
    assert loop.tick() < 0
    np.testing.assert_array_equal(loop._carry.told.prompt[0], TINY.first_prompts(run.spec)[0])


def test_what_it_cannot_be_told_is_said(run):
    with pytest.raises(ReverieError, match="mtdiff-p must be told task"):
        run.policy().reset()
    with pytest.raises(ReverieError, match="task = 'up' is none of 0 to 1, or by name 'left', 'right'"):
        run.policy().reset(task="up")
    with pytest.raises(ReverieError, match=r"task has shape \(20, 43\), and must be an array of shape \(3, 2\)"):
        run.policy().reset(task=np.zeros((20, 43)))
    with pytest.raises(DataError, match="'this data set' has no tasks"):
        TINY.prepare(single(1.0))
    with pytest.raises(RunError, match=r"observations that are vectors float32 .1., and those of the data are"):
        wide = join_tasks({"left": replace(DATA, observations=np.zeros((96, 5), np.float32))})
        reverie.fit(TINY, wide, steps=1, initial=run, progress=False)


class Sides(gymnasium.Env):
    """Tasks in turn, which it lists the other way round than the data; keeps its actions."""

    observation_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)
    action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)
    tasks, task_names, episode = 2, ("right", "left"), None
    sides: ClassVar[dict[str, list[float]]] = {}

    def reset(self, *, seed=None, options=None):
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.sides.setdefault(self.task_names[self.episode % 2], []).append(float(action[0]))
        return np.zeros(1, np.float32), 0.0, False, True, {"success": False}


def test_swapping_the_prompt_alone_flips_the_actions(run):
    """Both tasks have the same states. The prompts are of the held-out demonstrations."""
    for scale in (0.0, 1.2):
        acted = {task: chunks(run, task=task, guidance_scale=scale) for task in ("left", "right")}
        assert (acted["left"] < 0).mean() > 0.97
        assert (acted["right"] > 0).mean() > 0.97


def test_a_demonstration_of_one_s_own_is_followed(run):
    own = np.array([[0.1, 0.7], [-0.9, 0.6], [0.4, 0.9]], np.float32)
    assert (chunks(run, task=own) > 0).mean() > 0.97
    assert (chunks(run, task=own * [1, -1]) < 0).mean() > 0.97


def test_in_an_environment_of_several_tasks_each_episode_is_told_its_own(run):
    Sides.sides = {}
    scores = reverie.evaluate(run, Sides, episodes=6, progress=False)
    assert scores.tasks == 2 and scores.policy == "mtdiff-p"
    assert (np.array(Sides.sides["left"]) < 0).all() and (np.array(Sides.sides["right"]) > 0).all()
    Sides.sides = {}
    reverie.evaluate(run.acting(task="left"), Sides, episodes=6, progress=False)
    assert (np.array(Sides.sides["right"]) < 0).all()
