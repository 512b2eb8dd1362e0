"""Form ``ba``: ΔW = s · B A (Hu et al. 2022, LoRA, arXiv 2106.09685)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from rankadapt.adapters.forms.base import Draw, Form


@dataclass(kw_only=True)
class BA(Form):
    """``A`` (R, d_in) starts Kaiming-uniform as in LoRA's own code, ``B`` (R, d_out) at zero."""

    initial: ClassVar[Mapping[str, Draw]] = {"A": "kaiming", "B": "zero"}
    newborn: ClassVar[Mapping[str, Draw]] = {"A": "gaussian", "B": "zero"}
    preserving: ClassVar[Mapping[str, Draw]] = newborn
    outgoing: ClassVar[str] = "B"

    def shapes(self, d_in: int, d_out: int, slots: int) -> dict[str, tuple[int, ...]]:
        return {"A": (d_in,), "B": (d_out,)}

    def up(self, slots: Mapping[str, Tensor], scale: Tensor) -> Tensor:
        return slots["B"] * scale

    def place(self, slots: Mapping[str, Tensor], U: Tensor, S: Tensor, V: Tensor) -> None:
        root = S.sqrt()[:, None]
        slots["A"][: len(S)] = root * V
        slots["B"][: len(S)] = root * U.t()
