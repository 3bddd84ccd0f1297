"""Students of a prior: what they are trained for."""

from undiffuse.distil.progressive import Progressive, halvings, subgrid
from undiffuse.distil.teacher import Guided, Teacher

__all__ = ["Guided", "Progressive", "Teacher", "halvings", "subgrid"]
