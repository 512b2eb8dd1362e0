"""Form ``tri``: ΔW = s · B (L + U) A, a core of two triangles (TriAdaptLoRA, section III-B, Eq. 4-9).

| symbol | here | shape |
|---|---|---|
| A, B | ``A``, ``B`` (B stored by columns, as everywhere) | (R, d_in), (R, d_out) |
| L, lower triangular | ``L`` | (R, R) |
| U, upper triangular | ``U``, stored transposed: row j is column j of U | (R, R) |
| D = L + U | :meth:`Tri.square_core` | (R, R) |

Both triangles have the diagonal. Stored this way, growing L by rows and U by columns (Eq. 8, 9) is one thing:
a new slot fills its row in both, dense to the left, up to its own diagonal entry; what lies beyond stays 0.

Where this differs from the paper: nothing in the equations. With ``new_direction: preserving`` a new slot has
B = 0 and its column of U is 0, because B = 0 alone does not keep the output: the column of U ties the old
columns of B to the new row of A.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from rankadapt.adapters.forms.base import Draw, Form


@dataclass(kw_only=True)
class Tri(Form):
    """``A``, ``L``, ``U`` start Gaussian within their shape, ``B`` at zero. New directions are Gaussian in
    all four (Algorithm 1)."""

    initial: ClassVar[Mapping[str, Draw]] = {"A": "gaussian", "B": "zero", "L": "gaussian", "U": "gaussian"}
    newborn: ClassVar[Mapping[str, Draw]] = {
        "A": "gaussian",
        "B": "gaussian",
        "L": "gaussian",
        "U": "gaussian",
    }
    preserving: ClassVar[Mapping[str, Draw]] = {"A": "gaussian", "B": "zero", "L": "gaussian", "U": "zero"}
    outgoing: ClassVar[str] = "B"
    square: ClassVar[frozenset[str]] = frozenset({"L", "U"})

    def shapes(self, d_in: int, d_out: int, slots: int) -> dict[str, tuple[int, ...]]:
        return {"A": (d_in,), "B": (d_out,), "L": (slots,), "U": (slots,)}

    def square_core(self, slots: Mapping[str, Tensor]) -> Tensor:
        """``D = L + U`` (R, R)."""
        return torch.tril(slots["L"]) + torch.tril(slots["U"]).t()

    def up(self, slots: Mapping[str, Tensor], scale: Tensor) -> Tensor:
        return self.square_core(slots).t() @ (slots["B"] * scale)

    def core_norm(self, slots: Mapping[str, Tensor], live: Tensor) -> Tensor:
        return torch.linalg.matrix_norm(self.square_core(slots).detach().float())

    def count(self, rank: int, d_in: int, d_out: int) -> int:
        return rank * (d_in + d_out) + rank * (rank + 1)

    def trimmed(self, name: str, values: Tensor) -> Tensor:
        return torch.tril(values) if name in self.square else values
