"""How much of an update is near zero (La-LoRA Eq. 1, Fig. 1 and 4).

    spa = log( Σ_ij 1[|P_ij| < ε] / (ε m n) ),  ε = 1e-4 (footnote 1)

``P`` is the increment ``ΔW = B A`` (m, n). Where this differs from the paper: Eq. 1 is printed without the
absolute value and would count large negative entries too; its text says "near-zero elements". With no entry
near zero it is -inf.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from torch import Tensor

from rankadapt.analysis.names import layer_and_role
from rankadapt.analysis.run_files import Factors

EPSILON = 1e-4


def near_zero(a: Tensor, b: Tensor, epsilon: float = EPSILON) -> int:
    """How many entries of ``b a`` are smaller than ``epsilon``. ``a`` (r, d_in), ``b`` (d_out, r)."""
    a = a.float()
    return sum(int((rows @ a).abs().lt(epsilon).sum()) for rows in b.float().split(1024))


def update_sparsity(factors: Factors, epsilon: float = EPSILON) -> pd.DataFrame:
    """By module: ``near_zero`` and all ``entries`` of its update, and ``sparsity``, Eq. 1."""
    rows = {name: (near_zero(a, b, epsilon), b.shape[0] * a.shape[1]) for name, (a, b) in factors.items()}
    frame = pd.DataFrame.from_dict(rows, orient="index", columns=["near_zero", "entries"])
    return _with_sparsity(frame, epsilon).rename_axis("module")


def sparsity_by_block(sparsity: pd.DataFrame, epsilon: float = EPSILON) -> pd.DataFrame:
    """The same by transformer block, La-LoRA's layer, over all entries of its modules. ``epsilon`` as it was
    for :func:`update_sparsity`."""
    blocks = [layer_and_role(name)[0] for name in sparsity.index]
    summed = sparsity[["near_zero", "entries"]].groupby(blocks).sum()
    return _with_sparsity(summed, epsilon).rename_axis("block")


def _with_sparsity(counts: pd.DataFrame, epsilon: float) -> pd.DataFrame:
    with np.errstate(divide="ignore"):
        return counts.assign(sparsity=np.log(counts["near_zero"] / (epsilon * counts["entries"])))
