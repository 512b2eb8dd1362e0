"""RaSA (He et al. 2025, arXiv 2503.12576): low-rank updates that share a part of their rank between layers.

========  ==========================================  =====================
symbol    meaning                                     shape
========  ==========================================  =====================
``r, k``  rank per layer; how much of it is shared
``L``     layers that share a pool
``A_l``   own input factor of a layer                 (r - k, d_in)
``B_l``   own output factor, as rows                  (r - k, d_out)
``A_S``   input factor of the pool                    (k L, d_in)
``B_S``   output factor of the pool, as rows          (k L, d_out)
``d_l``   diagonal of a layer                         (r - k + k L,)
========  ==========================================  =====================

``ΔW_l = [B_l B_S] diag(d_l) [A_l; A_S]``. ``A`` starts Kaiming-uniform, ``B`` at zero, ``d`` at
``α / 2(r - k)`` in its own part and ``α / 2kL`` in the shared one.

Where this differs from the paper or its code, and why:

- Layers share a pool if their paths differ in numbers only and their shapes agree. The code looks for
  ``layers.N.`` and finds no layer of a BERT; and a path that ends alike is not the same kind of layer in an
  encoder-decoder model.
- ``k`` at small ranks is not given: r / 8 as at the larger ones, at least 1.
- It can be merged and folded; the code cannot.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from annotated_types import Gt
from torch import Tensor, nn

from rankadapt.adapters.adaptation import Whole
from rankadapt.adapters.lowrank import LowRankLinear
from rankadapt.adapters.whole.places import replace_module
from rankadapt.errors import ModelError, Problem


class Pool(nn.Module):
    """What the layers of one kind share: ``A`` (kL, d_in) and ``B`` (kL, d_out)."""

    def __init__(self, rank: int, like: nn.Linear, seed: int):
        super().__init__()
        self.A, self.B = _factors(rank, like, seed)


class SharedLinear(nn.Module):
    """``base`` plus ``[B_l B_S] diag(d_l) [A_l; A_S]``.

    Args:
        own: r - k. pool: is held by the model, once, and is no submodule of this layer.
        scales: initial ``d`` of the own part, and of the shared part.
    """

    def __init__(self, base: nn.Linear, own: int, pool: Pool, scales: tuple[float, float], seed: int):
        super().__init__()
        self.base, self._pool = base.requires_grad_(False), (pool,)
        self.A, self.B = _factors(own, base, seed)
        d = torch.tensor([scales[0]] * own + [scales[1]] * len(pool.A))
        self.d = nn.Parameter(d.to(base.weight.device))

    @property
    def weight(self) -> Tensor:
        """The base weight (d_out, d_in), for models that look at it."""
        return self.base.weight

    @property
    def bias(self) -> Tensor | None:
        """The base bias (d_out,)."""
        return self.base.bias

    def factors(self) -> tuple[Tensor, Tensor]:
        """``A`` (r - k + kL, d_in) and ``P`` (r - k + kL, d_out) with ``ΔW = P^T A``."""
        (pool,) = self._pool
        return torch.cat([self.A, pool.A]), torch.cat([self.B, pool.B]) * self.d[:, None]

    def forward(self, x: Tensor) -> Tensor:
        weight: Tensor = self.base.weight
        bias: Tensor | None = self.base.bias
        if not x.is_meta and torch.is_autocast_enabled(x.device.type):
            dtype = torch.get_autocast_dtype(x.device.type)
            x, weight = x.to(dtype), weight.to(dtype)
            bias = None if bias is None else bias.to(dtype)
        A, P = (factor.to(x.dtype) for factor in self.factors())
        return LowRankLinear.apply(x, None, weight, bias, A, P, None, None, len(A))

    def merged(self) -> nn.Linear:
        """The plain layer with the update in its weight; this one gives its base away for good."""
        A, P = (factor.detach().float() for factor in self.factors())
        self.base.weight.data = (self.base.weight.data.float() + P.t() @ A).to(self.base.weight.dtype)
        return self.base


@dataclass(kw_only=True)
class RaSA(Whole):
    """Partially shared low-rank updates on every target.

    Attributes:
        shared_k: k; None for an eighth of the rank, at least 1.
        lora_alpha: α.
    """

    shared_k: Annotated[int, Gt(0)] | None = None
    lora_alpha: Annotated[float, Gt(0)] = 32.0

    merges: ClassVar[bool] = True

    def install(self, model: nn.Module, targets: Mapping[str, nn.Linear], rank: int, seed: int) -> nn.Module:
        k = self.shared_k or max(rank // 8, 1)
        if k > rank:
            raise ModelError(Problem("form.shared_k", k, f"is more than the rank of {rank}", "lower it"))
        pools = nn.ModuleList()
        kinds = _kinds(targets).values()
        index = 0
        for kind in kinds:
            shared = k * len(kind)
            pool = Pool(shared, targets[kind[0]], seed * 100_003 + 50_000 + len(pools))
            pools.append(pool)
            scales = (self.lora_alpha / (2 * max(rank - k, 1)), self.lora_alpha / (2 * shared))
            for path in kind:
                layer = SharedLinear(targets[path], rank - k, pool, scales, seed * 100_003 + index)
                replace_module(model, path, layer)
                index += 1
        model.rasa_pool = pools
        return model

    def folded(self, model: nn.Module) -> dict[str, tuple[Tensor, Tensor]]:
        """Path -> ``A`` (r - k + kL, d_in) and ``B`` (d_out, r - k + kL) with ``ΔW = B A``: the diagonal is
        in ``B``. A plain LoRA with the scale 1 can hold it."""
        factors = {name: layer.factors() for name, layer in _layers(model).items()}
        return {name: (A.detach().float(), P.detach().float().t()) for name, (A, P) in factors.items()}

    def merge(self, model: nn.Module) -> nn.Module:
        for name, layer in _layers(model).items():
            replace_module(model, name, layer.merged())
        del model.rasa_pool
        return model


def _kinds(targets: Mapping[str, nn.Linear]) -> dict[tuple[str, int, int], list[str]]:
    """Path with its numbers left out, and shape -> the paths of the targets like that, in model order."""
    kinds: dict[tuple[str, int, int], list[str]] = {}
    for path, linear in targets.items():
        name = re.sub(r"(?<=\.)\d+(?=\.)", "*", path)
        kinds.setdefault((name, linear.out_features, linear.in_features), []).append(path)
    return kinds


def _layers(model: nn.Module) -> dict[str, SharedLinear]:
    return {name: m for name, m in model.named_modules() if isinstance(m, SharedLinear)}


def _factors(rank: int, like: nn.Linear, seed: int) -> tuple[nn.Parameter, nn.Parameter]:
    """``A`` (rank, d_in) Kaiming-uniform as nn.Linear, ``B`` (rank, d_out) zero."""
    generator = torch.Generator().manual_seed(seed % 2**64)
    bound = 1 / math.sqrt(like.in_features)
    A = torch.empty(rank, like.in_features).uniform_(-bound, bound, generator=generator)
    device = like.weight.device
    return nn.Parameter(A.to(device)), nn.Parameter(torch.zeros(rank, like.out_features, device=device))
