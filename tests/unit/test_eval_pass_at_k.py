"""pass@k against the binomial coefficients."""

from __future__ import annotations

from fractions import Fraction
from itertools import combinations
from math import comb

import pytest

from rankadapt.errors import DataError
from rankadapt.evaluation.pass_at_k import estimate, pass_at_k


def test_it_is_the_binomial_formula() -> None:
    for n in range(1, 31):
        for c in range(n + 1):
            for k in range(1, n + 1):
                exact = 1 - Fraction(comb(n - c, k), comb(n, k))
                assert estimate(n, c, k) == pytest.approx(float(exact), abs=1e-12)


def test_it_is_the_share_of_subsets_with_a_right_one() -> None:
    verdicts = [True, False, False, True, False]
    subsets = list(combinations(verdicts, 3))
    assert estimate(5, 2, 3) == pytest.approx(sum(map(any, subsets)) / len(subsets))


def test_it_is_stable_where_the_binomials_overflow() -> None:
    exact = 1 - Fraction(comb(10**4 - 3, 100), comb(10**4, 100))
    assert estimate(10**4, 3, 100) == pytest.approx(float(exact), rel=1e-9)


def test_tasks_are_averaged_and_may_differ_in_programs() -> None:
    verdicts = [[True, False], [False, False], [True, True, True, False]]
    scores = pass_at_k(verdicts, (1, 2))
    assert scores["pass@1"] == pytest.approx(100 * (0.5 + 0 + 0.75) / 3)
    assert scores["pass@2"] == pytest.approx(100 * (1 + 0 + 1) / 3)


def test_what_is_not_defined_is_refused() -> None:
    with pytest.raises(ValueError, match="not defined"):
        estimate(3, 1, 4)
    with pytest.raises(DataError, match="needs 2 programs"):
        pass_at_k([[True]], (2,))
    with pytest.raises(DataError, match="no task"):
        pass_at_k([])
