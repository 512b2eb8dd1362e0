"""Form ``bea``: ΔW = s · B diag(e) A, the update as a sum of weighted directions.

Zhang et al. 2023 (AdaLoRA, arXiv 2303.10512); HeBiRA Eq. 3; PE-DyRA Eq. 2. ``e`` starts at zero, ``A`` and
``B`` Gaussian with AdaLoRA's standard deviation of 0.02.

With that start the update grows like ``s · e · 0.02^2`` per entry and direction until the factors have
grown, orders below plain LoRA's: nothing in runs of the papers' length, much in a run of a few hundred
steps. ``form.std`` is the knob.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from rankadapt.adapters.forms.base import Draw, Form


@dataclass(kw_only=True)
class BEA(Form):
    """``A`` (R, d_in), ``B`` (R, d_out), ``e`` (R,). A new direction is Gaussian in all three."""

    initial: ClassVar[Mapping[str, Draw]] = {"A": "gaussian", "B": "gaussian", "e": "zero"}
    newborn: ClassVar[Mapping[str, Draw]] = {"A": "gaussian", "B": "gaussian", "e": "gaussian"}
    preserving: ClassVar[Mapping[str, Draw]] = initial
    outgoing: ClassVar[str] = "e"

    def shapes(self, d_in: int, d_out: int, slots: int) -> dict[str, tuple[int, ...]]:
        return {"A": (d_in,), "B": (d_out,), "e": ()}

    def up(self, slots: Mapping[str, Tensor], scale: Tensor) -> Tensor:
        return slots["B"] * (slots["e"] * scale)[:, None]

    def core(self, slots: Mapping[str, Tensor]) -> Tensor | None:
        return slots["e"]

    def place(self, slots: Mapping[str, Tensor], U: Tensor, S: Tensor, V: Tensor) -> None:
        slots["A"][: len(S)], slots["B"][: len(S)], slots["e"][: len(S)] = V, U.t(), S
