"""Combine ``dora``: W = m * (W0 + ΔW) / ||W0 + ΔW|| (Liu et al. 2024, DoRA, arXiv 2402.09353, Eq. 5, 11).

| symbol | here | shape |
|---|---|---|
| m, magnitude | ``extra["magnitude"]``, starts at the row norms of W0 | (d_out,) |
| ||W0 + ΔW||, per output row | :func:`row_norms`, constant in the backward pass (section 4.3) | (d_out,) |

Where this differs from the authors' code: the norms are computed from ``W0 A^T`` and ``A A^T`` without
writing out W0 + ΔW. As there and in peft, dropout also touches the base part, ``(m/n - 1) W0 x``. When ranks
change, m stays and the norms follow.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from rankadapt.adapters.combine.base import Call, Combine


def row_norms(weight: Tensor, A: Tensor, P: Tensor) -> Tensor:
    """(d_out,) float32: ``||W0 + P^T A||`` of every output row, from ||w||² + 2 w·δ + ||δ||²."""
    W, A, P = weight.float(), A.float(), P.float()
    cross = ((A @ W.t()) * P).sum(0)
    own = ((A @ A.t()) @ P * P).sum(0)
    return (W.square().sum(1) + 2 * cross + own).clamp(min=0).sqrt()


@dataclass(kw_only=True)
class DoRA(Combine):
    """Direction and magnitude apart; the magnitude is trained, and is no part of the rank budget."""

    def parameters(self, weight: Tensor) -> dict[str, Tensor]:
        return {"magnitude": weight.float().norm(dim=1)}

    def forward(self, call: Call) -> Tensor:
        with torch.no_grad():
            norms = row_norms(call.weight, call.A[: call.width], call.P[: call.width])
        gain = (call.extra["magnitude"] / norms).to(call.x.dtype)
        if call.branch is None:
            y = call.linear(call.x, None, None) * gain
            return y if call.bias is None else y + call.bias
        correction = (gain - 1) * call.base(call.branch, None) + gain * call.update(call.branch)
        return call.base(call.x, call.bias) + correction

    def merged(self, weight: Tensor, delta: Tensor, extra: Mapping[str, Tensor]) -> Tensor:
        direction = weight + delta
        return extra["magnitude"].float()[:, None] * direction / direction.norm(dim=1, keepdim=True)
