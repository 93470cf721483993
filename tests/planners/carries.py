"""Environments of one batch at different steps of their episodes."""

import jax
import jax.numpy as jnp

act = jax.jit(lambda algorithm, *arguments: algorithm.act(*arguments), static_argnums=0)


def mixed_and_in_lockstep(algorithm, state, spec, observe, steps):
    """One step of a batch whose environment i is at step `steps[i]`; the same environments, each taken from a batch in
    which all are at that step, with the same key; and the mixed batch's carry before.

    `observe(step)` are the observations of a whole batch at a step. The noise of environment i is the same in both.
    """
    n = len(steps)
    carries = [algorithm.reset(spec, n, {})]
    for step in range(max(steps)):
        arguments = observe(step), carries[-1], {}, jax.random.key(step)
        carries.append(act(algorithm, state, spec, *arguments)[1])
    at = [carries[step] for step in steps]

    def each(trees):
        return jax.tree.map(lambda *leaves: jnp.stack([leaf[i] for i, leaf in enumerate(leaves)]), *trees)

    key, before = jax.random.key(100), each(at)
    seen = each([observe(step) for step in steps])
    mixed = act(algorithm, state, spec, seen, before, {}, key)
    alone = [act(algorithm, state, spec, observe(step), carry, {}, key) for step, carry in zip(steps, at, strict=True)]
    return mixed, each(alone), before
