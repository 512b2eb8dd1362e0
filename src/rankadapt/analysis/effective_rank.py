"""How many directions an update really uses (HeBiRA Eq. 21, appendix E; Roy and Vetterli 2007).

| symbol | here |
|---|---|
| M | ``ΔW = B A`` of a module, at the end of the run |
| σ_i | its singular values |
| p_i = σ_i / Σ_j σ_j | ``shares`` |
| erank(M) = exp(-Σ p_i log p_i) | :func:`effective_rank` |
| u, utilisation (section 5.5.2) | ``effective / nominal`` |
| Δu = u_dynamic - u_fixed (Fig. 4) | :func:`utilisation_difference` |

The singular values of ``B A`` are those of ``R_B R_A^T`` with R from the QR of each factor: (r, r) instead of
(d_out, d_in). An update that is zero has no direction in use: 0, where the formula has 0/0.
"""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
import torch
from torch import Tensor

from rankadapt.analysis.run_files import Factors


def singular_values(a: Tensor, b: Tensor) -> Tensor:
    """Those of ``b a``, descending, float64.

    Args:
        a: (r, d_in). b: (d_out, r).
    """
    down, up = (torch.linalg.qr(factor.double(), mode="r").R for factor in (a.t(), b))
    return torch.linalg.svdvals(up @ down.t())


def effective_rank(values: Tensor) -> float:
    """HeBiRA Eq. 21 of singular ``values`` (n,), none negative: from 0 (all are zero) or 1 up to n."""
    total = values.sum()
    if not total > 0:
        return 0.0
    shares = values.double() / total
    return float(torch.special.entr(shares).sum().exp())


def effective_ranks(factors: Factors, ranks: Mapping[str, int]) -> pd.DataFrame:
    """By module, in the order of ``ranks``: ``nominal`` rank, ``effective`` rank, ``utilisation``.

    Args:
        ranks: the rank of every module; where empty, the number of directions in ``factors``. A module of
            rank 0 needs no factors; its utilisation is NaN.
    """
    nominal = dict(ranks) or {name: a.shape[0] for name, (a, _) in factors.items()}
    effective = [
        effective_rank(singular_values(*factors[name])) if name in factors else 0.0 for name in nominal
    ]
    frame = pd.DataFrame({"nominal": nominal, "effective": pd.Series(effective, list(nominal))})
    frame = frame.loc[list(nominal)]
    frame["utilisation"] = frame["effective"] / frame["nominal"].where(frame["nominal"] > 0)
    return frame.rename_axis("module")


def utilisation_difference(dynamic: pd.DataFrame, fixed: pd.DataFrame) -> pd.Series:
    """``Δu`` of every module that both of two :func:`effective_ranks` have (HeBiRA section 5.5.2)."""
    both = [name for name in dynamic.index if name in fixed.index]
    return (dynamic["utilisation"] - fixed["utilisation"]).loc[both].rename("difference")
