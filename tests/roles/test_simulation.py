"""Configurations that are proposed: the guide in closed form, and small mazes whose success is known."""

from dataclasses import replace
from functools import lru_cache, partial
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import reverie
from reverie.data import Spec
from reverie.diffusion import energy, sample
from reverie.environments import gridmaze
from reverie.environments.gridmaze import START, GridMaze, path_lengths, random_configurations
from reverie.errors import DataError, ReverieError
from reverie.roles import GenerativeSimulation
from reverie.roles.proposing import Proposing
from reverie.roles.simulation import outcomes, propose

SMALL = {"width": 64, "blocks": 1, "hidden": (64, 64), "chunk": 128, "nfe": 20, "batch_size": 128, "candidates": 1}
UPDATES = 1000


def true_success(configurations):
    """Logistic in the length of the shortest way, a half at 4 cells."""
    return 1 / (1 + np.exp(path_lengths(configurations) - 4.0))


@pytest.fixture(scope="module")
def mazes():
    return random_configurations(np.random.default_rng(0), 4000, 5)


@pytest.fixture(scope="module")
def run(mazes, optimised):
    algorithm = GenerativeSimulation(**SMALL, learning_rate=2e-3, decay_updates=UPDATES, ema_start=200)
    with optimised():
        return reverie.fit(algorithm, outcomes(gridmaze, mazes, true_success(mazes)), steps=UPDATES, progress=False)


@pytest.fixture(scope="module")
def proposals(run):
    """Unguided, and guided to a half and to a tenth."""
    return {wanted: propose(run, gridmaze, 100, wanted) for wanted in (None, 0.5, 0.1)}


def test_the_guide_is_the_likelihood_of_a_share_of_successes():
    """Whose gradient by the logit is the wanted probability less the model's, at any probability."""
    odds = jnp.linspace(-6.0, 6.0, 7)
    for wanted in (0.0, 0.3, 1.0):
        value, slope = jax.vmap(jax.value_and_grad(
            lambda x, wanted=wanted: GenerativeSimulation.log_likelihood(lambda x, t: x, wanted, x, 0.0)
        ))(odds)  # fmt: skip
        p = jax.nn.sigmoid(odds)
        np.testing.assert_allclose(slope, wanted - p, atol=1e-6)
        np.testing.assert_allclose(value, wanted * jnp.log(p) + (1 - wanted) * jnp.log1p(-p), rtol=1e-4)


def test_with_exact_models_one_success_of_one_episode_is_bayes_rule():
    """Configurations are 1 and -1, as often; there a policy succeeds with 0.8 and 0.1. Those in which an episode has
    succeeded are 1 with 0.8 / 0.9, as with all noise levels' exact log E[p | x_t] the guide is."""
    process = GenerativeSimulation().process

    def odds_of_one(x, t):
        return 2 * x[..., 0] * process.alpha(t) / process.sigma(t) ** 2

    def denoiser(x, t):
        return jnp.tanh(odds_of_one(x, t) / 2)[..., None]

    def logit(x, t):
        share = jax.nn.sigmoid(odds_of_one(x, t))
        p = share * 0.8 + (1 - share) * 0.1
        return jnp.log(p / (1 - p))

    wanted = jnp.repeat(jnp.array([1.0, 0.0]), 10_000)
    guide = partial(GenerativeSimulation.log_likelihood, logit, wanted)
    made = sample(process, energy(process, denoiser, guide), jax.random.key(0), (20_000, 1), nfe=50) > 0
    assert abs(float(made[:10_000].mean()) - 0.8 / 0.9) < 0.015
    assert abs(float(made[10_000:].mean()) - 0.2 / 1.1) < 0.015


def test_proposals_are_solvable_new_and_different(mazes, proposals):
    known = {each.tobytes() for each in mazes}
    for made in proposals.values():
        assert made.configurations.shape == (100, 5, 5)
        assert gridmaze.solvable(made.configurations).all()
        codes = {each.tobytes() for each in made.configurations}
        assert len(codes) == 100
        assert not codes & known
        assert made.drawn % 128 == 0
        assert 0.5 < made.solvable < 1.0
        assert 0.5 < made.novel <= 1.0


