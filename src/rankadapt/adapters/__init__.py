"""Low-rank updates on slots: forms, the adapted layer, injection, and the writer of rank changes."""

from rankadapt.adapters.adaptation import Adaptation, Whole
from rankadapt.adapters.combine import Add, Combine, DoRA, HiRA
from rankadapt.adapters.forms import BA, BEA, Form, Tri
from rankadapt.adapters.initial import EVA, Init, MiLoRA, PiSSA
from rankadapt.adapters.inject import inject, merge_and_unload, spread
from rankadapt.adapters.linear import AdaptedLinear, adapted_layers
from rankadapt.adapters.options import AdapterOptions
from rankadapt.adapters.quantize import Quantization
from rankadapt.adapters.reading import Adapters, Reading

__all__ = [
    "BA",
    "BEA",
    "EVA",
    "Adaptation",
    "AdaptedLinear",
    "AdapterOptions",
    "Adapters",
    "Add",
    "Combine",
    "DoRA",
    "Form",
    "HiRA",
    "Init",
    "MiLoRA",
    "PiSSA",
    "Quantization",
    "Reading",
    "Tri",
    "Whole",
    "adapted_layers",
    "inject",
    "merge_and_unload",
    "spread",
]
