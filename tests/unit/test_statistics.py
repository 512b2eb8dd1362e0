"""Comparisons by paired seeds, against literal references and known figures."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from rankadapt.analysis.statistics import compare, holm, power, seeds_needed, verdict


def by_seed(values):
    return dict(enumerate(values))


def test_only_seeds_that_both_have_are_paired():
    found = compare({1: 3.0, 2: 5.0, 9: 100.0}, {2: 4.0, 1: 1.0, 7: -100.0})
    assert found.seeds == (1, 2)
    assert found.difference == 1.5
    assert found.a == (4.0, pytest.approx(2**0.5))


def test_the_interval_is_that_of_all_resamples():
    change = np.array([0.1, 0.5, 0.2, 0.9, 0.4])
    means = [np.mean(pick) for pick in itertools.product(change, repeat=5)]
    found = compare(by_seed(change), by_seed(np.zeros(5)))
    assert found.interval == pytest.approx(np.quantile(means, [0.025, 0.975]), abs=0.02)


def test_holm():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]


def test_seeds_needed_is_the_fewest():
    assert seeds_needed(0.5) == 34
    assert power(0.5, 33) < 0.8 <= power(0.5, 34)
    assert seeds_needed(0.0, most=50) is None


@pytest.mark.parametrize(
    ("a", "told"),
    [
        ([1.0, 1.1, 0.9, 1.2, 1.0], "holds"),
        ([-1.0, -1.1, -0.9, -1.2, -1.0], "does not hold"),
        ([1.0, -1.1, 0.9, -1.2, 0.3], "cannot be told"),
        ([1.0], "cannot be told"),
        ([1.0, 1.0], "cannot be told"),
        ([0.0, 0.0, 0.0], "cannot be told"),
    ],
)
def test_verdict(a, told):
    sentence = verdict("a beats b", compare(by_seed(a), by_seed([0.0] * len(a))))
    assert sentence.startswith(f"a beats b: {told} with n = {len(a)} seeds")


def test_a_correction_can_take_a_verdict_back():
    found = compare(by_seed([1.0, 1.1, 0.9, 1.2, 1.0]), by_seed([0.0] * 5))
    assert "cannot be told" in verdict("a beats b", found, p=0.2)


@pytest.mark.parametrize("b", [{2: 1.0}, {1: float("nan")}])
def test_what_cannot_be_compared(b):
    with pytest.raises(ValueError, match="finite figures"):
        compare({1: 1.0}, b)
