"""Critics made by hand, for the tests of what learns from them."""

import equinox as eqx
import jax
import jax.numpy as jnp

from reverie.rl import QNetwork


def linear(weights, bias=0.0, observation_dim=1) -> QNetwork:
    """Q_i(s, a) = weights[i] . a + bias[i] (or one bias): a network without hidden layers."""
    weights = jnp.asarray(weights, jnp.float32)
    net = QNetwork(jax.random.key(0), observation_dim, weights.shape[1], n=len(weights), hidden=())
    layer = net.nets.layers[0]
    weight = jnp.zeros_like(layer.weight).at[:, observation_dim:, 0].set(weights)
    offset = jnp.broadcast_to(jnp.asarray(bias, jnp.float32).reshape(-1, 1), layer.bias.shape)
    return eqx.tree_at(lambda q: [q.nets.layers[0].weight, q.nets.layers[0].bias], net, [weight, offset])


def scaled(net: QNetwork, factors) -> QNetwork:
    """Every member's values so many times as large."""
    factors, last = jnp.asarray(factors, jnp.float32), net.nets.layers[-1]
    arrays = [last.weight * factors[:, None, None], last.bias * factors[:, None]]
    return eqx.tree_at(lambda q: [q.nets.layers[-1].weight, q.nets.layers[-1].bias], net, arrays)
