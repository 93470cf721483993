"""The same workloads by a user's own clone of CleanDiffuser, through its classes; see `benchmarks.peers`.

What all need is here, and what plans nothing; the planners are in `benchmarks.cleandiffuser_planners`.

With as many sampling as diffusion steps its schedule visits level 0 twice, and one evaluation of each chain changes
nothing. Here it has one diffusion step more than sampling steps, so that every evaluation counts; it costs no time.
"""

import sys
import types
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.timing import Work
from benchmarks.workloads import ACTION, OBSERVATION


def load(path: Path) -> Any:
    """Make the clone importable and return torch. Raises ImportError where torch, einops or the clone is missing."""
    import torch

    if not (path / "cleandiffuser" / "diffusion").is_dir():
        raise ImportError(f"{path} is no clone of CleanDiffuser: it has no cleandiffuser/diffusion")
    try:
        import torchvision  # noqa: F401
    except ImportError:  # which only its image encoders need
        names = ("torchvision", "torchvision.transforms", "torchvision.transforms.functional")
        for name in names:
            sys.modules.setdefault(name, types.ModuleType(name))
        for name in names[1:]:
            parent, child = name.rsplit(".", 1)
            setattr(sys.modules[parent], child, sys.modules[name])
    sys.path.insert(0, str(path))
    import cleandiffuser.diffusion  # noqa: F401

    return torch


def parameters(module: Any) -> int:
    return sum(p.numel() for p in module.parameters())


@dataclass(frozen=True)
class Setting:
    """Where torch runs, and whether its networks are compiled."""

    torch: Any
    device: str = "cpu"
    compiled: bool = False

    def tensor(self, x: Any) -> Any:
        return self.torch.tensor(np.array(x), device=self.device)

    def finish(self, work: Work) -> Work:
        """The work, ended when the device has done it."""
        if self.device == "cpu":
            return work

        def finished() -> None:
            work()
            self.torch.cuda.synchronize()

        return finished

    def ready(self, *modules: Any) -> None:
        """Compile the networks in place where that is asked: on a GPU with CUDA graphs."""
        for module in modules if self.compiled else ():
            module.compile(**({"mode": "reduce-overhead"} if self.device != "cpu" else {}))

    def begin(self) -> None:
        """Tell CUDA graphs that what the last evaluation of the networks returned is no longer needed."""
        if self.compiled and self.device != "cpu":
            self.torch.compiler.cudagraph_mark_step_begin()

    def flops(self, work: Work) -> float:
        """Of the matrix products and convolutions of one run."""
        from torch.utils._python_dispatch import TorchDispatchMode
        from torch.utils.flop_counter import flop_registry

        found = [0.0]

        class Counting(TorchDispatchMode):  # torch's own FlopCounterMode cannot follow autograd.grad
            def __torch_dispatch__(self, function, types, args=(), kwargs=None):
                out = function(*args, **(kwargs or {}))
                flops = flop_registry.get(function._overloadpacket)
                found[0] += flops(*args, **(kwargs or {}), out_val=out) if flops else 0
                return out

        fused = self.torch.backends.mha.get_fastpath_enabled()
        self.torch.backends.mha.set_fastpath_enabled(False)  # its attention in one operation that has no count
        try:
            with Counting():
                work()
        finally:
            self.torch.backends.mha.set_fastpath_enabled(fused)
        return found[0]


def evaluations_of(work: Work, **networks: Any) -> dict[str, list[int]]:
    """Examples in each evaluation of each of the networks, in one run of the work."""
    found: dict[str, list[int]] = {name: [] for name in networks}

    def noting(examples: list[int]) -> Callable:
        return lambda module, inputs: examples.append(len(inputs[0]))

    hooks = [net.register_forward_pre_hook(noting(found[name])) for name, nets in networks.items() for net in nets]
    work()
    for hook in hooks:
        hook.remove()
    return {name: sorted(examples) for name, examples in sorted(found.items()) if examples}


