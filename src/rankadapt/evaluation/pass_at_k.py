"""pass@k: the chance that at least one of k programs is right, from n that were drawn (Chen et al. 2021, Eq.
1).

    pass@k = 1 - C(n - c, k) / C(n, k) = 1 - Π_{i = n-c+1..n} (1 - k / i)

n: programs drawn, c: right ones. Taking k of n without replacement is unbiased; ``1 - (1 - c/n)^k`` is not.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rankadapt.errors import DataError, Problem


def estimate(n: int, c: int, k: int) -> float:
    """pass@k of one task in [0, 1], as the product, which neither overflows nor cancels.

    Raises:
        ValueError: not ``1 <= k <= n`` or not ``0 <= c <= n``.
    """
    if not (1 <= k <= n and 0 <= c <= n):
        raise ValueError(f"pass@{k} of {c} right ones among {n} is not defined")
    if n - c < k:
        return 1.0
    return float(1.0 - np.prod(1.0 - k / np.arange(n - c + 1, n + 1)))


def pass_at_k(verdicts: Sequence[Sequence[bool]], ks: Sequence[int] = (1,)) -> dict[str, float]:
    """``pass@k`` -> mean over tasks in percent.

    Args:
        verdicts: for each task, whether each of its programs is right. Their number may differ.
        ks: values of k.

    Raises:
        DataError: no task, or fewer than k programs for one.
    """
    if not verdicts:
        raise DataError(Problem("verdicts", None, "there is no task to score"))
    least, most = min(len(task) for task in verdicts), max(ks)
    if least < most:
        raise DataError(Problem("verdicts", least, f"pass@{most} needs {most} programs for every task"))
    counts = [(len(task), sum(map(bool, task))) for task in verdicts]
    return {f"pass@{k}": 100 * float(np.mean([estimate(n, c, k) for n, c in counts])) for k in ks}
