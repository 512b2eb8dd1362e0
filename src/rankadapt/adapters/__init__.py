"""Low-rank updates on slots: forms, the adapted layer, injection, and the writer of rank changes."""

from rankadapt.adapters.forms import BA, BEA, Form
from rankadapt.adapters.inject import inject, merge_and_unload, spread
from rankadapt.adapters.linear import AdaptedLinear, AdapterOptions, adapted_layers
from rankadapt.adapters.reading import Adapters, Reading

__all__ = [
    "BA",
    "BEA",
    "AdaptedLinear",
    "AdapterOptions",
    "Adapters",
    "Form",
    "Reading",
    "adapted_layers",
    "inject",
    "merge_and_unload",
    "spread",
]
