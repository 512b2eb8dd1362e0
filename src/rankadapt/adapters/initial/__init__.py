"""The init axis: where the slots' values come from at injection."""

from rankadapt.adapters.initial.base import Init
from rankadapt.adapters.initial.eva import EVA
from rankadapt.adapters.initial.singular import MiLoRA, PiSSA

__all__ = ["EVA", "Init", "MiLoRA", "PiSSA"]
