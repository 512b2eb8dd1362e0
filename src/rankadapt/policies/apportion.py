"""Whole numbers from shares: the largest remainder. Exact: fractions, no rounding error."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from math import floor


def raised(weights: Sequence[float | Fraction], total: float | Fraction, least: int) -> list[Fraction]:
    """``total`` shared out in proportion to ``weights`` (above 0), but none gets less than ``least``: who
    would is raised to it, and the others share the rest in proportion.

    Raises:
        ValueError: ``total`` is less than ``least`` for each.
    """
    exact, rest = [Fraction(w) for w in weights], Fraction(total)
    if rest < least * len(exact):
        raise ValueError(f"{total} is not enough for {len(exact)} times {least}")
    lifted: set[int] = set()
    while True:
        others = [w for index, w in enumerate(exact) if index not in lifted]
        unit = (rest - least * len(lifted)) / sum(others) if others else Fraction(0)
        short = {i for i, w in enumerate(exact) if i not in lifted and w * unit < least}
        if not short:
            return [Fraction(least) if i in lifted else w * unit for i, w in enumerate(exact)]
        lifted |= short


def whole(quotas: Sequence[Fraction], total: int) -> list[int]:
    """The quotas in whole numbers that sum to ``total`` (the quotas' sum, rounded down): each is rounded
    down, and those with the largest remainders get one more, ties to the first."""
    floors = [floor(quota) for quota in quotas]
    by_remainder = sorted(range(len(quotas)), key=lambda i: (floors[i] - quotas[i], i))
    for index in by_remainder[: max(total - sum(floors), 0)]:
        floors[index] += 1
    return floors
