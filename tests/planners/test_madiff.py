"""MADiff: which agents know of one another, and that they plan as one, or as if each were alone."""

from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import reverie
from reverie.data import Dataset
from reverie.data.agents import join
from reverie.errors import DataError, ReverieError
from reverie.networks.agents import JointUNet
from reverie.planners import DecisionDiffuser, MADiff
from reverie.planners.madiff import own_parts
from reverie.wishes import resolve

TINY = {"horizon": 2, "width": 8, "multipliers": (1,), "diffusion_steps": 3, "hidden": (8,), "batch_size": 8}
BOTH = MADiff(**TINY)
EACH = replace(BOTH, execution="decentralised")
act = jax.jit(lambda algorithm, *arguments: algorithm.act(*arguments), static_argnums=0)
inverse_loss = jax.jit(lambda net, batch: net.loss(batch["observations"], batch["actions"], batch["mask"]))
loss_of = jax.jit(lambda algorithm, *arguments: algorithm.denoising_loss(*arguments), static_argnums=0)


UPDATES = 350
denoised = jax.jit(lambda net, *arguments: net(*arguments))


def data(agents=3, **changed) -> Dataset:
    """Ten episodes of six steps of agents of two numbers each, whose actions have one."""
    rng = np.random.default_rng(0)
    arrays = {
        "observations": rng.normal(size=(60, agents, 2)),
        "actions": rng.uniform(-1, 1, (60, agents, 1)),
        "rewards": rng.normal(size=60),
    }
    return Dataset.from_arrays(**arrays | changed, timeouts=np.arange(60) % 6 == 5)


def state_of(algorithm, spec, gate=0.0, seed=0):
    """Random numbers in all networks, of no training, and these gates of the attention across agents."""
    rng = np.random.default_rng(seed)
    shapes = jax.eval_shape(lambda spec: algorithm.init(jax.random.key(0), spec), spec)
    state = jax.tree.map(lambda x: jnp.asarray(0.3 * rng.normal(size=x.shape), x.dtype), shapes)
    return with_gate(state, gate)


def with_gate(state, gate):
    gates = [each.gate for each in getattr(state.denoiser_ema.net, "mixing", ())]
    if not gates:
        return state
    found = lambda state: [each.gate for each in state.denoiser_ema.net.mixing]  # noqa: E731
    return eqx.tree_at(found, state, [jnp.float32(gate) for _ in gates])


def acted(algorithm, state, spec, seen, key=0):
    """Actions, and the plan after."""
    carry = algorithm.reset(spec, len(seen), resolve("it", algorithm.wishes(spec), {}, len(seen)))
    return act(algorithm, state, spec, jnp.asarray(seen, jnp.float32), carry, brought(len(seen)), jax.random.key(key))


def brought(n=2, reward=0.0):
    """By the last step."""
    return {"reward": jnp.broadcast_to(jnp.float32(reward), n)}


@pytest.fixture(scope="module")
def spec():
    return BOTH.prepare(data())[1]


def seen(n=2, agents=3):
    return np.random.default_rng(1).normal(size=(n, agents, 2)).astype(np.float32)


@pytest.mark.parametrize("algorithm", [BOTH, EACH], ids=["centralised", "decentralised"])
def test_shapes_of_actions_and_plans(algorithm, spec):
    actions, (plan, _) = acted(algorithm, state_of(algorithm, spec, 1.0), spec, seen())
    assert actions.shape == (2, 3, 1)
    assert plan.rows.shape == (2, 3 if algorithm is EACH else 1, 2, 6)
    np.testing.assert_array_equal(plan.step, 1)


