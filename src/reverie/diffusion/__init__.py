"""The mathematics that planners, policies and synthesizers share: processes, samplers, guidance, likelihood."""

from reverie.diffusion.categorical import Categorical, absorbing, mask_and_replace, sample_tokens, uniform
from reverie.diffusion.guidance import classifier_free, combine, compose, energy, soft_inpaint, value_gradient
from reverie.diffusion.hooks import chain, inpaint
from reverie.diffusion.likelihood import log_likelihood
from reverie.diffusion.process import PREDICTIONS, Level, Process
from reverie.diffusion.processes import (
    PROCESSES,
    edm,
    rectified_flow,
    sub_vp,
    ve,
    vp_cosine,
    vp_diffusion_ql,
    vp_linear,
)
from reverie.diffusion.sampling import sample
from reverie.diffusion.schedules import SCHEDULES, timesteps
from reverie.diffusion.solvers import (
    SOLVERS,
    Row,
    Solver,
    ddim,
    ddpm,
    dpm_solver_pp,
    edm_churn,
    euler,
    euler_maruyama,
    heun,
    predictor_corrector,
)

__all__ = [
    "PREDICTIONS",
    "PROCESSES",
    "SCHEDULES",
    "SOLVERS",
    "Categorical",
    "Level",
    "Process",
    "Row",
    "Solver",
    "absorbing",
    "chain",
    "classifier_free",
    "combine",
    "compose",
    "ddim",
    "ddpm",
    "dpm_solver_pp",
    "edm",
    "edm_churn",
    "energy",
    "euler",
    "euler_maruyama",
    "heun",
    "inpaint",
    "log_likelihood",
    "mask_and_replace",
    "predictor_corrector",
    "rectified_flow",
    "sample",
    "sample_tokens",
    "soft_inpaint",
    "sub_vp",
    "timesteps",
    "uniform",
    "value_gradient",
    "ve",
    "vp_cosine",
    "vp_diffusion_ql",
    "vp_linear",
]
