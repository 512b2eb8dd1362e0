"""The combine axis: how an update meets the base weight."""

from rankadapt.adapters.combine.add import Add
from rankadapt.adapters.combine.base import Call, Combine
from rankadapt.adapters.combine.dora import DoRA
from rankadapt.adapters.combine.hira import HiRA

__all__ = ["Add", "Call", "Combine", "DoRA", "HiRA"]