def test_an_agent_acts_by_what_it_sees_and_no_other(spec):
    """Decentralised: another agent's observation changes nothing, neither action nor plan. Centralised it does."""
    before, after = seen(), seen()
    after[:, 1] += 0.5
    others = np.array([0, 2])
    state = state_of(EACH, spec, 1.0)
    (mine, (plan, _)), (theirs, (other, _)) = (acted(EACH, state, spec, each) for each in (before, after))
    np.testing.assert_array_equal(mine[:, others], theirs[:, others])
    np.testing.assert_array_equal(plan.rows[:, others], other.rows[:, others])
    assert np.abs(plan.rows[:, 1] - other.rows[:, 1]).max() > 0.01
    (mine, _), (theirs, _) = (acted(BOTH, state_of(BOTH, spec, 1.0), spec, each) for each in (before, after))
    assert (np.abs(mine[:, others] - theirs[:, others]) > 1e-6).any()


def test_an_agent_acts_by_its_own_part_of_its_own_plan():
    rows = jnp.arange(2 * 3 * 4 * 6.0).reshape(2, 3, 4, 6)
    own = own_parts(rows, 3)
    for agent in range(3):
        part = slice(2 * agent, 2 * agent + 2)
        np.testing.assert_array_equal(own[..., part], rows[:, agent, :, part])
    np.testing.assert_array_equal(own_parts(rows[:, :1], 3), rows[:, 0])


def test_a_closed_gate_is_no_attention_at_all(spec):
    """In what is denoised, but for rounding; and an open one is."""
    x, told = jax.random.normal(jax.random.key(1), (5, 2, 6)), jnp.ones((5, 2))
    shut, opened = (state_of(BOTH, spec, gate).denoiser_ema for gate in (0.0, 1.0))
    alone = eqx.tree_at(lambda net: net.net.mixing, shut, ())
    expected, found, other = (denoised(net, x, jnp.zeros(5), told) for net in (alone, shut, opened))
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert np.abs(np.asarray(other - found)).max() > 0.01
    fresh = jax.eval_shape(lambda spec: replace(BOTH, agent_attention=False).init(jax.random.key(0), spec), spec)
    assert fresh.denoiser_ema.net.mixing == ()
    assert JointUNet(jax.random.key(0), (2, 2), 2, width=8, multipliers=(1,), cond_dim=2).mixing[0].gate == 0


def test_agents_that_do_not_attend_are_denoised_each_for_itself(spec):
    net = eqx.tree_at(lambda net: net.net.mixing, state_of(BOTH, spec).denoiser_ema, ())
    x = jax.random.normal(jax.random.key(1), (5, 2, 6))
    moved = np.abs(
        np.asarray(
            denoised(net, x.at[..., 2:4].add(1.0), jnp.zeros(5), jnp.ones((5, 2)))
            - denoised(net, x, jnp.zeros(5), jnp.ones((5, 2)))
        )
    ).max((0, 1))
    assert (moved[2:4] > 0.01).all() and not moved[[0, 1, 4, 5]].any()


def test_agents_that_are_permuted_are_so_in_what_is_denoised(spec):
    """Where the networks are not told who is who; where they are, so are the agents' vectors."""
    order, x = np.array([2, 0, 1]), jax.random.normal(jax.random.key(1), (5, 2, 3, 2))
    t, told = jnp.linspace(0, 3, 5), jax.random.normal(jax.random.key(2), (5, 2))
    for identity in (False, True):
        net = state_of(replace(BOTH, identity=identity), spec, 0.7).denoiser_ema
        swapped = eqx.tree_at(lambda net: net.net.identity, net, net.net.identity[order]) if identity else net
        out, moved = (
            denoised(net, x.reshape(5, 2, 6), t, told).reshape(5, 2, 3, 2)
            for net, x in ((net, x), (swapped, x[:, :, order]))
        )
        np.testing.assert_allclose(moved, out[:, :, order], atol=2e-5)
        assert np.abs(np.asarray(moved - out)).max() > 0.01


