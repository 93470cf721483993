"""The planners' workloads by a user's own clone of CleanDiffuser, through its classes; see `benchmarks.peers`."""

from typing import Any

import numpy as np

from benchmarks.cleandiffuser import Setting, moves
from benchmarks.workloads import ACTION, OBSERVATION

HORIZON = 32


class Diffuser:
    """Its denoiser and value, updated one by one, and its planning with the choice among candidates."""

    def __init__(self, on: Setting, batches: list[dict[str, Any]], steps: int = 20):
        from cleandiffuser.classifier import CumRewClassifier
        from cleandiffuser.diffusion import DiscreteDiffusionSDE
        from cleandiffuser.nn_classifier import HalfJannerUNet1d
        from cleandiffuser.nn_diffusion import JannerUNet1d

        torch, size = on.torch, OBSERVATION + ACTION
        self.on, self.steps, self.made = on, steps, 0
        sizes: Any = {"model_dim": 32, "emb_dim": 32, "dim_mult": [1, 2, 2, 2], "timestep_emb_type": "positional"}
        self.net = JannerUNet1d(size, attention=False, kernel_size=5, **sizes)
        self.value = HalfJannerUNet1d(HORIZON, size, out_dim=1, kernel_size=3, **sizes)
        self.classifier = CumRewClassifier(self.value, device=on.device)
        fixed, weight = torch.zeros((HORIZON, size)), torch.ones((HORIZON, size))
        fixed[0, :OBSERVATION], weight[0, OBSERVATION:] = 1.0, 10.0
        self.agent = DiscreteDiffusionSDE(
            *(self.net, None),
            fix_mask=fixed,
            loss_weight=weight,
            classifier=self.classifier,
            ema_rate=0.9999,
            diffusion_steps=steps + 1,
            predict_noise=False,
            device=on.device,
        )
        decay = torch.optim.lr_scheduler.CosineAnnealingLR
        self.schedules = [decay(o, 1_000_000) for o in (self.agent.optimizer, self.classifier.optim)]
        on.ready(*(net for nets in self.networks.values() for net in nets))
        self.windows = [on.tensor(np.concatenate([b["observations"], b["actions"]], -1)) for b in batches]
        self.returns = [on.tensor(b["returns"])[:, None] for b in batches]
        self.prior = torch.zeros((1, HORIZON, size), device=on.device)

    @property
    def networks(self) -> dict[str, list[Any]]:
        return {
            "denoiser": [self.net, self.agent.model_ema["diffusion"]],
            "value": [self.value, self.classifier.model_ema],
        }

    def batch(self) -> tuple[Any, Any]:
        self.made += 1
        self.on.begin()
        return self.windows[self.made % len(self.windows)], self.returns[self.made % len(self.windows)]

    def update_denoiser(self) -> float:
        loss = self.agent.update(self.batch()[0])["loss"]
        self.schedules[0].step()
        return loss

    def update_value(self) -> float:
        loss = self.agent.update_classifier(*self.batch())["loss"]
        self.schedules[1].step()
        return loss

    def update(self) -> None:
        self.update_denoiser(), self.update_value()

    def sample(self, n: int, weight: float, **options: Any) -> Any:
        settings: Any = {"solver": "ddpm", "n_samples": n, "sample_steps": self.steps, "use_ema": True, "w_cg": weight}
        return self.agent.sample(self.prior.repeat(n, 1, 1), temperature=0.5, **settings, **options)

    def plan(self, candidates: int, guided: bool) -> np.ndarray:
        self.on.begin()
        observation = self.on.torch.tensor(np.zeros(OBSERVATION), device=self.on.device, dtype=self.on.torch.float32)
        self.prior[:, 0, :OBSERVATION] = observation
        plans, log = self.sample(candidates, 0.3 if guided else 0.0)
        best = log["log_p"].view(-1).argmax(0)
        return plans[best, 0, OBSERVATION:].clip(-1.0, 1.0).cpu().numpy()

    def changes(self) -> list[float]:
        return moves(self.sample(1, 0.0, preserve_history=True)[1])


class DecisionDiffuser:
    """Its transformer of states and its inverse dynamics, with the updates and the acting of its own pipeline."""

    def __init__(self, on: Setting, batches: list[dict[str, Any]], steps: int = 20):
        from cleandiffuser.diffusion import ContinuousDiffusionSDE
        from cleandiffuser.invdynamic import MlpInvDynamic
        from cleandiffuser.nn_condition import MLPCondition
        from cleandiffuser.nn_diffusion import DiT1d

        torch = on.torch
        self.on, self.steps, self.made = on, steps, 0
        self.net = DiT1d(OBSERVATION, emb_dim=128, d_model=320, n_heads=10, depth=2, timestep_emb_type="fourier")
        told = MLPCondition(in_dim=1, out_dim=128, hidden_dims=[128], act=torch.nn.SiLU(), dropout=0.25)
        fixed, weight = torch.zeros((HORIZON, OBSERVATION)), torch.ones((HORIZON, OBSERVATION))
        fixed[0], weight[1] = 1.0, 10.0
        self.agent = ContinuousDiffusionSDE(
            *(self.net, told),
            fix_mask=fixed,
            loss_weight=weight,
            ema_rate=0.9999,
            predict_noise=True,
            noise_schedule="linear",
            device=on.device,
        )
        self.inverse = MlpInvDynamic(OBSERVATION, ACTION, 512, torch.nn.Tanh(), {"lr": 2e-4}, device=on.device)
        decay = torch.optim.lr_scheduler.CosineAnnealingLR
        self.schedules = [decay(self.agent.optimizer, 1_000_000), decay(self.inverse.optim, 200_000)]
        on.ready(self.net, self.agent.model_ema["diffusion"], self.inverse.mlp)
        self.batches = [{name: on.tensor(rows) for name, rows in batch.items()} for batch in batches]

    @property
    def networks(self) -> dict[str, list[Any]]:
        return {"denoiser": [self.net, self.agent.model_ema["diffusion"]]}

    def update(self) -> list[float]:
        self.made += 1
        self.on.begin()
        batch = self.batches[self.made % len(self.batches)]
        states, actions = batch["observations"], batch["actions"]
        losses = [
            self.agent.update(states, batch["returns"][:, None])["loss"],
            self.inverse.update(states[:, :-1], actions[:, :-1], states[:, 1:])["loss"],
        ]
        for schedule in self.schedules:
            schedule.step()
        return losses

    def sample(self, observations: Any, **options: Any) -> Any:
        n = len(observations)
        prior = self.on.torch.zeros((n, HORIZON, OBSERVATION), device=self.on.device)
        prior[:, 0] = observations
        wanted = self.on.torch.full((n, 1), 0.95, device=self.on.device)
        settings: Any = {"solver": "ddim", "n_samples": n, "sample_steps": self.steps, "use_ema": True, "w_cfg": 1.2}
        return self.agent.sample(prior, condition_cfg=wanted, temperature=0.5, **settings, **options)

    def act(self, environments: int) -> np.ndarray:
        self.on.begin()
        torch = self.on.torch
        seen = np.zeros((environments, OBSERVATION))
        observations = torch.tensor(seen, device=self.on.device, dtype=torch.float32)
        plans, _ = self.sample(observations)
        with torch.no_grad():
            return self.inverse.predict(observations, plans[:, 1]).cpu().numpy()

    def changes(self) -> list[float]:
        return moves(self.sample(self.batches[0]["observations"][:1, 0], preserve_history=True)[1])
