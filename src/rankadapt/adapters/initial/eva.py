"""Init ``eva``: A starts as the directions in which a layer's inputs vary most (Paischer et al. 2024, EVA,
arXiv 2410.07170, section 3).

| symbol | here | shape |
|---|---|---|
| X, inputs of a layer over some batches, less their mean | summed as X^T X | (d_in, d_in) |
| V, right singular vectors of X | eigenvectors of X^T X, largest first | (d_in, r) |
| xi_i, explained variance | eigenvalue over their sum | |

Every module's ``xi`` compete for the directions of the budget; A is set to the winners, B to zero.

Less their mean, as the incremental SVD that the paper cites keeps it (Ross et al. 2008): otherwise the first
direction of every layer of an encoder is the mean of its inputs, which no two texts differ in. Padding does
not count.

Where this differs from the authors' code: X^T X is summed exactly over ``batches`` batches, where they run an
incremental SVD until its vectors settle. It takes d_in^2 floats per module while it lasts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import torch
from annotated_types import Gt
from torch import Tensor, nn

from rankadapt.adapters.initial.base import Init
from rankadapt.adapters.options import TokenWeights

if TYPE_CHECKING:
    from rankadapt.adapters.linear import AdaptedLinear


class Moments:
    """How the rows of all that is added lie around their mean.

    Rows are summed less the mean of the first ones, so that what is common to all does not drown the rest.
    """

    count: int = 0
    around: Tensor
    sum: Tensor
    squares: Tensor

    def add(self, rows: Tensor) -> None:
        """Count ``rows`` (n, width) in."""
        rows = rows.float()
        if not self.count:
            self.around = rows.mean(0)
            self.sum, self.squares = rows.new_zeros(rows.shape[1]), rows.new_zeros(2 * rows.shape[1:])
        rows = rows - self.around
        self.count += len(rows)
        self.sum += rows.sum(0)
        self.squares += rows.t() @ rows

    def scatter(self) -> Tensor:
        """(width, width) float64: X^T X of all rows less their mean."""
        total = self.sum.double()
        return self.squares.double() - torch.outer(total, total) / self.count


@dataclass(kw_only=True)
class EVA(Init):
    """Directions and ranks from the inputs.

    Attributes:
        batches: of the training data to look at.
        redistribute: ranks by explained variance; False leaves them even.
    """

    batches: Annotated[int, Gt(0)] = 8
    redistribute: bool = True

    @property
    def surveys(self) -> bool:
        return self.redistribute

    def __post_init__(self) -> None:
        self._found: dict[int, tuple[Tensor, Tensor]] = {}

    @torch.no_grad()
    def survey(
        self,
        model: nn.Module,
        targets: Mapping[str, nn.Linear],
        batches: Iterable[tuple[dict[str, Any], tuple[Tensor, ...]]],
    ) -> None:
        """Run ``batches`` through ``model`` and find the principal directions of the inputs of every layer in
        ``targets``.

        Args:
            batches: the model's inputs, and the masks of their tokens (see
                :class:`~rankadapt.adapters.options.TokenWeights`; none to count all).
        """
        tokens = TokenWeights()
        seen = {id(layer): Moments() for layer in targets.values()}

        def note(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            x = inputs[0]
            weights = tokens.of(x)
            seen[id(layer)].add(x.flatten(0, -2) if weights is None else x[weights.bool()])

        hooks = [layer.register_forward_pre_hook(note) for layer in targets.values()]
        training = model.training
        model.eval()
        for inputs, tokens.values in batches:
            model(**inputs)
        model.train(training)
        for hook in hooks:
            hook.remove()
        for layer, moments in seen.items():
            values, vectors = torch.linalg.eigh(moments.scatter())
            share = values.flip(0).clamp(min=0) / values.clamp(min=0).sum()
            self._found[layer] = (share.float(), vectors.flip(1).t().float())

    def ranks(
        self,
        targets: Mapping[str, nn.Linear],
        even: list[int],
        least: int,
        most: int,
        costs: Sequence[int] | None = None,
    ) -> list[int]:
        """The rank of every target, each at least ``least`` and at most ``most``.

        Args:
            costs: what a direction of each target costs; None for one. All that ``even`` costs is spent on
                the directions that explain most, as long as there is one that can still be paid for.
        """
        if not self.redistribute:
            return even
        layers = list(targets.values())
        tops = [min(most, layer.in_features, layer.out_features) for layer in layers]
        ranks = [min(least, top) for top in tops]
        shares = [
            (-float(share), row, place)
            for row, layer in enumerate(layers)
            for place, share in enumerate(self._found[id(layer)][0][: tops[row]])
            if place >= ranks[row]
        ]
        price = costs or [1] * len(layers)
        left = sum((even[row] - ranks[row]) * price[row] for row in range(len(layers)))
        for _, row, place in sorted(shares):
            if price[row] <= left and place == ranks[row]:  # none is taken without those that explain more
                ranks[row] += 1
                left -= price[row]
        return ranks

    @torch.no_grad()
    def __call__(self, layer: AdaptedLinear) -> None:
        found = self._found.get(id(layer.base))
        if found is None:
            raise RuntimeError("EVA.survey() must have seen this layer before it is adapted")
        layer.A[: layer.rank] = found[1][: layer.rank].to(layer.A)
