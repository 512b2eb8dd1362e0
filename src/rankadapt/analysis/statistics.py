"""Two methods, paired by seed: difference, interval, test, correction for many, seeds needed, verdict."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy import stats

RESAMPLES = 9999
BCA_FROM = 10
"""Fewest pairs for BCa: its skewness comes from leaving one pair out, which is noise with fewer."""


@dataclass(frozen=True)
class Comparison:
    """``a - b`` over the seeds both have; (mean, sd) of each, in the metric's unit, and the ``sd`` of the
    differences. ``interval``, ``sd`` and ``p`` are None with fewer than two pairs. With few pairs a bootstrap
    interval is too narrow: hence :func:`verdict` asks the test too."""

    seeds: tuple[int, ...]
    a: tuple[float, float]
    b: tuple[float, float]
    difference: float
    sd: float | None
    interval: tuple[float, float] | None
    p: float | None
    test: str


def compare(a: Mapping[int, float], b: Mapping[int, float], *, level: float = 0.95) -> Comparison:
    """Compare figures by seed. Raises ValueError where no seed is in both, or a figure is not finite."""
    seeds = tuple(sorted(a.keys() & b.keys()))
    left, right = (np.array([side[seed] for seed in seeds], dtype=float) for side in (a, b))
    if not seeds or not np.isfinite(left - right).all():
        raise ValueError("a comparison needs finite figures and at least one seed that both have")
    change = left - right
    p, test = _test(change)
    sd = float(change.std(ddof=1)) if len(change) > 1 else None
    interval = _interval(change, level)
    return Comparison(seeds, _spread(left), _spread(right), float(change.mean()), sd, interval, p, test)


def holm(p: Sequence[float]) -> list[float]:
    """p-values adjusted for their number (Holm 1979), in the order given."""
    order = np.argsort(p, kind="stable")
    stepped = np.asarray(p, dtype=float)[order] * np.arange(len(p), 0, -1)
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(np.maximum.accumulate(stepped), 1.0)
    return [float(value) for value in adjusted]


def power(effect: float, n: int, alpha: float = 0.05) -> float:
    """Chance that a two-sided paired t test over ``n`` >= 2 seeds finds ``effect`` (mean / sd of pairs)."""
    edge, shift = stats.t.ppf(1 - alpha / 2, n - 1), abs(effect) * n**0.5
    return float(stats.nct.sf(edge, n - 1, shift) + stats.nct.cdf(-edge, n - 1, shift))


def seeds_needed(effect: float, wanted: float = 0.8, alpha: float = 0.05, most: int = 1000) -> int | None:
    """Fewest seeds whose :func:`power` reaches ``wanted``; None where more than ``most`` would be needed."""
    found = bisect_left(range(most + 1), wanted, lo=2, key=lambda n: power(effect, n, alpha))
    return found if found <= most else None


def verdict(claim: str, found: Comparison, *, p: float | None = None, alpha: float = 0.05) -> str:
    """One sentence on ``claim``, that a exceeds b. ``p`` is the adjusted p-value where many are compared."""
    p = found.p if p is None else p
    n = len(found.seeds)
    if found.interval is None or p is None:
        return f"{claim}: cannot be told with n = {n} seeds (difference {found.difference:+.3g})."
    low, high = found.interval
    clear = p < alpha and not low <= 0 <= high
    told = ("holds" if low > 0 else "does not hold") if clear else "cannot be told"
    figures = f"{found.difference:+.3g} [{low:+.3g}, {high:+.3g}], p = {p:.2g}"
    return f"{claim}: {told} with n = {n} seeds ({figures})."


def _spread(values: np.ndarray) -> tuple[float, float]:
    return float(values.mean()), float(values.std(ddof=1)) if len(values) > 1 else float("nan")


def _test(change: np.ndarray) -> tuple[float | None, str]:
    if len(change) < 2:
        return None, "none"
    if np.ptp(change) > 1e-12:
        return float(stats.ttest_1samp(change, 0.0).pvalue), "paired t"
    if abs(change[0]) <= 1e-12:
        return 1.0, "wilcoxon"
    return 2.0 ** (1 - len(change)), "wilcoxon"  # no spread, so no t: all signs alike, exactly


def _interval(change: np.ndarray, level: float) -> tuple[float, float] | None:
    if len(change) < 2:
        return None
    if np.ptp(change) <= 1e-12:
        return float(change[0]), float(change[0])
    if len(change) < BCA_FROM:
        tail = (1 - level) / 2
        low, high = np.quantile(change[_resamples(len(change))].mean(axis=1), [tail, 1 - tail])
        return float(low), float(high)
    found = stats.bootstrap(
        (change,), np.mean, confidence_level=level, n_resamples=RESAMPLES, method="BCa", rng=0
    ).confidence_interval
    return float(found.low), float(found.high)


@cache
def _resamples(n: int) -> np.ndarray:
    """(RESAMPLES, n): which of ``n`` pairs each resample takes; the same in every comparison."""
    return np.random.default_rng(0).integers(n, size=(RESAMPLES, n))