class DiffusionQL:
    """Its policy, critics and optimisers, with the update and the acting of its own training and evaluation loops."""

    def __init__(self, on: Setting, batches: list[dict[str, Any]], steps: int = 5):
        from copy import deepcopy

        from cleandiffuser.diffusion import DiscreteDiffusionSDE
        from cleandiffuser.nn_condition import IdentityCondition
        from cleandiffuser.nn_diffusion import DQLMlp
        from cleandiffuser.utils import DQLCritic

        torch = on.torch
        self.on, self.steps, self.made = on, steps, 0
        self.net = DQLMlp(OBSERVATION, ACTION, emb_dim=64, timestep_emb_type="positional")
        bound = torch.ones((1, ACTION), device=on.device)
        self.actor = DiscreteDiffusionSDE(
            *(self.net, IdentityCondition(dropout=0.0)),
            predict_noise=True,
            optim_params={"lr": 3e-4},
            x_max=bound,
            x_min=-bound,
            diffusion_steps=steps + 1,
            device=on.device,
        )
        self.critic = DQLCritic(OBSERVATION, ACTION, hidden_dim=256).to(on.device)
        self.target = deepcopy(self.critic).requires_grad_(False).eval()
        self.critic_optimiser = torch.optim.Adam(self.critic.parameters(), lr=3e-4)
        decay = torch.optim.lr_scheduler.CosineAnnealingLR
        self.schedules = [decay(o, T_max=2_000_000) for o in (self.actor.optimizer, self.critic_optimiser)]
        on.ready(self.net, self.actor.model_ema["diffusion"], self.critic, self.target)
        self.batches = [{name: on.tensor(rows) for name, rows in batch.items()} for batch in batches]

    @property
    def networks(self) -> dict[str, list[Any]]:
        return {"denoiser": [self.net, self.actor.model_ema["diffusion"]]}

    def sample(self, observations: Any, **options: Any) -> Any:
        self.on.begin()
        n = len(observations)
        prior = self.on.torch.zeros((n, ACTION), device=self.on.device)
        settings = {"solver": "ddpm", "n_samples": n, "sample_steps": self.steps, "w_cfg": 1.0, "temperature": 1.0}
        return self.actor.sample(prior, condition_cfg=observations, **(settings | options))

    def update(self) -> list[float]:
        from cleandiffuser.utils import FreezeModules

        torch, batch = self.on.torch, self.batches[self.made % len(self.batches)]
        s, a, next_s = batch["observations"], batch["actions"], batch["next_observations"]
        values = self.critic(s, a)
        best, _ = self.sample(next_s, use_ema=True)
        td_target = torch.min(*self.target(next_s, best))
        td_target = (batch["rewards"][:, None] + (1 - batch["terminals"][:, None]) * 0.99 * td_target).detach()
        critic_loss = sum(torch.nn.functional.mse_loss(value, td_target) for value in values)
        self.step(self.critic_optimiser, critic_loss)

        bc_loss = self.actor.loss(a, s)
        mine, _ = self.sample(s, use_ema=False, requires_grad=True)
        with FreezeModules([self.critic]):
            first, second = self.critic(s, mine)
        if np.random.uniform() > 0.5:
            first, second = second, first
        q_loss = -first.mean() / second.abs().mean().detach()
        self.step(self.actor.optimizer, bc_loss + q_loss)
        for schedule in self.schedules:
            schedule.step()
        if self.made % 5 == 0:
            self.actor.ema_update()
            for p, slow in zip(self.critic.parameters(), self.target.parameters(), strict=True):
                slow.data.copy_(0.005 * p.data + 0.995 * slow.data)
        self.made += 1
        # Its loop logs these four numbers of every update, each of which waits for the device.
        return [each.item() for each in (bc_loss, q_loss, critic_loss, td_target.mean())]

    @staticmethod
    def step(optimiser: Any, loss: Any) -> None:
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    def act(self, candidates: int) -> np.ndarray:
        """Without a choice where there is but one candidate, although its own loop asks the critics even then."""
        torch = self.on.torch
        observation = torch.tensor(np.zeros((1, OBSERVATION)), device=self.on.device, dtype=torch.float32)
        observation = observation.repeat(candidates, 1)
        actions, _ = self.sample(observation, use_ema=True, temperature=0.5)
        if candidates == 1:
            return actions.cpu().numpy()
        with torch.no_grad():
            weights = torch.softmax(self.target.q_min(observation, actions)[:, 0], 0)
            return actions[torch.multinomial(weights, 1)].cpu().numpy()

    def changes(self) -> list[float]:
        """How far each evaluation in a chain moves its sample, at most over its entries."""
        return moves(self.sample(self.batches[0]["observations"][:4], preserve_history=True)[1])


class SynthER:
    """Its network for transitions, and its sampling of rows of 27 numbers."""

    def __init__(self, on: Setting, rows: int, nfe: int, width: int = 1024):
        from cleandiffuser.diffusion import DiscreteDiffusionSDE
        from cleandiffuser.nn_diffusion import IDQLMlp

        self.on, self.rows, self.nfe = on, rows, nfe
        self.size = 2 * OBSERVATION + ACTION + 2
        self.net = IDQLMlp(0, self.size, emb_dim=128, hidden_dim=width, n_blocks=6, timestep_emb_type="positional")
        self.agent = DiscreteDiffusionSDE(
            self.net, predict_noise=True, diffusion_steps=nfe + 1, ema_rate=0.999, device=on.device
        )
        on.ready(self.agent.model_ema["diffusion"])

    @property
    def networks(self) -> dict[str, list[Any]]:
        return {"denoiser": [self.net, self.agent.model_ema["diffusion"]]}

    def sample(self, rows: int, **options: Any) -> Any:
        self.on.begin()
        prior = self.on.torch.zeros((rows, self.size), device=self.on.device)
        settings: Any = {"solver": "ddpm", "n_samples": rows, "sample_steps": self.nfe, "use_ema": True}
        return self.agent.sample(prior, temperature=1.0, **settings, **options)

    def generate(self) -> np.ndarray:
        return self.sample(self.rows)[0].cpu().numpy()

    def changes(self) -> list[float]:
        return moves(self.sample(1, preserve_history=True)[1])


def moves(log: dict[str, Any]) -> list[float]:
    """`[n, nfe + 1, n, ...]` of the sampler's log: the largest change of an entry in each evaluation."""
    history = np.asarray(log["sample_history"])
    steps = np.abs(np.diff(history, axis=1))
    return steps.max(axis=tuple(i for i in range(steps.ndim) if i != 1)).tolist()
