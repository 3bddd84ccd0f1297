"""Restoration algorithms: each a function (denoise, problem, noise, options) -> Step."""

from undiffuse.registry import RESTORERS
from undiffuse.restore.blind import BlurEstimate, estimate_blur
from undiffuse.restore.certificate import Certificate, certify
from undiffuse.restore.compat import ddrm_published
from undiffuse.restore.daps import daps
from undiffuse.restore.ddnm import ddnm, ddnm_plus
from undiffuse.restore.ddrm import ddrm, ddrm_start
from undiffuse.restore.diagnose import Diagnosis, diagnose
from undiffuse.restore.diffpir import diffpir
from undiffuse.restore.dpir import dpir
from undiffuse.restore.dps import dps
from undiffuse.restore.exact import GaussianPrior, exact
from undiffuse.restore.noise_level import estimate_sigma
from undiffuse.restore.pigdm import pigdm, posterior_denoiser
from undiffuse.restore.posterior import Posterior, summarise
from undiffuse.restore.problem import Problem, measure, start
from undiffuse.restore.projection import ilvr, repaint
from undiffuse.restore.reddiff import reddiff
from undiffuse.restore.trend import Trend
from undiffuse.restore.warm import low_levels, wiener

RESTORERS.preset(
    "dpir_wiener",
    "dpir",
    summary="dpir begun at the Wiener filter's estimate, at low noise levels: better at few calls",
    example="--algorithm dpir_wiener --steps 4",
    facts={"start": wiener, "grid": low_levels},
)

__all__ = [
    "BlurEstimate",
    "Certificate",
    "Diagnosis",
    "GaussianPrior",
    "Posterior",
    "Problem",
    "Trend",
    "certify",
    "daps",
    "ddnm",
    "ddnm_plus",
    "ddrm",
    "ddrm_published",
    "ddrm_start",
    "diagnose",
    "diffpir",
    "dpir",
    "dps",
    "estimate_blur",
    "estimate_sigma",
    "exact",
    "ilvr",
    "measure",
    "pigdm",
    "posterior_denoiser",
    "reddiff",
    "repaint",
    "start",
    "summarise",
]
