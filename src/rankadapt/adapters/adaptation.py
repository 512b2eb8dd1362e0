"""The ways to make a frozen model trainable: low-rank forms on slots, and everything else."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from rankadapt.errors import Problem


@dataclass(kw_only=True)
class Adaptation:
    """One value of the form axis.

    A form *on slots* (:class:`rankadapt.adapters.Form`) is injected by :func:`rankadapt.adapters.inject`, and
    its ranks can move. Any other changes the model itself, once, in :meth:`install`.
    """

    slotted: ClassVar[bool] = False
    """Whether it lives on slots, so that scorers and policies apply."""
    merges: ClassVar[bool] = False
    """Whether :meth:`merge` can put it into the plain weights of the base model."""
    adds_tokens: ClassVar[bool] = False
    """Whether it puts virtual tokens, or their keys and values, before every row."""


@dataclass(kw_only=True)
class Whole(Adaptation, ABC):
    """An adaptation without slots. Its ranks, if it has any, never move."""

    @abstractmethod
    def install(self, model: nn.Module, targets: Mapping[str, nn.Linear], rank: int, seed: int) -> nn.Module:
        """Adapt ``model``, whose parameters are all frozen, and require gradients of what is to be trained.

        Args:
            targets: path -> linear layer, in model order, as ``model.targets`` names them.
            rank: the rank budget per module, for those that know ranks.
            seed: of the initial values; equal on every process.

        Returns:
            The model to train: the same, changed in place, or a wrapper of it with the same forward
            signature and outputs.

        Raises:
            ModelError: the model lacks what this adaptation needs.
        """

    def problems(self, architecture: str, targets: Iterable[str]) -> list[Problem]:
        """What speaks against this adaptation for a ``transformers`` model type (``bert``, ``deberta-v2``,
        ``bart``, ``llama``): known before any weight is read."""
        return []

    def folded(self, model: nn.Module) -> dict[str, tuple[Tensor, Tensor]] | None:
        """Module path -> ``A`` (r, d_in) and ``B`` (d_out, r) with ``ΔW = B A``, if the update is of that
        kind; else None."""
        return None

    def merge(self, model: nn.Module) -> nn.Module:
        """The plain model with the adaptation in its weights.

        Raises:
            ModelError: it cannot be (:attr:`merges` is False).
        """
        raise NotImplementedError
