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
        ctx.save_for_backward(rows, weight, A, P, u, tokens)
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
            _energy(u, tokens, A.shape[0]) if needs[6] else None,
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


def _energy(u: Tensor, tokens: Tensor | None, R: int) -> Tensor:
    """(R,) float32: the sum over tokens of the squares of u (N, r), each token weighted."""
    squares = u.float().square()
    total = squares.sum(0) if tokens is None else tokens.reshape(-1).float() @ squares
    return total if len(total) == R else F.pad(total, (0, R - len(total)))


class _Probed(torch.autograd.Function):
    """``apply(u, probe, tokens) -> u``, whose backward pass gives ``probe`` the energies of u (..., R)."""

    @staticmethod
    def forward(ctx: Any, u: Tensor, probe: Tensor, tokens: Tensor | None) -> Tensor:
        ctx.save_for_backward(u, tokens)
        return u.view_as(u)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        u, tokens = ctx.saved_tensors
        return grad, _energy(u.reshape(-1, u.shape[-1]), tokens, u.shape[-1]), None


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
    u = F.linear(x if branch is None else branch, A)
    if probe is not None:
        u = _Probed.apply(u, probe, tokens)
    return F.linear(x, weight, bias) + F.linear(u, P.t())
