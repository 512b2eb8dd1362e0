"""SQuAD's scores: what the official scorers publish of themselves, torchmetrics, and a literal search."""

from __future__ import annotations

import random
from collections.abc import Callable
from math import inf

import pytest
from torchmetrics.functional.text import squad as torchmetrics_squad

from rankadapt.errors import DataError
from rankadapt.evaluation.squad import (
    best_threshold,
    exact_match,
    f1,
    f1_or_both_empty,
    normalise,
    squad_v1,
    squad_v2,
)
from tests.mirrored import rows

WORDS = ["the", "a", "cat", "Cat.", "sat", "on", "mat", "U.S.", "10", "an", "-", "Norman"]


def phrase(rng: random.Random) -> str:
    return " ".join(rng.choices(WORDS, k=rng.randint(1, 5)))


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("The Eiffel Tower.", "eiffel tower"),
        ("  an  apple,\ta day ", "apple day"),
        ("U.S.A.", "usa"),
        ("theatre and another", "theatre and another"),
        ("Beyoncé’s", "beyoncé’s"),
        ("the", ""),
    ],
)
def test_normalised(answer: str, expected: str) -> None:
    assert normalise(answer) == expected


def test_worked_example() -> None:
    """Two of three predicted words are right, and two of two expected ones: F1 0.8."""
    assert f1("the Norman conquest army", "Norman conquest") == pytest.approx(0.8)
    assert exact_match("the Normans", "Normans!") == 1
    assert f1("cat cat", "cat") == pytest.approx(2 / 3)
    assert f1("the", "a") == 0
    assert f1_or_both_empty("the", "a") == 1
    assert f1_or_both_empty("the", "cat") == 0


def test_the_best_reference_counts_and_what_is_missing_counts_zero() -> None:
    references = {"1": ["in France", "France"], "2": ["1066"]}
    assert squad_v1({"1": "france"}, references) == {"exact_match": 50.0, "f1": 50.0}


def test_v1_agrees_with_torchmetrics() -> None:
    """But for answers without a word, for which torchmetrics follows v2.0."""
    rng = random.Random(0)
    answers = {str(i): ["cat " + phrase(rng) for _ in range(rng.randint(1, 3))] for i in range(300)}
    predictions = {key: phrase(rng) for key in answers}
    rows = [{"id": k, "prediction_text": v} for k, v in predictions.items()]
    targets = [{"id": k, "answers": {"text": v, "answer_start": [0] * len(v)}} for k, v in answers.items()]
    expected = {name: float(value) for name, value in torchmetrics_squad(rows, targets).items()}
    assert squad_v1(predictions, answers) == pytest.approx(expected, abs=1e-3)


def test_v2_scores_both_kinds_apart() -> None:
    references = {"1": ["red car", "car"], "2": ["blue"], "3": [], "4": [], "5": ["the"]}
    predictions = {"1": "red bus", "2": "", "3": "", "4": "green", "5": ""}
    scores = squad_v2(predictions, references)
    assert scores["has_answer/exact_match"] == 0
    assert scores["has_answer/f1"] == pytest.approx(25)
    assert scores["no_answer/exact_match"] == scores["no_answer/f1"] == pytest.approx(200 / 3)
    assert scores["exact_match"] == pytest.approx(40)
    assert scores["f1"] == pytest.approx(50)
    assert "best_f1" not in scores


def test_v2_threshold_empties_unsure_answers() -> None:
    references: dict[str, list[str]] = {"1": ["car"], "2": []}
    predictions, sure = {"1": "car", "2": "bus"}, {"1": 0.2, "2": 0.9}
    assert squad_v2(predictions, references, sure)["exact_match"] == 50
    assert squad_v2(predictions, references, sure, threshold=0.5)["exact_match"] == 100
    assert squad_v2(predictions, references, sure, threshold=0.1)["exact_match"] == 50
    assert squad_v2(predictions, references, sure, threshold=0.9)["exact_match"] == 50  # above, not at


def test_best_threshold_is_the_best_of_all() -> None:
    rng = random.Random(1)
    for _ in range(50):
        keys = [str(i) for i in range(rng.randint(1, 12))]
        answerable = {key: rng.random() < 0.5 for key in keys}
        predictions = {key: rng.choice(["", "x"]) for key in keys}
        scores = {
            k: (rng.random() if predictions[k] else 0.0) if answerable[k] else float(not predictions[k])
            for k in keys
        }
        unsure = {key: rng.uniform(-5, 5) for key in keys}

        def mean(threshold: float) -> float:
            kept = [scores[k] if unsure[k] <= threshold else float(not answerable[k]) for k in keys]  # noqa: B023
            return 100 * sum(kept) / len(kept)

        best, threshold = best_threshold(scores, predictions, unsure, answerable)
        assert best == pytest.approx(max(mean(t) for t in [-inf, *unsure.values()]))
        assert threshold == 0.0 or mean(threshold) == pytest.approx(best)


def test_best_thresholds_are_reported() -> None:
    references: dict[str, list[str]] = {"1": ["car"], "2": [], "3": ["bus stop"]}
    predictions = {"1": "car", "2": "bus", "3": "bus"}
    scores = squad_v2(predictions, references, {"1": -3.0, "2": 4.0, "3": 1.0}, threshold=inf)
    assert scores["exact_match"] == pytest.approx(100 / 3)
    assert (scores["best_exact"], scores["best_exact_threshold"]) == (pytest.approx(200 / 3), -3.0)
    assert (scores["best_f1"], scores["best_f1_threshold"]) == (pytest.approx(100 * 8 / 9), 1.0)


def test_what_cannot_be_scored_is_refused() -> None:
    with pytest.raises(DataError, match="no question"):
        squad_v1({}, {})
    with pytest.raises(DataError, match="no right answer"):
        squad_v1({"1": "x"}, {"1": []})
    with pytest.raises(DataError, match="1 questions have no entry"):
        squad_v2({"1": "x"}, {"1": [], "2": []})
    with pytest.raises(DataError, match="no_answer"):
        squad_v2({"1": "x"}, {"1": []}, {})


@pytest.mark.parametrize(("name", "score"), [("squad", squad_v1), ("squad_v2", squad_v2)])
def test_any_reference_of_real_questions_is_right(name: str, score: Callable[..., dict[str, float]]) -> None:
    data = rows(f"rajpurkar/{name}/*/validation-*.parquet", "id", "answers")
    references = {key: list(answers["text"]) for key, answers in data}
    for place in (0, -1):
        predictions = {key: (answers or [""])[place] for key, answers in references.items()}
        assert set(score(predictions, references).values()) == {100.0}
