"""The mathematics that planners, policies and synthesizers share: processes, samplers, guidance, likelihood."""

from reverie.diffusion.categorical import Categorical, absorbing, mask_and_replace, sample_tokens, uniform
from reverie.diffusion.chains import Kernel, adjoints, draw_chain, log_density, steps_of_chain
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
    flow_step,
    heun,
    posterior,
    predictor_corrector,
)

__all__ = [
    "PREDICTIONS",
    "PROCESSES",
    "SCHEDULES",
    "SOLVERS",
    "Categorical",
    "Kernel",
    "Level",
    "Process",
    "Row",
    "Solver",
    "absorbing",
    "adjoints",
    "chain",
    "classifier_free",
    "combine",
    "compose",
    "ddim",
    "ddpm",
    "dpm_solver_pp",
    "draw_chain",
    "edm",
    "edm_churn",
    "energy",
    "euler",
    "euler_maruyama",
    "flow_step",
    "heun",
    "inpaint",
    "log_density",
    "log_likelihood",
    "mask_and_replace",
    "posterior",
    "predictor_corrector",
    "rectified_flow",
    "sample",
    "sample_tokens",
    "soft_inpaint",
    "steps_of_chain",
    "sub_vp",
    "timesteps",
    "uniform",
    "value_gradient",
    "ve",
    "vp_cosine",
    "vp_diffusion_ql",
    "vp_linear",
]
