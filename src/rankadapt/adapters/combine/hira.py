"""Combine ``hira``: W = W0 * (1 + B A), element by element (Huang et al. 2025, HiRA, ICLR, Eq. 4).

The update ``W0 * ΔW`` is of high rank, so it must be written out: one (d_out, d_in) matrix per forward pass.
HiRA has no alpha/r: ``adapter.scale_by: one``.

Where this differs from the authors' code: dropout, which they configure and never apply, acts on the input of
the update's branch, as in peft.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from rankadapt.adapters.combine.base import Call, Combine
from rankadapt.adapters.probes import ProbedProduct


@dataclass(kw_only=True)
class HiRA(Combine):
    """The update multiplies the base weight."""

    multiplies: ClassVar[bool] = True

    def forward(self, call: Call) -> Tensor:
        A, P = call.A[: call.width], call.P[: call.width]
        update = call.weight * (P.t() @ A)
        if call.branch is None:
            y = F.linear(call.x, call.weight + update, call.bias)
        else:
            y = call.base(call.x, call.bias) + F.linear(call.branch, update)
        if call.probe is None:
            return y
        seen = call.x if call.branch is None else call.branch
        return ProbedProduct.apply(y, seen.detach(), call.A.detach(), call.probe, call.tokens)

    def merged(self, weight: Tensor, delta: Tensor, extra: Mapping[str, Tensor]) -> Tensor:
        return weight * (1 + delta)
