"""What a backward pass can be asked to note beside gradients.

Each probe is a leaf whose "gradient" is the sum that is wanted. Autograd then adds up calls, micro-batches
and recomputed segments by the machinery that it adds up gradients with.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable


def energy(u: Tensor, tokens: Tensor | None, R: int) -> Tensor:
    """(R,) float32: the sum over tokens of the squares of u (N, r), each token weighted; 0 beyond r."""
    squares = u.float().square()
    total = squares.sum(0) if tokens is None else tokens.reshape(-1).float() @ squares
    return total if len(total) == R else F.pad(total, (0, R - len(total)))


class Probed(torch.autograd.Function):
    """``apply(u, probe, tokens) -> u``, whose backward pass gives ``probe`` (R,) the energies of u
    (..., r)."""

    @staticmethod
    def forward(ctx: Any, u: Tensor, probe: Tensor, tokens: Tensor | None) -> Tensor:
        ctx.save_for_backward(u, tokens)
        ctx.slots = len(probe)
        return u.view_as(u)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        u, tokens = ctx.saved_tensors
        return grad, energy(u.reshape(-1, u.shape[-1]), tokens, ctx.slots), None


class ProbedProduct(torch.autograd.Function):
    """``apply(y, x, A, probe, tokens) -> y``, whose backward pass gives ``probe`` (R,) the energies of
    ``x A^T``, for layers that have no use for that product themselves."""

    @staticmethod
    def forward(ctx: Any, y: Tensor, x: Tensor, A: Tensor, probe: Tensor, tokens: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, A, tokens)
        return y.view_as(y)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, A, tokens = ctx.saved_tensors
        u = x.reshape(-1, x.shape[-1]) @ A.t()
        return grad, None, None, energy(u, tokens, len(A)), None


class ProbedInput(torch.autograd.Function):
    """``apply(y, x, probe, tokens) -> y``, whose backward pass gives ``probe`` (d_in + 1,) the energy of
    every input feature and, last, the number of tokens."""

    @staticmethod
    def forward(ctx: Any, y: Tensor, x: Tensor, probe: Tensor, tokens: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, tokens)
        return y.view_as(y)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, tokens = ctx.saved_tensors
        rows = x.reshape(-1, x.shape[-1])
        ones = rows.new_ones(len(rows), 1)
        return grad, None, energy(torch.cat([rows, ones], 1), tokens, rows.shape[1] + 1), None


class ProbedUpdate(torch.autograd.Function):
    """``apply(y, x, probe) -> y``, whose backward pass gives ``probe`` (d_out, d_in) the gradient of the
    whole update, dLoss/dΔW: as much work as the gradient of the base weight would be."""

    @staticmethod
    def forward(ctx: Any, y: Tensor, x: Tensor, probe: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return y.view_as(y)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (x,) = ctx.saved_tensors
        g = grad.reshape(-1, grad.shape[-1]).float()
        return grad, None, g.t() @ x.reshape(-1, x.shape[-1]).float()