def test_guided_proposals_have_the_wanted_success(run, proposals):
    """The true one, which the model has learned from outcomes."""

    def off(made, wanted):
        return np.abs(true_success(made.configurations) - wanted).mean()

    for wanted in (0.5, 0.1):
        assert off(proposals[wanted], wanted) < off(proposals[None], wanted) - 0.04
    rates = {wanted: true_success(made.configurations).mean() for wanted, made in proposals.items()}
    assert rates[0.1] < rates[0.5] - 0.1 < rates[None] - 0.1


def test_the_nearest_candidates_are_taken_in_their_order(run, proposals):
    made = proposals[0.5]
    chosen, told = run.algorithm.nearest(run.state(), run.spec, gridmaze, made.configurations, 25, 0.5)
    places = np.flatnonzero(np.isin(np.abs(made.success - 0.5), np.sort(np.abs(made.success - 0.5))[:25]))
    np.testing.assert_array_equal(chosen, made.configurations[places])
    np.testing.assert_array_equal(told, made.success[places])
    assert np.abs(true_success(chosen) - 0.5).mean() < np.abs(true_success(made.configurations) - 0.5).mean() - 0.02


def test_the_same_key_proposes_the_same(run, proposals):
    again, other = (propose(run, gridmaze, 5, 0.5, key=key).configurations for key in (0, 2))
    np.testing.assert_array_equal(again, proposals[0.5].configurations[:5])
    assert not np.array_equal(again, other)


def test_a_refit_learns_other_outcomes_and_draws_as_before(run, mazes):
    """Although the training's learning rate has fallen to 0."""
    state, x = run.state(), gridmaze.encode(mazes[:500])
    won = 1 - true_success(mazes[:500]).astype(np.float32)
    padded = np.concatenate([x, np.zeros_like(x)]), np.concatenate([won, np.zeros_like(won)])
    again = run.algorithm.refitted(state, run.spec, *padded, 500, jax.random.key(0), 200)
    before, after = (np.asarray(run.algorithm.success(each, run.spec, x)) for each in (state, again))
    assert np.corrcoef(before, won)[0, 1] < -0.7
    assert np.corrcoef(after, won)[0, 1] > 0.5
    for mine, theirs in zip(jax.tree.leaves(state.ema), jax.tree.leaves(again.ema), strict=True):
        np.testing.assert_array_equal(mine, theirs)


class Listed(GenerativeSimulation):
    """Proposes what it is given."""

    def drawn(self, state, spec, key, success, guided=True):
        return spec.kept["drawn"]


@lru_cache
def begun(algorithm, size):
    spec = Spec(1, size, -jnp.ones(size), jnp.ones(size), {})
    return jax.jit(algorithm.init)(jax.random.key(0), spec)


def listed(made, known):
    """A run that draws `made`, over and over, and has learned `known`."""
    algorithm = Listed(**SMALL)
    spec = algorithm.prepare(outcomes(gridmaze, known, np.ones(len(known))))[1]
    spec = replace(spec, kept=spec.kept | {"drawn": jnp.asarray(gridmaze.encode(made))})
    state = begun(algorithm, spec.action_dim)
    return SimpleNamespace(algorithm=algorithm, spec=spec, state=lambda seed=None: state)


def test_shares_are_of_what_was_drawn_and_the_rest_is_kept(mazes):
    closed = np.zeros((5, 5), np.uint8)
    closed[0, :2], closed[1, :2], closed[4, 4] = (START, 1), 1, 3
    made = np.concatenate([mazes[:60], mazes[10:30], closed[None], mazes[100:147]])
    found = propose(listed(made, mazes[:40]), gridmaze, 67)
    np.testing.assert_array_equal(found.configurations, np.concatenate([mazes[40:60], mazes[100:147]]))
    assert (found.drawn, found.solvable, found.novel) == (128, 127 / 128, 68 / 128)
    with pytest.raises(ReverieError, match=r"drawn .* are solvable and 68 new, 67 both, where 68 are wanted"):
        propose(listed(made, mazes[:40]), gridmaze, 68)
    with pytest.raises(ReverieError, match="Of 640 configurations drawn 640 are solvable and 0 new, 0 both"):
        propose(listed(mazes[:128], mazes[:128]), gridmaze, 1)


