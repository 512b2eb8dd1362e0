"""BitFit (Ben Zaken et al. 2022, arXiv 2106.10199): only the biases are trained.

As in the authors' code, a bias is a parameter whose name contains ``bias``: those of linear layers and of
layer norms, wherever they are in the model.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from rankadapt.adapters.adaptation import Whole
from rankadapt.errors import ModelError, Problem

WITHOUT_BIASES = ("llama", "mistral", "gemma", "gemma2")


@dataclass(kw_only=True)
class BitFit(Whole):
    """Every parameter whose name contains ``bias`` is trained. There is nothing to merge."""

    merges: ClassVar[bool] = True

    def install(self, model: nn.Module, targets: Mapping[str, nn.Linear], rank: int, seed: int) -> nn.Module:
        biases = [p for name, p in model.named_parameters() if "bias" in name]
        if not biases:
            raise ModelError(_without_biases(type(model).__name__))
        for bias in biases:
            bias.requires_grad_(True)
        return model

    def problems(self, architecture: str, targets: Iterable[str]) -> list[Problem]:
        return [_without_biases(architecture)] if architecture in WITHOUT_BIASES else []

    def merge(self, model: nn.Module) -> nn.Module:
        return model


def _without_biases(what: str) -> Problem:
    reason = f"{what} has no biases, and BitFit trains nothing else"
    return Problem("form", "BitFit", reason, "choose another method, e.g. method=lora")
