"""Adaptations without slots: full fine-tuning, biases, bottlenecks, shared low-rank pools, and peft's own."""

from rankadapt.adapters.whole.adapterdrop import AdapterDrop
from rankadapt.adapters.whole.bitfit import BitFit
from rankadapt.adapters.whole.full import Full
from rankadapt.adapters.whole.houlsby import Houlsby
from rankadapt.adapters.whole.llm_adapters import Parallel, Series
from rankadapt.adapters.whole.peft import Peft
from rankadapt.adapters.whole.pfeiffer import Pfeiffer
from rankadapt.adapters.whole.rasa import RaSA

__all__ = [
    "AdapterDrop",
    "BitFit",
    "Full",
    "Houlsby",
    "Parallel",
    "Peft",
    "Pfeiffer",
    "RaSA",
    "Series",
]
