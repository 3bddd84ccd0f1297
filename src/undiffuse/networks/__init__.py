"""Networks, raw: F(x, noise, labels), without a noise level sigma; `priors.Prior` makes denoisers of them."""

from undiffuse.networks.adm import ADM, ADMConfig
from undiffuse.networks.blocks import lowered
from undiffuse.networks.classifier import Classifier, ClassifierConfig
from undiffuse.networks.ddpm import DDPM, DDPMConfig
from undiffuse.networks.inference import packed
from undiffuse.networks.photo import Photo, PhotoConfig

__all__ = [
    "ADM",
    "DDPM",
    "ADMConfig",
    "Classifier",
    "ClassifierConfig",
    "DDPMConfig",
    "Photo",
    "PhotoConfig",
    "lowered",
    "packed",
]
