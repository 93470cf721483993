"""MT-BC, MT-IQL and Prompt-DT: the prompt, and nothing else, tells which of two opposite actions is right."""

import functools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import reverie
from reverie.baselines import MTBC, MTIQL, PromptDT
from reverie.baselines.prompt_dt import After
from reverie.data import Dataset, join_tasks
from reverie.errors import ReverieError
from reverie.planning.tasks import step_tasks
from reverie.wishes import resolve

act = jax.jit(lambda algorithm, *arguments: algorithm.act(*arguments), static_argnums=0)
STEPS = 4


def going(sign: float, paid: float, episodes: int = 40, seed: int = 0) -> Dataset:
    """Random places, from which the point goes to one side, for `paid` a step."""
    rng = np.random.default_rng(seed)
    seen = rng.uniform(-1, 1, (episodes * STEPS, 2))
    actions = np.full((len(seen), 1), 0.5 * sign)
    last = np.arange(len(seen)) % STEPS == STEPS - 1
    rewards = np.full(len(seen), paid)
    ends = {"terminals": np.zeros(len(seen)), "timeouts": last, "next_observations": seen}
    return Dataset.from_arrays(seen, actions, rewards, **ends, action_low=-1, action_high=1)


DATA = join_tasks({"left": going(-1, 1.0), "right": going(1, 10.0, seed=1)})
SMALL = {"prompt_steps": 3, "batch_size": 32, "learning_rate": 1e-2}
BC = MTBC(**SMALL, hidden=(16,), features=8)
DT = PromptDT(**SMALL, context=2, width=16, depth=1, timesteps=STEPS, warmup_updates=20, gradient_clip=1.0)
IQL = MTIQL(**SMALL, hidden=(16,), critic_hidden=(16,))
METHODS = [BC, IQL, replace(BC, told="prompt"), DT]


@pytest.fixture(scope="module", params=METHODS, ids=["one-hot", "mt-iql", "prompt", "prompt-dt"])
def run(request):
    return reverie.fit(request.param, DATA, steps=200, progress=False)


def played(run, n: int, **wishes):
    """Actions in n places of environments that are asked for a task each."""
    algorithm = run.algorithm
    known = algorithm.wishes(run.spec)
    asked = resolve(algorithm.name, known, wishes, n)
    seen = jnp.asarray(np.random.default_rng(5).uniform(-1, 1, (n, 2)), jnp.float32)
    feedback = {"reward": jnp.zeros(n)}
    carry = algorithm.reset(run.spec, n, asked)
    action, carry = act(algorithm, run.state(0), run.spec, seen, carry, feedback, jax.random.key(0))
    return np.asarray(action)[:, 0], carry


def test_the_task_alone_turns_the_action_round(run):
    """By its name or its number, each environment its own."""
    names = ["left", "right"] * 10
    by_name, _ = played(run, 20, task=names)
    assert (np.sign(by_name) == np.tile([-1, 1], 10)).all()
    np.testing.assert_allclose(np.abs(by_name), 0.5, atol=0.2)
    by_number, _ = played(run, 20, task=[0, 1] * 10)
    np.testing.assert_array_equal(by_name, by_number)
    swapped, _ = played(run, 20, task=names[::-1])
    assert (np.sign(swapped) == -np.sign(by_name)).all()


def test_a_demonstration_of_ones_own_tells_it_too():
    rng = np.random.default_rng(9)
    own = np.concatenate([rng.uniform(-1, 1, (3, 2)), np.full((3, 1), 0.5)], 1)
    for algorithm in METHODS[2:]:
        run = reverie.fit(algorithm, DATA, steps=200, progress=False)
        assert (played(run, 5, task=own)[0] > 0).all()
        assert (played(run, 5, task=own * [1, 1, -1])[0] < 0).all()
    with pytest.raises(ReverieError, match=r"shape"):
        played(run, 5, task=own[:, :2])


def test_the_one_hot_has_no_demonstrations_to_be_told_by():
    _, spec = BC.prepare(DATA)
    with pytest.raises(ReverieError, match="'up' is none of 0 to 1, or by name 'left', 'right'"):
        resolve("mt-bc", BC.wishes(spec), {"task": "up"}, 1)


def test_demonstrations_are_not_trained_on_and_batches_are_balanced():
    uneven = join_tasks({"left": going(-1, 1.0, 10), "right": going(1, 10.0, 70, seed=1)})
    for algorithm in (BC, IQL, DT):
        view, spec = algorithm.prepare(uneven)
        batch = view.draw(jax.random.key(0), 100)
        assert np.bincount(np.asarray(batch["task"])).tolist() == [50, 50]
        hidden = set(np.flatnonzero(step_tasks(uneven, spec) < 0).tolist())
        assert len(hidden) == 2 * STEPS and not hidden & set(np.asarray(view.members).tolist())


def test_returns_are_in_units_of_each_tasks_own():
    """4 of the one and 40 of the other are both 1, and rewards that come in count by the task's scale."""
    view, spec = DT.prepare(DATA)
    batch = view.draw(jax.random.key(0), 200)
    to_go = spec.denormalise("returns_to_go", batch["returns_to_go"].reshape(-1, 1)).reshape(batch["mask"].shape)
    first = np.asarray(batch["timesteps"])[:, 0] == 0
    np.testing.assert_allclose(np.asarray(to_go)[first, 0], 1.0, atol=1e-5)
    wish = DT.wishes(spec)
    np.testing.assert_allclose(resolve("it", wish, {"task": ["left", "right"]}, 2)["target_return"], 1.0)
    assert wish["target_return"].high == pytest.approx(1.0)
    prompts = jnp.concatenate([DT.first_prompts(spec), DT.first_prompts(spec)[:1] + 0.1])
    np.testing.assert_allclose(DT.scale_of(spec, prompts), [4, 40, 40])


