"""Parts of a model as they were when they erred least on rows that none of them learns from.

A fixed number of updates then needs no early stopping: what is learned by heart after that is not kept.
"""

from collections.abc import Mapping
from typing import Any, Self

import equinox as eqx
import jax
import jax.numpy as jnp


class Snapshots(eqx.Module):
    """The parts of a model, each from the time of its own least error; what has no error is as it was last offered."""

    model: Any
    least: dict[str, jax.Array]
    """The parts' least errors, by their names in the model: `[]`; or `[E]` of a part of E members, which all its arrays
    have along the first axis, and each of which is kept from a time of its own."""
    last: dict[str, jax.Array]
    """As they were measured last."""

    @classmethod
    def first(cls, model: Any, errors: Mapping[str, jax.Array]) -> Self:
        return cls(model, dict(errors), dict(errors))

    def offered(self, model: Any, errors: Mapping[str, jax.Array]) -> Self:
        """With what errs less than before, of a later model of such errors. An error that is not a number is none."""
        better = {name: error < self.least[name] for name, error in errors.items()}

        def chosen(name: str) -> Any:
            def leaf(new, old):
                return jnp.where(jnp.expand_dims(better[name], range(better[name].ndim, new.ndim)), new, old)

            return jax.tree.map(leaf, getattr(model, name), getattr(self.model, name))

        kept = eqx.tree_at(lambda each: [getattr(each, name) for name in better], model, [*map(chosen, better)])
        least = {name: jnp.where(better[name], error, self.least[name]) for name, error in errors.items()}
        return type(self)(kept, least, dict(errors))
