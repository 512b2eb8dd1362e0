"""Penalties on the slots' parameters, whose gradients are known in closed form.

AdaLoRA (Zhang et al. 2023, arXiv 2303.10512), section 3.1; PE-DyRA Eq. 2; IncreLoRA (arXiv 2308.12043).

| symbol | here | shape |
|---|---|---|
| A A^T (AdaLoRA: Q Q^T; PE-DyRA: A^T A) | ``gram`` of ``A`` | (m, R, R) |
| B^T B (AdaLoRA: P^T P) | ``gram`` of ``B``, which is stored (R, d_out) | (m, R, R) |
| I | 1 for slots that take part, on the diagonal | (m, R, R) |
| D = A A^T - I | ``off`` | (m, R, R) |
| γ, λ | ``weight`` | |

With D symmetric, d ||D||_F^2 = 2 <D, dA A^T + A dA^T> = <4 D A, dA>, and d ||D||_F is that over 2 ||D||_F (0
where D is). Two small products per factor, where autograd keeps a graph and goes through it backwards.

Where this differs from the papers: AdaLoRA's text squares the norm and sums; its code, and IncreLoRA's, take
the bare norm and the mean over all factors (``squared: false``, ``reduction: mean``). PE-DyRA follows the
text. The loss that is logged does not contain the penalty, nor does an evaluation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from annotated_types import Ge
from torch import Tensor

from rankadapt.adapters.linear import AdaptedLinear
from rankadapt.adapters.reading import Adapters


@dataclass(kw_only=True)
class Penalty:
    """A term of the objective besides the loss.

    Attributes:
        weight: its factor.
    """

    weight: Annotated[float, Ge(0)] = 0.1

    def add_gradients(self, adapters: Adapters) -> Tensor:
        """Add the penalty's gradients to ``.grad`` of the adapters' parameters.

        To be called once per optimizer step, on gradients that are whole: accumulated, reduced over
        processes and unscaled. Every process adds the same.

        Returns:
            The penalty, ``weight`` included: a scalar on the adapters' device.
        """
        raise NotImplementedError


@dataclass(kw_only=True)
class Orthogonality(Penalty):
    """``weight`` times the sum or mean over all A and B of ``||A A^T - I||_F``, squared or not.

    Only slots that take part count: the first ``width`` of a layer, which are its live ones unless dead ones
    are trained too.

    Attributes:
        squared: the square of the norm. reduction: over the 2 M factors of all modules.
    """

    squared: bool = True
    reduction: Literal["sum", "mean"] = "sum"

    def __post_init__(self) -> None:
        self._masks: dict[tuple[int, ...], Tensor] = {}

    @torch.no_grad()
    def add_gradients(self, adapters: Adapters) -> Tensor:
        factor = self.weight / (2 * len(adapters) if self.reduction == "mean" else 1)
        device = adapters.layers[0].live.device
        total = torch.zeros((), device=device)
        with torch.autocast(device.type, enabled=False):
            for name in ("A", "B"):
                for layers in _alike(adapters.layers, name):
                    total = total + self._add(name, layers, factor)
        return total

    def _add(self, name: str, layers: Sequence[AdaptedLinear], factor: float) -> Tensor:
        parameters = [getattr(layer, name) for layer in layers]
        widths = tuple(_width(layer) for layer in layers)
        rows = torch.stack([p.detach()[: max(widths)] for p in parameters])
        rows = rows.to(torch.promote_types(rows.dtype, torch.float32))
        values, gradients = self._closed_form(rows, self._mask(widths, rows), factor)
        added = gradients.to(parameters[0].dtype).unbind()
        trained = [(p, g) for p, g in zip(parameters, added, strict=True) if p.requires_grad]
        for p, _ in trained:
            p.grad = torch.zeros_like(p) if p.grad is None else p.grad
        if trained:
            torch._foreach_add_([p.grad[: max(widths)] for p, _ in trained], [g for _, g in trained])
        return values.sum()

    def _closed_form(self, rows: Tensor, mask: Tensor, factor: float) -> tuple[Tensor, Tensor]:
        """The penalties (m,) of ``rows`` (m, w, d) and their gradients (m, w, d)."""
        gram = torch.bmm(rows, rows.mT)
        off = gram.mul_(mask[:, :, None] * mask[:, None, :]).sub_(torch.diag_embed(mask))
        if self.squared:
            return factor * off.square().sum((1, 2)), torch.bmm(off * (4 * factor), rows)
        norm = torch.linalg.vector_norm(off, dim=(1, 2))
        slope = torch.where(norm > 0, 2 * factor / norm, 0)  # the norm has no gradient at 0: as autograd's
        return factor * norm, torch.bmm(off * slope[:, None, None], rows)

    def _mask(self, widths: tuple[int, ...], like: Tensor) -> Tensor:
        """(m, w): 1 for the slots that take part. Kept until ranks move: made anew it is a copy from the host
        every step."""
        mask = self._masks.get(widths)
        if mask is None or mask.device != like.device or mask.dtype != like.dtype:
            if len(self._masks) > 64:
                self._masks.clear()
            places = torch.arange(max(widths), device=like.device)
            mask = (places < torch.tensor(widths, device=like.device)[:, None]).to(like.dtype)
            self._masks[widths] = mask
        return mask


def _width(layer: AdaptedLinear) -> int:
    return int(getattr(layer, "width", layer.rank))


def _alike(layers: Sequence[AdaptedLinear], name: str) -> list[list[AdaptedLinear]]:
    """``layers`` by the shape and type of parameter ``name``."""
    groups: dict[tuple[torch.Size, torch.dtype], list[AdaptedLinear]] = {}
    for layer in layers:
        parameter = getattr(layer, name)
        groups.setdefault((parameter.shape, parameter.dtype), []).append(layer)
    return list(groups.values())
