"""What is learned of the dynamics and the ends, and which of it is used: not what was learned by heart."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import reverie
from reverie.data import Dataset
from reverie.errors import ReverieError
from reverie.models import Outcomes
from reverie.synthesizers import MBPO
from traced import always, marked

SMALL = MBPO(
    members=2,
    elites=2,
    hidden=(64, 64),
    policy_hidden=(64, 64),
    batch_size=32,
    held_out=40,
    learning_rate=1e-2,
    check_every=5,
)


def noise(n=200, seed=0):
    """Actions, changes and ends of which the state tells nothing: a tenth of the steps are ends."""
    draw = np.random.default_rng(seed)
    states = draw.uniform(-1, 1, (n, 2))
    changed = states + draw.normal(size=(n, 2))
    given = {"terminals": draw.random(n) < 0.1, "timeouts": np.ones(n), "next_observations": changed}
    return Dataset.from_arrays(
        states, draw.uniform(-1, 1, (n, 1)), draw.normal(size=n), **given, action_low=-1, action_high=1
    )


@pytest.fixture(scope="module")
def run():
    return reverie.fit(SMALL, noise(), steps=600, segment=100, progress=False)


def test_what_is_used_knows_no_rows_by_heart(run):
    """On fresh rows it errs little more than what knows nothing: a variance of 1, the entropy of a tenth. What is
    trained on to the end errs by more. The clone is the last: judged by its likelihood it would be one that hardly
    knows what the data do."""
    fresh = SMALL.rows(noise(1000, seed=1).arrays(), run.spec)
    used, last = (each.errors(fresh) for each in (SMALL.ready(run.state(), run.spec).models, run.state().models.params))
    nothing = {"ensemble": 1.0, "ending": -(0.1 * np.log(0.1) + 0.9 * np.log(0.9))}
    for name, least in nothing.items():
        assert used[name].mean() < 1.4 * least, (name, used[name])
        assert last[name].mean() > 1.2 * used[name].mean(), (name, last[name])
    policies = (SMALL.ready(run.state(), run.spec).models.policy, run.state().models.params.policy)
    jax.tree.map(np.testing.assert_array_equal, *policies)


def test_the_held_out_errors_are_among_the_metrics_and_rise_where_rows_are_learned_by_heart(run):
    metrics = run.metrics()
    for name in ("ensemble", "ending"):
        error = metrics[f"held_out_{name}_error"]
        assert error[-1] > error[0], (name, error)
    assert metrics["model_error"][-1] < metrics["held_out_ensemble_error"][-1] / 1.5


def test_networks_are_measured_every_so_many_updates_on_rows_that_none_learns_from():
    algorithm = replace(SMALL, check_every=3)
    view, spec = algorithm.prepare(noise())
    update, errors = jax.jit(algorithm.update), jax.jit(lambda state: state.models.params.errors(state.held_out))
    state = jax.jit(algorithm.init)(jax.random.key(0), spec)
    measured = [errors(state)]
    for i in range(1, 10):
        state, _ = update(state, view.draw(jax.random.key(i), 32), jax.random.key(i))
        measured += [errors(state)] if i % 3 == 0 else []
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4), state.best.last, measured[-1])
    least = jax.tree.map(lambda *errors: jnp.stack(errors).min(0), *measured)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4), state.best.least, least)
    seen = {tuple(row) for row in np.asarray(view.rows.rows["observations"]).tolist()}
    assert len(state.held_out["actions"]) == 40
    assert not seen & {tuple(row) for row in np.asarray(state.held_out["observations"]).tolist()}


def test_seeds_side_by_side_measure_nothing_where_none_is_due(monkeypatch):
    view, spec = SMALL.prepare(noise())
    states = jax.eval_shape(jax.vmap(lambda key: SMALL.init(key, spec)), jax.random.split(jax.random.key(0), 2))
    given, update = (
        (states, view.draw(jax.random.key(0), 32), jax.random.key(0)),
        jax.vmap(SMALL.update, (0, None, None)),
    )
    monkeypatch.setattr(Outcomes, "errors", marked(Outcomes.errors))
    assert not always(update, *given)
    assert always(jax.vmap(lambda state: state.best.model.errors(state.held_out)), states)


def test_a_run_of_an_earlier_version_is_refused_in_a_sentence():
    _, spec = SMALL.prepare(noise())
    kept = {name: each for name, each in spec.kept.items() if name != "terminals"}
    with pytest.raises(
        ReverieError, match="The rows held out have no ends, as in runs of earlier versions; train the run anew"
    ):
        SMALL.init(jax.random.key(0), replace(spec, kept=kept))
