"""Evaluations: before, best and last."""

from __future__ import annotations

import math

from rankadapt.training.scoreboard import Scoreboard


def board(*values: float, first_step: int = 1) -> Scoreboard:
    made = Scoreboard("accuracy")
    for step, value in enumerate(values, first_step):
        made.add(step, {"accuracy": value})
    return made


def test_nothing_yet() -> None:
    made = board()
    assert (made.before, made.best, made.last) == (None, None, None)


def test_before_training_is_neither_best_nor_last() -> None:
    made = board(0.9, first_step=0)
    assert made.before == {"step": 0, "accuracy": 0.9}
    assert (made.best, made.last) == (None, None)
    assert made.add(1, {"accuracy": 0.1})
    assert made.best == made.last == {"step": 1, "accuracy": 0.1}


def test_best_is_the_highest_and_the_earliest_of_equals() -> None:
    made = board(0.5, 0.7, 0.7, 0.6)
    assert made.best == {"step": 2, "accuracy": 0.7}
    assert made.last == {"step": 4, "accuracy": 0.6}


def test_add_says_whether_it_is_the_best() -> None:
    made = board(0.5)
    assert not made.add(2, {"accuracy": 0.5})
    assert made.add(3, {"accuracy": 0.6})
    assert not Scoreboard("accuracy").add(0, {"accuracy": 1.0})


def test_nan_is_never_best() -> None:
    made = board(math.nan, 0.2, math.nan)
    assert made.best == {"step": 2, "accuracy": 0.2}
    assert made.last is not None
    assert math.isnan(made.last["accuracy"])
    assert board(math.nan).best is None


def test_an_evaluation_that_is_repeated_replaces_the_first() -> None:
    made = board(0.5, 0.6)
    made.add(2, {"accuracy": 0.4})
    assert [e["accuracy"] for e in made.entries] == [0.5, 0.4]
