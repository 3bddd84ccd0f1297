"""What a denoiser says of pictures beside restoring and drawing them: how likely they are."""

from undiffuse.analysis.dequantise import Dequantised, dequantised
from undiffuse.analysis.likelihood import Likelihood, log_density

__all__ = ["Dequantised", "Likelihood", "dequantised", "log_density"]