def test_one_agent_is_decision_diffuser():
    """In its networks, its losses and its actions, where neither scales its noise."""
    several = data(1)
    alone = replace(several, observations=several.observations[:, 0], actions=several.actions[:, 0])
    options, found = TINY | {"temperature": 1.0, "termination_penalty": 0.0, "prediction": "x0"}, []
    for algorithm, source in ((MADiff(**options), several), (DecisionDiffuser(**options), alone)):
        view, spec = algorithm.prepare(source)
        state, batch = state_of(algorithm, spec), view.take(jnp.arange(5))  # of the first episode, whose sixth is cut
        loss = loss_of(algorithm, state.denoiser_ema, batch, jax.random.key(1), jnp.ones((5, 2)))
        inverse = inverse_loss(state.inverse_ema, batch)
        action, (plan, _) = acted(algorithm, state, spec, source.observations[:2])
        found.append((jax.tree.leaves(state), loss, inverse, action.ravel(), plan.rows.ravel()))
    for mine, theirs in zip(*(jax.tree.leaves(each) for each in found), strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-6)


def test_only_the_noise_at_the_beginning_is_scaled():
    assert BOTH.sample_options == {"clip_x0": (-1, 1), "temperature": 0.5}
    assert "noise_temperature" in DecisionDiffuser().sample_options


def test_what_is_known_of_a_window_in_training():
    """All current states, or one agent's, and whatever is beyond an agent's columns; the loss looks at nothing else."""
    np.testing.assert_array_equal(BOTH.known((2, 1), 2, 2)[0], [[1, 1, 1, 1], [0, 0, 0, 1]])
    first, second = EACH.known((2, 1), 2, 2)
    np.testing.assert_array_equal(first, [[1, 1, 0, 1], [0, 0, 0, 1]])
    np.testing.assert_array_equal(second, [[0, 0, 1, 1], [0, 0, 0, 1]])


def test_what_was_seen_stays_in_an_agents_own_plan():
    """Its last states, up to now, and before the start the first again; others' are nobody's business."""
    algorithm = replace(EACH, horizon=4, history=2)
    _, spec = algorithm.prepare(data())
    state = state_of(algorithm, spec, 1.0)
    walk = [seen() + step for step in range(4)]
    carries, moved = [], []
    for kept, others in ((carries, 0.0), (moved, 0.5)):
        carry = algorithm.reset(spec, 2, resolve("it", algorithm.wishes(spec), {}, 2))
        for observations in walk:
            shown = jnp.asarray(observations).at[:, 1:].add(others)
            action, carry = act(algorithm, state, spec, shown, carry, brought(), jax.random.key(0))
            kept.append((action, carry[0].rows))
    units = [spec.normalise("observations", each).reshape(2, 6) for each in walk]
    for step, (_, rows) in enumerate(carries):  # of the next step's window, whose current row is number 2
        own = own_parts(rows, 3)
        np.testing.assert_array_equal(own[:, 1], units[step])
        np.testing.assert_array_equal(own[:, 0], units[max(0, step - 1)])
        action, others = moved[step]
        np.testing.assert_array_equal(rows[:, 0], others[:, 0])
        np.testing.assert_array_equal(carries[step][0][:, 0], action[:, 0])
    assert np.abs(carries[3][1] - moved[3][1]).max() > 0.01


def test_the_past_is_known_in_training_and_batches_have_it():
    algorithm = replace(BOTH, horizon=4, history=2)
    assert algorithm.known((2,), 2, 4)[0].all(-1).tolist() == [True, True, True, False]
    view, spec = algorithm.prepare(data())
    batch = view.take(jnp.arange(8))
    first = spec.normalise("observations", data().observations[:1]).reshape(-1)
    np.testing.assert_array_equal(batch["observations"][0, :3], [first] * 3)
    np.testing.assert_array_equal(batch["mask"][0], [0, 0, 1, 1])


def test_beyond_an_episodes_end_its_last_state_stays():
    view, spec = replace(BOTH, horizon=4).prepare(data())
    np.testing.assert_array_equal(view.starts, np.arange(60))
    batch = view.take(jnp.arange(60))["observations"]
    rows = spec.normalise("observations", data().observations).reshape(10, 6, -1)
    expected = rows[:, np.minimum(np.arange(6)[:, None] + np.arange(4), 5)]
    np.testing.assert_array_equal(batch, expected.reshape(60, 4, -1))