def test_episodes_start_as_proposed_and_are_remembered(mazes):
    env = Proposing(GridMaze(5), listed(mazes[:128], mazes[500:540]), gridmaze, batch=4, refit_every=3, updates=1)
    before = env.state
    for episode in range(4):
        seen, _ = env.reset(seed=episode)
        proposed = env.proposals[-1].configurations[episode % 3]
        np.testing.assert_array_equal(seen, GridMaze(5).reset(options={"configuration": proposed})[0])
        assert (env.state is before) == (episode < 3)
        for action in directions(proposed):
            *_, terminated, truncated, info = env.step(action)
            if terminated or truncated:
                break
        assert info["success"]
    assert env.episodes == 4
    assert len(env.proposals) == 2
    np.testing.assert_array_equal(env.x[:3], gridmaze.encode(env.proposals[0].configurations[:3]))
    assert env.won[:5].tolist() == [1, 1, 1, 1, 0]


def test_no_configuration_is_proposed_twice_and_the_data_s_are_decoded_once(mazes):
    sizes = []

    def decode(x):
        sizes.append(len(x))
        return gridmaze.decode(x)

    counted = SimpleNamespace(encode=gridmaze.encode, decode=decode, solvable=gridmaze.solvable)
    env = Proposing(GridMaze(5), listed(mazes[:128], mazes[120:160]), counted, batch=30)
    made = [env.next_configuration() for _ in range(120)]
    assert len({each.tobytes() for each in made}) == 120 and len(env.proposals) == 4
    assert not {each.tobytes() for each in made} & {each.tobytes() for each in mazes[120:160]}
    assert sizes == [40] + [128] * 4
    with pytest.raises(ReverieError, match="Of 640 configurations drawn 640 are solvable and 0 new"):
        env.next_configuration()


def directions(configuration):
    """Actions from the middle of a cell to that of the next, along a shortest way."""
    return [0.25 * step for step in np.diff(gridmaze.shortest_way(configuration), axis=0) for _ in range(4)]


def test_a_configuration_of_one_s_own_is_played_and_failures_count(mazes):
    env = Proposing(GridMaze(5), listed(mazes[:128], mazes[500:540]), gridmaze)
    with pytest.raises(ReverieError, match="No episode has ended"):
        env.refit()
    env.reset(options={"configuration": mazes[7]})
    while not env.step((0.0, 0.0))[3]:
        pass
    assert (env.episodes, env.won[0], env.proposals) == (1, 0.0, [])
    np.testing.assert_array_equal(env.x[0], gridmaze.encode(mazes[7:8])[0])
    with pytest.raises(ReverieError, match="info has no 'success'"):
        env.record({})


def test_what_is_no_outcome_or_no_wish_is_refused(mazes):
    closed = np.where(mazes[:3] == 0, 1, mazes[:3])
    closed = closed[path_lengths(closed) < 0]
    assert len(closed)
    with pytest.raises(DataError, match=r"None of the \d configurations can be solved"):
        outcomes(gridmaze, closed, np.zeros(len(closed)))
    assert len(outcomes(gridmaze, np.concatenate([closed, mazes[:2]]), np.zeros(len(closed) + 2))) == 2
    with pytest.raises(DataError, match=r"2 configurations have outcomes of shape \[3\]"):
        outcomes(gridmaze, mazes[:2], np.zeros(3))
    with pytest.raises(DataError, match=r"An outcome is 1\.5; give 1 for success"):
        outcomes(gridmaze, mazes[:2], [0.5, 1.5])
    run = listed(mazes[:128], mazes[500:540])
    for wanted in (-0.1, 1.2):
        with pytest.raises(ReverieError, match=f"success = {wanted} is no probability"):
            propose(run, gridmaze, 1, wanted)
    with pytest.raises(ReverieError, match="0 configurations cannot be proposed"):
        propose(run, gridmaze, 0)


def test_a_specification_that_is_given_is_used(mazes):
    first, second = (outcomes(gridmaze, part, np.ones(20)) for part in (mazes[:20], mazes[20:40]))
    spec = GenerativeSimulation().prepare(first)[1]
    view, again = GenerativeSimulation().prepare(second, spec)
    np.testing.assert_array_equal(again.kept["configurations"], first.actions)
    np.testing.assert_array_equal(view.rows["actions"], second.actions)
