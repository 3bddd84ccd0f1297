"""Students of a prior: what they are trained for."""

from undiffuse.distil.consistency import Consistency, pseudo_huber, squared
from undiffuse.distil.progressive import Progressive, halvings, subgrid
from undiffuse.distil.stages import Stages
from undiffuse.distil.teacher import Guided, Held, Teacher

__all__ = [
    "Consistency",
    "Guided",
    "Held",
    "Progressive",
    "Stages",
    "Teacher",
    "halvings",
    "pseudo_huber",
    "squared",
    "subgrid",
]