class Spied:
    """In the network's place: remembers what it was shown."""

    sizes, width = (2, 2), 2

    def __init__(self):
        self.net, self.shown = self, []

    def __call__(self, x, t, told):
        self.shown.append(x)
        return x


def test_training_draws_who_sees_what_for_each_window():
    """A row of sevens stays one where it is known, and is noise elsewhere."""
    batch = {"observations": jnp.full((400, 2, 4), 7.0), "mask": jnp.ones((400, 2)), "index": jnp.arange(400)}
    net = Spied()
    for algorithm in (BOTH, EACH):
        algorithm.denoising_loss(net, batch, jax.random.key(0))
    both, each = (np.asarray(x[:, 0] == 7.0) for x in net.shown)
    assert both.all()
    assert (each[:, :2].all(1) ^ each[:, 2:].all(1)).all()
    assert each[:, 0].mean() == pytest.approx(0.5, abs=1.5 / 400**0.5)


def test_who_is_seen_says_nothing_of_the_noise_level():
    """Of two agents and four levels each agent is seen at all of them."""
    algorithm, times = replace(EACH, diffusion_steps=4), []

    class Timed(Spied):
        def __call__(self, x, t, told):
            times.append(np.asarray(t))
            return super().__call__(x, t, told)

    net = Timed()
    batch = {"observations": jnp.full((400, 2, 4), 7.0), "mask": jnp.ones((400, 2)), "index": jnp.arange(400)}
    algorithm.denoising_loss(net, batch, jax.random.key(0))
    first = np.asarray(net.shown[0][:, 0, 0] == 7.0)
    assert [len(np.unique(times[0][each])) for each in (first, ~first)] == [4, 4]


@pytest.mark.parametrize("algorithm", [BOTH, EACH], ids=["centralised", "decentralised"])
def test_the_return_that_is_asked_for_is_what_is_still_to_come(algorithm, spec):
    """(wish - reward) / discount from the second step on, for whoever plans: actions and plans are those of who is
    asked for just that, and not of who is asked for the first wish again; without it the wish stays."""
    algorithm, state = replace(algorithm, discount=0.5), state_of(algorithm, spec, 1.0)
    observations, first = seen(), {"target_return": np.array([2.0, -1.0], np.float32)}
    key = jax.random.key(0)

    _, begun = act(algorithm, state, spec, observations, algorithm.reset(spec, 2, first), brought(reward=7.0), key)

    def second(carry):
        """What is done at the second step, after rewards of 0.5 and -2."""
        return act(algorithm, state, spec, observations, carry, {"reward": rewards}, key)

    rewards = np.array([0.5, -2.0], np.float32)
    action, (plan, asked) = second(begun)
    np.testing.assert_array_equal(asked.wishes["target_return"], [3, 2])
    other, (expected, _) = second(algorithm.rewish(begun, {"target_return": np.array([3.0, 2.0], np.float32)}))
    np.testing.assert_array_equal(action, other)
    np.testing.assert_array_equal(plan.rows, expected.rows)
    before = second(algorithm.rewish(begun, first))[1][0]
    assert np.abs(before.rows - plan.rows).max() > 1e-4
    assert replace(algorithm, return_to_go=False).received(begun, {"reward": rewards}) == begun


@pytest.mark.parametrize("algorithm", [BOTH, EACH], ids=["centralised", "decentralised"])
def test_columns_that_an_agent_has_not_change_nothing(algorithm):
    """Neither the loss nor the actions, whatever stands there."""
    rng = np.random.default_rng(2)
    parts = [rng.normal(size=(60, size)) for size in (2, 1, 2)]
    source = data(
        observations=join(parts), actions=join([rng.uniform(-1, 1, (60, size)) for size in (2, 2, 1)]),
        attributes={"observation_sizes": [2, 1, 2], "action_sizes": [2, 2, 1]},
    )  # fmt: skip
    view, spec = algorithm.prepare(source)
    state = state_of(algorithm, spec, 1.0)
    batch = view.take(jnp.arange(8))
    condition = jnp.ones((8, 2))
    changed = batch | {
        "observations": batch["observations"].at[..., 3].set(0.9), "actions": batch["actions"].at[..., 5].set(0.9)
    }  # fmt: skip
    losses = [loss_of(algorithm, state.denoiser_ema, each, jax.random.key(0), condition) for each in (batch, changed)]
    assert losses[0] == losses[1]
    inverse = [state.inverse_ema.loss(each["observations"], each["actions"], each["mask"]) for each in (batch, changed)]
    assert inverse[0] == inverse[1]
    if algorithm is BOTH:  # which acts by the same networks, and is another program to compile
        return
    observations = source.observations[:2].copy()
    actions = acted(algorithm, state, spec, observations)[0]
    observations[:, 1, 1] = 3.0
    np.testing.assert_array_equal(acted(algorithm, state, spec, observations)[0], actions)