def test_what_is_paid_lowers_what_is_to_come_by_its_share():
    _, spec = DT.prepare(DATA)
    state = DT.init(jax.random.key(0), spec)
    carry = DT.reset(spec, 2, {"task": DT.first_prompts(spec), "target_return": jnp.ones(2)})
    seen = jnp.zeros((2, 2))
    for paid in (0.0, 2.0):
        feedback = {"reward": jnp.full(2, paid)}
        _, carry = act(DT, state, spec, seen, carry, feedback, jax.random.key(0))
    np.testing.assert_allclose(carry.history.received["returns_to_go"], [0.5, 0.05], rtol=1e-6)
    again = DT.rewish(carry, {"task": DT.first_prompts(spec)[::-1]})
    np.testing.assert_array_equal(again.prompt, carry.prompt[::-1])
    np.testing.assert_array_equal(again.history.target["returns_to_go"], [1, 1])


def test_by_default_the_best_return_of_the_task_is_asked_for():
    """Where all are below 0, none has a share of 1: the best of -4 and -8 has -0.5."""
    losing = going(-1, -1.0, 10)
    losing = replace(losing, rewards=np.repeat([-2.0, -1.0], len(losing) // 2).astype(np.float32))
    _, spec = DT.prepare(join_tasks({"left": losing, "right": going(1, 10.0, seed=1)}))
    asked = resolve("it", DT.wishes(spec), {"task": ["right", "left"]}, 2)
    np.testing.assert_allclose(asked["target_return"], [1.0, -0.5])
    own = resolve("it", DT.wishes(spec), {"task": np.zeros((3, 3))}, 1)
    np.testing.assert_allclose(own["target_return"], 0.25)


def test_prompts_are_the_last_steps_of_the_demonstration():
    _, spec = DT.prepare(DATA)
    shown = DT.in_network_units(spec, DT.first_prompts(spec))
    drawn = DT.prompts(spec).draw(jax.random.key(0), jnp.tile(jnp.arange(2), 50))
    np.testing.assert_array_equal(drawn, jnp.tile(shown, (50, 1, 1)))
    kept = spec.kept["prompts"]["observations"]
    np.testing.assert_array_equal(DT.first_prompts(spec)[..., :2], [kept[1:4], kept[5:8]])


ROWS = np.random.default_rng(0).normal(size=(1, 5, 4)).astype(np.float32)
"""Three steps of a prompt and two of a history: return, observation, action."""


@functools.cache
def reading():
    """The network, and what it makes of the history after the prompt."""
    _, spec = DT.prepare(DATA)
    read = DT.init(jax.random.key(0), spec).actor.params
    to_go, seen, done = ROWS[..., 0], ROWS[..., 1:3], ROWS[..., 3:]
    after = After(read, ROWS[:, :3, 1:])
    return read, after([to_go[:, 3:]], seen[:, 3:], done[:, 3:], jnp.array([[3, 0]]))


def test_a_prompt_is_read_before_the_history_by_an_embedding_of_its_own():
    read, found = reading()
    net, own = read.net.steps, read.prompt
    by_step = [own.embed[0](ROWS[:, :3, 1:3]) + own.times[:3], own.embed[1](ROWS[:, :3, 3:]) + own.times[:3]]
    numbers = net.times[jnp.array([3, 0])]
    parts = (ROWS[:, 3:, :1], ROWS[:, 3:, 1:3], ROWS[:, 3:, 3:])
    history = [embed(part) + numbers for embed, part in zip(net.embed, parts, strict=True)]
    tokens = [jnp.stack(each, -2).reshape(1, -1, 16) for each in (by_step, history)]
    out = net.transformer(net.norm(jnp.concatenate(tokens, 1)))
    np.testing.assert_allclose(found, jnp.tanh(read.net.head(out[:, [7, 10]])), atol=1e-6)


def test_a_prompt_is_not_taken_for_a_longer_history():
    """As it was where one embedding was for both: these are the prompt's steps as a history without returns."""
    read, found = reading()
    net = getattr(read, "net", read)
    to_go = np.where(np.arange(5) < 3, 0, ROWS[..., 0])
    longer = net([to_go], ROWS[..., 1:3], ROWS[..., 3:], jnp.array([[0, 1, 2, 3, 0]]))[:, 3:]
    assert np.abs(found - longer).max() > 0.01


def test_every_network_of_a_policy_for_several_tasks_sees_which_it_is():
    """Beside the observation, also of the next step; what is observed stays what the environment shows."""
    view, spec = IQL.prepare(DATA)
    batch = view.draw(jax.random.key(0), 8)
    told = np.asarray(DATA.infos["task"])[np.asarray(batch["index"])]
    for name in ("observations", "next_observations"):
        np.testing.assert_array_equal(batch[name][:, 2:], np.eye(2)[told])
    assert spec.observation_dim == 2
    state = jax.eval_shape(lambda spec: IQL.init(jax.random.key(0), spec), spec)
    first = {leaf.shape[-2] for leaf in jax.tree.leaves(state.critic.q.target) if leaf.ndim == 3}
    assert 2 + 2 + 1 in first
