"""The option that a text chooses, also on what the models are trained to say."""

from __future__ import annotations

import pytest

from rankadapt.errors import ConfigError, DataError
from rankadapt.evaluation.choices import OPTIONS, choice_accuracy, chosen
from tests.mirrored import rows


@pytest.mark.parametrize(
    ("text", "dataset", "expected"),
    [
        ("the correct answer is answer3", "openbookqa", "answer3"),
        (" the correct answer is true\n", "boolq", "true"),
        ("false, not true", "boolq", "false"),
        ("the correct answer is solution2 and solution1", "piqa", "solution2"),
        ("the correct answer is ending4", "hellaswag", "ending4"),
        ("option1", "winogrande", "option1"),
        ("answer5", "ARC-Challenge", "answer5"),
        ("the correct answer is Answer3", "openbookqa", None),
        ("solution3", "piqa", None),
        ("", "boolq", None),
    ],
)
def test_chosen(text: str, dataset: str, expected: str | None) -> None:
    assert chosen(text, dataset) == expected


def test_accuracy_counts_the_unanswered_as_wrong() -> None:
    scores = choice_accuracy(["true", "I cannot say", "false"], ["true", "true", "true"], "boolq")
    assert scores == {"accuracy": pytest.approx(100 / 3), "unanswered": pytest.approx(100 / 3)}


def test_what_cannot_be_scored_is_refused() -> None:
    with pytest.raises(ConfigError, match="one of boolq, piqa"):
        chosen("true", "BoolQ")
    with pytest.raises(DataError, match="one per text"):
        choice_accuracy(["true"], [], "boolq")


@pytest.mark.parametrize("dataset", sorted(set(OPTIONS) - {"hellaswag", "ARC-Challenge"}))
def test_the_trained_outputs_choose_their_answers(dataset: str) -> None:
    data = rows(f"llm-adapters/commonsense/{dataset}/test-*.parquet", "output", "answer")
    assert choice_accuracy(*map(list, zip(*data, strict=True)), dataset) == {
        "accuracy": 100.0,
        "unanswered": 0.0,
    }
