"""One linear layer with a low-rank update, as one node of the autograd graph.

``y = x W0^T + b + (x A^T) P`` where row ``i`` of ``A`` (R, d_in) and of ``P`` (R, d_out) is the direction of
slot ``i``. Every additive form writes its update this way: its scale and core are folded into ``P``, which
is a few kilobytes, while everything that is as long as the batch happens here, once.

Against plain autograd this saves the separate product and addition of the adapter branch in the forward
pass and of its input gradient in the backward pass, and keeps ``u = x A^T`` for the score.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from rankadapt.adapters.probes import Probed, energy


class LowRankLinear(torch.autograd.Function):
    """``apply(x, branch, weight, bias, A, P, probe, tokens, r) -> y``.

    Args:
        x: (..., d_in). branch: like x, the input of the adapter branch if it differs (dropout), else None.
        weight: (d_out, d_in), frozen. bias: (d_out,) or None.
        A: (R, d_in). P: (R, d_out). Only the first ``r`` rows take part.
        probe: (R,) float32 leaf or None. Its "gradient" is ``sum over tokens of u_i^2``, so that the energy
            of every call, micro-batch and recomputation is summed by the same machinery as gradients are.
        tokens: (...,) weight of each token in that sum, or None for 1.
        r: number of slots in use.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        branch: Tensor | None,
        weight: Tensor,
        bias: Tensor | None,
        A: Tensor,
        P: Tensor,
        probe: Tensor | None,
        tokens: Tensor | None,
        r: int,
    ) -> Tensor:
        y = F.linear(x, weight, bias)
        rows = (x if branch is None else branch).reshape(-1, A.shape[1])
        u = rows @ A[:r].t()
        y.view(-1, y.shape[-1]).addmm_(u, P[:r])
        # The input is only needed for the gradient of A: where A is frozen (LoRA-FA) it is let go of.
        ctx.save_for_backward(rows if ctx.needs_input_grad[4] else None, weight, A, P, u, tokens)
        ctx.r, ctx.own_branch, ctx.shape = r, branch is not None, x.shape
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        rows, weight, A, P, u, tokens = ctx.saved_tensors
        r, needs = ctx.r, ctx.needs_input_grad
        g = grad.reshape(-1, grad.shape[-1])
        gu = g @ P[:r].t()
        gx = (g @ weight) if needs[0] else None
        if gx is not None and not ctx.own_branch:
            gx.addmm_(gu, A[:r])
        return (
            None if gx is None else gx.view(ctx.shape),
            (gu @ A[:r]).view(ctx.shape) if ctx.own_branch and needs[1] else None,
            None,
            g.sum(0) if needs[3] else None,
            _rows(gu.t() @ rows, A) if needs[4] else None,
            _rows(u.t() @ g, P) if needs[5] else None,
            energy(u, tokens, A.shape[0]) if needs[6] else None,
            None,
            None,
        )


def _rows(top: Tensor, like: Tensor) -> Tensor:
    """``top`` (r, d) as the first rows of a tensor like ``like`` (R, d), zero below."""
    if len(top) == len(like):
        return top
    full = torch.zeros_like(like)
    full[: len(top)] = top
    return full


def lowrank_branch(
    x: Tensor, A: Tensor, P: Tensor, probe: Tensor | None = None, tokens: Tensor | None = None
) -> Tensor:
    """``(x A^T) P`` (..., d_out) for plain autograd."""
    u = F.linear(x, A)
    if probe is not None:
        u = Probed.apply(u, probe, tokens)
    return F.linear(u, P.t())


def lowrank_linear_reference(
    x: Tensor,
    branch: Tensor | None,
    weight: Tensor,
    bias: Tensor | None,
    A: Tensor,
    P: Tensor,
    probe: Tensor | None = None,
    tokens: Tensor | None = None,
) -> Tensor:
    """The same layer written out for plain autograd. Shapes as in :class:`LowRankLinear`."""
    update = lowrank_branch(x if branch is None else branch, A, P, probe, tokens)
    return F.linear(x, weight, bias) + update
