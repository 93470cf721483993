"""The noising processes of the papers, one constructor each. `PROCESSES` names them.

Each brings the timestep schedule that suits it. Uniform times in continuous VP, sub-VP and EDM leave the small noise
levels to the last steps, and even an exact denoiser's samples miss the data's covariance: quadratic times suit the VP
family over solvers and NFE, Karras's suit EDM. VE's uniform times are uniform in log-SNR already; a discrete process
has its own steps; rectified flow keeps its papers' uniform times.
"""

import math

import jax
import jax.numpy as jnp

from reverie.diffusion.process import Process


def vp_linear(beta_min=0.1, beta_max=20.0, steps=None, **options) -> Process:
    """Variance preserving, beta(t) = beta_min + t (beta_max - beta_min) (Song et al. 2021, eq. 32)."""

    def log_alpha(t):
        return -0.25 * t**2 * (beta_max - beta_min) - 0.5 * t * beta_min

    options.setdefault("schedule", "quadratic" if steps is None else "uniform")
    return Process(
        lambda t: jnp.exp(log_alpha(t)),
        lambda t: jnp.sqrt(-jnp.expm1(2 * log_alpha(t))),
        steps=steps,
        **options,
    )


def vp_diffusion_ql(steps=5, **options) -> Process:
    """Diffusion-QL's discrete "vp" (Wang et al. 2023; Xiao et al. 2022), for any number of steps.

    Its betas 1 - exp(-b_min/T - (b_max - b_min)(2i - 1)/(2T^2)) multiply out to the linear schedule with betas 0.1
    to 10 at t = i/T exactly. alpha^2 is 0.0064 at t = 1 for every T: sampling from N(0, I) starts a little off the
    training distribution, in the paper's code and here.
    """
    return vp_linear(0.1, 10.0, steps=steps, **options)


def vp_cosine(steps=None, offset=0.008, **options) -> Process:
    """Variance preserving, alpha^2 a squared cosine (Nichol & Dhariwal 2021, eq. 17).

    With `steps`, the last beta is clipped to 0.999 as theirs is, which only touches t = 1. In continuous time the
    process is sampled from t = 0.9946 on, where alpha is 0.008, because alpha vanishes at 1.
    """

    def angle(t):
        return (t + offset) / (1 + offset) * math.pi / 2

    start = angle(0.0)

    def cosine(t):
        return jnp.cos(angle(t)) / math.cos(start)

    clipped = math.sqrt(1e-3) * math.cos(angle(1 - 1 / steps)) / math.cos(start) if steps else 0.0

    def alpha(t):
        # alpha rises above the cosine after the last step but one only, linearly, to where the clipped beta ends.
        return cosine(t) + (clipped * jnp.maximum(steps * (t - 1) + 1, 0) if steps else 0.0)

    def sigma(t):
        # sin form of 1 - cosine^2, exact near t = 0 where the subtraction cancels.
        squared = jnp.sin(angle(t) - start) * jnp.sin(angle(t) + start) / math.cos(start) ** 2
        return jnp.sqrt(squared - (alpha(t) ** 2 - cosine(t) ** 2))

    options.setdefault("t_max", 0.9946 if steps is None else 1.0)
    options.setdefault("schedule", "quadratic" if steps is None else "uniform")
    return Process(alpha, sigma, steps=steps, **options)


def ve(sigma_min=0.01, sigma_max=50.0, **options) -> Process:
    """Variance exploding, sigma(t) = sigma_min (sigma_max/sigma_min)^t, alpha = 1 (Song et al. 2021, eq. 31)."""
    options.setdefault("t_min", 1e-5)

    def sigma(t):
        return sigma_min * (sigma_max / sigma_min) ** t

    return Process(jnp.ones_like, sigma, feature=lambda t: jnp.log(sigma(t)) / 4, **options)


def sub_vp(beta_min=0.1, beta_max=20.0, **options) -> Process:
    """Sub-variance-preserving: VP's mean, and VP's variance as the standard deviation (Song et al. 2021, eq. 29)."""
    options.setdefault("schedule", "quadratic")
    vp = vp_linear(beta_min, beta_max)
    return Process(vp.alpha, lambda t: vp.sigma(t) ** 2, **options)


def edm(sigma_min=0.002, sigma_max=80.0, mean=-1.2, std=1.2, **options) -> Process:
    """Karras et al. (2022): alpha = 1, sigma = sigma_max t, training noise with log sigma ~ N(mean, std^2).

    Set `sigma_data` to the data's standard deviation (0.5 for images, 1 for standardised vectors). Time in units
    of sigma_max makes Euler and Heun here the paper's own; the network sees log(sigma)/4.
    """
    options = {"prediction": "edm", "schedule": "karras", "t_min": sigma_min / sigma_max} | options
    return Process(
        jnp.ones_like,
        lambda t: sigma_max * t,
        feature=lambda t: jnp.log(sigma_max * jnp.asarray(t)) / 4,
        draw=lambda key, shape: jnp.exp(mean + std * jax.random.normal(key, shape)) / sigma_max,
        **options,
    )


def rectified_flow(**options) -> Process:
    """Straight paths x_t = (1 - t) x0 + t eps (Liu et al. 2023; Lipman et al. 2023). Noise is at t = 1 here.

    Its forward g^2 = 2t/(1 - t) is singular at pure noise, so stochastic solvers use g^2 = 2t instead.
    """
    options = {"prediction": "velocity"} | options
    return Process(lambda t: 1 - t, lambda t: jnp.asarray(t), rate=lambda t: 2 * t, **options)


PROCESSES = {
    "vp-linear": vp_linear,
    "vp-cosine": vp_cosine,
    "vp-diffusion-ql": vp_diffusion_ql,
    "ve": ve,
    "sub-vp": sub_vp,
    "edm": edm,
    "rectified-flow": rectified_flow,
}
