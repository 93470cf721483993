"""Diffusion Policy by a user's own clone of CleanDiffuser, through its classes; see `benchmarks.peers`."""

from typing import Any

import numpy as np

from benchmarks.cleandiffuser import Setting


class DiffusionPolicy:
    """Its U-Net and DDPM, with the update and the choice of a chunk of its own pipeline for Push-T's states."""

    def __init__(self, on: Setting, batches: list[dict[str, Any]], width: int, steps: int = 5):
        from cleandiffuser.diffusion.ddpm import DDPM
        from cleandiffuser.nn_condition import IdentityCondition
        from cleandiffuser.nn_diffusion import ChiUNet1d

        torch = on.torch
        self.on, self.steps, self.made = on, steps, 0
        self.batches = [{name: on.tensor(batch[name]) for name in ("observations", "actions")} for batch in batches]
        (_, history, observation), self.chunk = (
            self.batches[0]["observations"].shape,
            self.batches[0]["actions"][0].shape,
        )
        self.blank, sizes = (history, observation), {"model_dim": width, "emb_dim": width, "dim_mult": [1, 2, 2]}
        self.net = ChiUNet1d(self.chunk[1], observation, history, timestep_emb_type="positional", **sizes)
        bound = torch.ones((1, *self.chunk), device=on.device)
        self.agent = DDPM(
            *(self.net, IdentityCondition(dropout=0.0)),
            diffusion_steps=steps,
            x_max=bound,
            x_min=-bound,
            optim_params={"lr": 1e-4},
            device=on.device,
        )
        self.schedule = torch.optim.lr_scheduler.CosineAnnealingLR(self.agent.optimizer, 1_000_000)
        on.ready(self.net, self.agent.model_ema["diffusion"])

    @property
    def networks(self) -> dict[str, list[Any]]:
        return {"denoiser": [self.net, self.agent.model_ema["diffusion"]]}

    def update(self) -> float:
        self.made += 1
        self.on.begin()
        batch = self.batches[self.made % len(self.batches)]
        loss = self.agent.update(batch["actions"], batch["observations"].flatten(1))["loss"]
        self.schedule.step()
        return loss

    def act(self, environments: int) -> np.ndarray:
        self.on.begin()
        torch = self.on.torch
        seen = np.zeros((environments, *self.blank))
        condition = torch.tensor(seen, device=self.on.device, dtype=torch.float32).flatten(1)
        prior = torch.zeros((environments, *self.chunk), device=self.on.device)
        settings: Any = {"n_samples": environments, "sample_steps": self.steps, "w_cfg": 1.0, "use_ema": True}
        with torch.no_grad():
            chunks, _ = self.agent.sample(prior, condition_cfg=condition, **settings)
        return chunks.cpu().numpy()

    def changes(self) -> list[float]:
        """From what each evaluation is given: this sampler's own history is lost with its log."""
        given: list[np.ndarray] = []
        net = self.agent.model_ema["diffusion"]
        hook = net.register_forward_pre_hook(lambda module, inputs: given.append(inputs[0].cpu().numpy()))
        last = self.act(1)
        hook.remove()
        return [float(np.abs(step).max()) for step in np.diff(np.stack([*given, last]), axis=0)]
