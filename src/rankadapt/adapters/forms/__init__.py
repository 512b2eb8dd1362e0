"""Forms of the update: how the slots' parameters make ``ΔW = P^T A``."""

from rankadapt.adapters.forms.ba import BA
from rankadapt.adapters.forms.base import Form
from rankadapt.adapters.forms.bea import BEA
from rankadapt.adapters.forms.tri import Tri

__all__ = ["BA", "BEA", "Form", "Tri"]
