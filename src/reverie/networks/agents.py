"""One network for the windows of several agents: Diffuser's U-Net for each, with the same weights, and attention across
them (Zhu et al., 2024, "MADiff: Offline Multi-agent Learning with Diffusion Models", section 4.1)."""

import equinox as eqx
import jax.numpy as jnp
from jax import Array

from .attention import SelfAttention
from .layers import Draw, Key
from .unet import TemporalUNet


class AgentAttention(eqx.Module):
    """x + gate * attention(x) over the agents, at every place of the windows: `[H, B * A, C]` to the same, an agent's
    row after another's. The gate is learned and begins at 0: nobody sees anybody."""

    attention: SelfAttention
    gate: Array
    agents: int = eqx.field(static=True)

    def __init__(self, key: Key, channels: int, agents: int, *, heads: int = 4):
        """Raises ReverieError for channels that `heads` does not divide."""
        self.attention = SelfAttention(key, channels, heads)
        self.gate = jnp.zeros(())
        self.agents = agents

    def __call__(self, x: Array) -> Array:
        tokens = x.reshape(x.shape[0], -1, self.agents, x.shape[-1])
        return x + self.gate * self.attention(tokens).reshape(x.shape)


class JointUNet(eqx.Module):
    """Windows of A agents side by side, `[..., H, A * d]` -> `[..., H, A * d]`, each by the same temporal U-Net.

    `t` and `cond` are as in `TemporalUNet`; what all are told is told each. With `identity` each agent has a learned
    vector besides, added to `cond`, without which the network does not care which agent is which. With `across`
    agents attend to one another where the features are shortest and on every level's skip; without it, and where there
    is one agent, they are independent. Columns beyond an agent's own (`sizes`) are neither read nor predicted.
    """

    net: TemporalUNet
    identity: Array | None
    mixing: tuple[AgentAttention, ...]
    """Of the levels' skips, from the first, then of the bottleneck; none where agents are independent."""
    sizes: tuple[int, ...] = eqx.field(static=True)
    width: int = eqx.field(static=True)
    """Columns of an agent, d."""

    def __init__(
        self,
        key: Key,
        sizes: tuple[int, ...],
        columns: int,
        *,
        width: int = 32,
        multipliers: tuple[int, ...] = (1, 2, 4, 8),
        cond_dim: int,
        attention: bool = False,
        across: bool = True,
        identity: bool = True,
        heads: int = 4,
    ):
        """`sizes` are the agents' own columns of `columns`. `width`, `multipliers` and `attention`, which is over time,
        are the U-Net's; `across` says whether agents attend to one another."""
        draw, agents = Draw.of(key), len(sizes)
        unet = {"width": width, "multipliers": multipliers, "attention": attention, "cond_dim": cond_dim}
        self.net = TemporalUNet(draw, columns, **unet)  # type: ignore[arg-type]
        self.identity = draw.normal((agents, cond_dim)) if identity and agents > 1 else None
        channels = [width * m for m in (*multipliers, multipliers[-1])]
        several = across and agents > 1
        self.mixing = tuple(AgentAttention(draw, c, agents, heads=heads) for c in channels) if several else ()
        self.sizes, self.width = sizes, columns

    def __call__(self, x: Array, t: Array, cond: Array) -> Array:
        *lead, horizon, _ = x.shape
        own = jnp.arange(self.width) < jnp.array(self.sizes)[:, None, None]
        agents = jnp.moveaxis(x.reshape(*lead, horizon, len(self.sizes), self.width), -2, -3)
        t = t if jnp.ndim(t) == 0 else jnp.broadcast_to(t[..., None], agents.shape[:-2])
        told = cond[..., None, :] if self.identity is None else cond[..., None, :] + self.identity
        told = jnp.broadcast_to(told, (*agents.shape[:-2], told.shape[-1]))
        *skips, bottleneck = self.mixing or (None,)
        out = self.net(jnp.where(own, agents, 0), t, told, bottleneck, skips)
        return jnp.moveaxis(jnp.where(own, out, 0), -3, -2).reshape(x.shape)
