"""The final number of a worked answer, also of every answer of GSM8K and LLM-Adapters' training set."""

from __future__ import annotations

import re
import time
from fractions import Fraction

import pytest

from rankadapt.errors import DataError
from rankadapt.evaluation.numbers import final_number, number_accuracy, same_number, value
from tests.mirrored import rows


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1,234.50.", "1234.5"),
        ("$5", "5"),
        ("-$5", "-5"),
        ("$-5.25", "-5.25"),
        ("\\$18", "18"),
        ("12%", "12"),
        ("3/4", "3/4"),
        ("3 / 4", "3/4"),
        ("1 1/2 cups", "3/2"),
        ("\\frac{3}{4}", "3/4"),
        ("-\\dfrac{3}{4}", "-3/4"),
        ("2\\frac{3}{4}", "11/4"),
        ("6,\\!290,\\!000", "6290000"),
        ("10 - 4", "10"),
        (".5", "1/2"),
        ("−7", "-7"),
        ("007", "7"),
        ("42 apples", "42"),
        ("1,2", "1"),
        ("1,234,567 people", "1234567"),
    ],
)
def test_value(text: str, expected: str) -> None:
    assert value(text) == Fraction(expected)


@pytest.mark.parametrize("text", ["", "none", "1/0", "\\frac{1}{0}", "9" * 5000])
def test_no_value(text: str) -> None:
    assert value(text) is None


@pytest.mark.parametrize(
    ("completion", "expected"),
    [
        ("48/2 = <<48/2=24>>24 clips.\n#### 72", 72),
        ("#### 72\n\nQuestion: 3 cats\n#### 5", 72),
        ("So 3. The answer is: 1,234.50.", "1234.5"),
        ("The answer is 7. No: the answer is 8.", 8),
        ("I get \\boxed{\\frac{1}{2}} of 10", "1/2"),
        ("The answer is \\boxed{12}", 12),
        ("She plays with 16 - 12 = 4 kids. The answer is 4.", 4),
        ("it costs $5 and then 16-12=4 in all", 4),
        ("The answer is unclear, \\boxed{3}", 3),
        ("####\n12", 12),
        ("The answer is 49 - 34 = 15 customers.", 15),
        ("no number", None),
    ],
)
def test_final_number(completion: str, expected: float | str | None) -> None:
    assert final_number(completion) == (None if expected is None else Fraction(expected))


def test_strict_wants_a_mark() -> None:
    assert final_number("that makes 12", strict=True) is None
    assert final_number("The final answer is: 12", strict=True) == 12


def test_values_are_compared() -> None:
    assert same_number(value("0.50"), value("1/2"))
    assert not same_number(value("0.333"), value("1/3"))
    assert same_number(value("0.333"), value("1/3"), tolerance=1e-3)
    assert not same_number(None, None)


def test_accuracy() -> None:
    scores = number_accuracy(["#### 1,000", "12", "none"], ["1000.0", "#### 13", "1"])
    assert scores == {"accuracy": pytest.approx(100 / 3), "unanswered": pytest.approx(100 / 3)}


def test_what_cannot_be_scored_is_refused() -> None:
    with pytest.raises(DataError, match=r"references\[1\]"):
        number_accuracy(["1", "2"], ["1", "two"])
    with pytest.raises(DataError, match="one per completion"):
        number_accuracy([], [])


@pytest.mark.parametrize("text", ["1 " * 20000, "1," * 20000, " " * 40000, "9" * 40000, "-$" * 20000])
def test_long_texts_are_read_in_no_time(text: str) -> None:
    start = time.perf_counter()
    final_number(text + "x")
    assert time.perf_counter() - start < 2


def test_every_answer_of_gsm8k_is_what_stands_behind_its_mark() -> None:
    for (answer,) in rows("openai/gsm8k/main/*.parquet", "answer"):
        assert final_number(answer) == int(answer.split("#### ")[1].replace(",", ""))


def test_every_answer_that_llm_adapters_trains_on_is_found() -> None:
    """Read apart by the plainest pattern. (Some of these answers are wrong: not compared with the label.)"""
    found = 0
    for (text,) in rows("llm-adapters/math/default/*.parquet", "output"):
        plain = re.search(r"The answer is [$]?(-?\d+(?:\.\d+)?)%?\.$", text)
        if plain:
            found += 1
            assert final_number(text, strict=True) == Fraction(plain[1])
    assert found > 2500
