"""MATH answers: the table of what is equal and what is not, sympy as a judge, and input that means harm."""

from __future__ import annotations

import random
import threading
import time

import pytest

from rankadapt.errors import DataError
from rankadapt.evaluation.arithmetic import NoValue
from rankadapt.evaluation.latex import boxed, final_answer, math_accuracy, same_answer
from rankadapt.evaluation.latex_text import normalise
from rankadapt.evaluation.latex_values import evaluate
from tests.mirrored import rows
from tests.unit.latex_pairs import DIFFERENT, EQUAL, HOSTILE


@pytest.mark.parametrize(("one", "other"), EQUAL)
def test_equal(one: str, other: str) -> None:
    assert same_answer(one, other)
    assert same_answer(other, one)


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_different(one: str, other: str) -> None:
    assert not same_answer(one, other)
    assert not same_answer(other, one)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (r"so \boxed{420}.$$", "420"),
        (r"\boxed{1} then \boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\boxed{\left\{ 1, 2 \right\}}", r"\left\{ 1, 2 \right\}"),
        (r"\boxed{\{1,2\}}", r"\{1,2\}"),
        (r"\fbox{3}", "3"),
        (r"$\boxed 5$.", "5"),
        (r"\boxed{a", None),
        (r"\boxed", None),
        ("42", None),
    ],
)
def test_boxed(text: str, expected: str | None) -> None:
    assert boxed(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (r"The answer is: $\frac{1}{2}$.", r"\frac{1}{2}"),
        ("the answer is 3.\nNext", "3"),
        (r"The answer is: 7, or \boxed{8}", "8"),
        ("The answer is: 1. The answer is: 2", "2"),
        ("The answer is:", None),
        ("7", None),
    ],
)
def test_final_answer(text: str, expected: str | None) -> None:
    assert final_answer(text) == expected


def test_every_reference_of_math_equals_itself_and_no_other_than_its_like() -> None:
    answers = [boxed(solution) for (solution,) in rows("EleutherAI/hendrycks_math/*/*.parquet", "solution")]
    assert all(answer and same_answer(answer, answer) for answer in answers)
    assert all(same_answer(answer, f" {answer} ") for answer in answers)
    texts = [normalise(answer or "") for answer in answers]
    for a, text in zip(answers, texts, strict=True):
        for b, other in zip(answers, texts, strict=True):
            assert same_answer(a, b) == (text == other), (a, b)


def test_accuracy() -> None:
    scores = math_accuracy([r"\boxed{1/2}", "The answer is: 3", "4"], [r"Thus \boxed{0.5}.", "2", "4"])
    assert scores == {"accuracy": pytest.approx(100 / 3), "unanswered": pytest.approx(100 / 3)}
    with pytest.raises(DataError, match="one per completion"):
        math_accuracy(["1"], [])


def test_values_are_those_of_sympy() -> None:
    """Random expressions, written by sympy, read by us, against sympy's own value."""
    import sympy

    x, y = sympy.symbols("x y", real=True)
    rng = random.Random(0)
    places = {"x": 0.7, "y": 1.9}

    def expression(depth: int) -> sympy.Expr:
        if depth == 0:
            return rng.choice([x, y, sympy.pi, sympy.Rational(rng.randint(1, 9), rng.randint(1, 9))])
        a, b = expression(depth - 1), expression(depth - 1)
        forms = [
            a + b,
            a - b,
            a * b,
            a / (b**2 + 1),
            sympy.sqrt(a**2 + 1),
            a**2,
            sympy.sin(a),
            sympy.exp(-(b**2)),
        ]
        return rng.choice([*forms, sympy.cos(a) ** 2, sympy.Abs(a), sympy.log(a**2 + 2), sympy.cbrt(b**2)])

    for _ in range(60):
        wanted = expression(3)
        text = normalise(sympy.latex(wanted, ln_notation=True))
        expected = complex(wanted.subs({x: places["x"], y: places["y"]}).evalf())
        assert complex(evaluate(text, places.__getitem__)) == pytest.approx(expected, rel=1e-9), text


@pytest.mark.parametrize(
    "text", ["", "(", "1)", "1 2", r"\foo", "1/0", "x^", r"\frac{1}", "#", "0^{-1}", "171!"]
)
def test_what_has_no_value(text: str) -> None:
    with pytest.raises(NoValue):
        evaluate(text, lambda name: 1.0)


@pytest.mark.parametrize("hostile", HOSTILE, ids=lambda text: text[:20])
def test_no_input_holds_it_up(hostile: str) -> None:
    """Also in a thread, where a time limit by signals would not work."""
    verdicts: list[bool] = []

    def compare() -> None:
        for other in (hostile[::-1], hostile + "1", "x+" + hostile, "1"):
            verdicts.append(same_answer(hostile, other))
            verdicts.append(same_answer(other, hostile))

    start = time.perf_counter()
    thread = threading.Thread(target=compare, daemon=True)
    thread.start()
    thread.join(timeout=10)
    assert len(verdicts) == 8
    assert time.perf_counter() - start < 5
