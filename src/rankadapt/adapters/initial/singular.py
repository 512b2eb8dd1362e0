"""Inits ``pissa`` and ``milora``: the top or the bottom singular triplets of the base weight are trained.

| symbol | here |
|---|---|
| W0 = U S V^T | of the base weight, in float32 |
| A0 B0, principal (PiSSA, Meng et al. 2024, arXiv 2404.02948, Eq. 2-3) | triplets 0 .. r-1 |
| A0 B0, minor (MiLoRA, Wang et al. 2025, arXiv 2406.09044, Eq. 4) | triplets n-r .. n-1 |
| W_res = W0 - s B0 A0 | the base from then on |

In form ``ba`` both factors get the square root of the singular values; in ``bea`` they are the core, and the
factors orthonormal. The scale s is divided out, so that the model starts exactly where it was up to rounding;
both papers have s = 1 (``adapter.scale_by: one``).

Singular vectors are only determined up to sign, so the initial factors stay with the layer (and in the
checkpoint): an adapter for the original W0 is [A; A0], [B, -B0] of rank 2r.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

import torch
from annotated_types import Ge
from torch import Tensor

from rankadapt.adapters.initial.base import Init
from rankadapt.adapters.merging import take_out

if TYPE_CHECKING:
    from rankadapt.adapters.linear import AdaptedLinear


@dataclass(kw_only=True)
class Singular(Init):
    """Base of both: which triplets is for the subclass to say."""

    changes_base: ClassVar[bool] = True

    def triplets(self, weight: Tensor, rank: int) -> tuple[Tensor, Tensor, Tensor]:
        """U (d_out, r), S (r,), V (r, d_in) of ``weight`` (d_out, d_in) float32."""
        raise NotImplementedError

    @torch.no_grad()
    def __call__(self, layer: AdaptedLinear) -> None:
        layer.residual = True
        if layer.base.weight.is_meta:
            return
        U, S, V = self.triplets(layer.base.weight.float(), layer.rank)
        layer.form.place(layer.slot_parameters(), U, S / layer.scale, V)
        take_out(layer, layer.A[: layer.rank], layer.up()[: layer.rank])


@dataclass(kw_only=True)
class PiSSA(Singular):
    """The top triplets.

    Attributes:
        iterations: 0 for the exact SVD, else the power iterations of a randomised one (their code: 16).
    """

    iterations: Annotated[int, Ge(0)] = 0

    def triplets(self, weight: Tensor, rank: int) -> tuple[Tensor, Tensor, Tensor]:
        if self.iterations:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                U, S, V = torch.svd_lowrank(weight, q=rank, niter=self.iterations)
            return U, S, V.t()
        U, S, V = torch.linalg.svd(weight, full_matrices=False)
        return U[:, :rank], S[:rank], V[:rank]


@dataclass(kw_only=True)
class MiLoRA(Singular):
    """The bottom triplets."""

    def triplets(self, weight: Tensor, rank: int) -> tuple[Tensor, Tensor, Tensor]:
        U, S, V = torch.linalg.svd(weight, full_matrices=False)
        first = len(S) - rank
        return U[:, first:], S[first:], V[first:]