def test_an_agents_action_is_found_from_its_own_states(spec):
    net = state_of(BOTH, spec).inverse_ema
    x = jax.random.normal(jax.random.key(0), (2, 5, 6))
    moved = np.abs(np.asarray(net(x[0], x[1]) - net(x[0].at[:, 2:4].add(1.0), x[1]))).max(0)
    assert moved[1] > 1e-4 and moved[0] == moved[2] == 0
    same = net(*jnp.tile(x[:, :, :2], (1, 1, 3)))
    assert np.abs(np.asarray(same[:, 0] - same[:, 1])).max() > 1e-4, "told which agent it is"


def test_bad_settings_and_data_are_refused_in_a_sentence():
    with pytest.raises(ReverieError, match="execution 'both' is unknown; choose one of centralised, decentralised"):
        MADiff(execution="both")
    with pytest.raises(ReverieError, match="discount = 0 knows no return to go"):
        MADiff(discount=0.0)
    with pytest.raises(ReverieError, match="history = 1 leaves 1 of the window's 2 rows"):
        replace(BOTH, history=1)
    with pytest.raises(ReverieError, match="history = 1 is of every step; leave stride = 2 at 1"):
        replace(BOTH, horizon=4, history=1, stride=2)
    with pytest.raises(DataError, match="give both an axis of agents"):
        BOTH.prepare(data(actions=np.zeros((60, 1))))
    with pytest.raises(ReverieError, match="width 8 cannot be shared by 3 heads"):
        reverie.fit(replace(BOTH, heads=3), data(), steps=1, progress=False)


def meetings(episodes=256) -> Dataset:
    """Two agents near the middle go to -1 or to 1, both to the same place, and are there at the next step."""
    rng = np.random.default_rng(0)
    start, side = 0.05 * rng.normal(size=(episodes, 2)), rng.choice([-1.0, 1.0], (episodes, 1))
    end = side + 0.05 * rng.normal(size=(episodes, 2))
    rows = np.stack([start, end], 1).reshape(-1, 2, 1)
    actions = np.stack([end - start, 0 * end], 1).reshape(-1, 2, 1)
    rewards = np.arange(2 * episodes) % 2
    return Dataset.from_arrays(rows, actions, rewards, timeouts=rewards, action_low=-2, action_high=2)


@pytest.mark.slow
def test_agents_that_attend_agree():
    """Of 300 plans; agents that do not are independent, and meet in half of them."""
    algorithm = replace(
        BOTH, width=16, diffusion_steps=6, batch_size=64, learning_rate=3e-3, decay_updates=UPDATES, ema_start=UPDATES,
        temperature=1.0, guidance_scale=0.0, discount=1.0,
    )  # fmt: skip
    run = reverie.fit(algorithm, meetings(), steps=UPDATES, progress=False)
    moved = np.asarray(acted(algorithm, run.state(), run.spec, np.zeros((300, 2, 1)))[0])[..., 0]
    assert (np.sign(moved[:, 0]) == np.sign(moved[:, 1])).mean() > 0.9
    assert np.abs(moved).mean() > 0.7, "nobody stays in the middle"
    assert (moved > 0).mean() == pytest.approx(0.5, abs=0.3), "both places are gone to"
