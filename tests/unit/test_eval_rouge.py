"""ROUGE against rouge_score used directly, and the sentences that Lsum is made of."""

from __future__ import annotations

import pytest
from rouge_score.rouge_scorer import RougeScorer

from rankadapt.errors import DataError
from rankadapt.evaluation import rouge as module
from rankadapt.evaluation.rouge import TYPES, rouge, sentences
from tests.mirrored import rows

PREDICTIONS = ["The cat sat on the mat. It was happy.", "Police arrested two men.", ""]
REFERENCES = ["A cat was sitting on a mat.\nIt seemed happy!", "Two men were arrested by the police", "x"]


def test_worked_example() -> None:
    """Lin 2004, section 3: the police and the gunman: 3 of 4 words are in order."""
    scores = rouge(["police kill the gunman"], ["police killed the gunman"], stem=False)
    assert scores == {"rouge1": 75.0, "rouge2": pytest.approx(100 / 3), "rougeL": 75.0, "rougeLsum": 75.0}
    assert rouge(["police kills the gunman"], ["police killed the gunman"])["rouge2"] == 100


def test_union_over_sentences() -> None:
    """Lin 2004, section 3.2: w1 w2 w3 w4 w5 against "w1 w2 w6 w7 w8" and "w1 w3 w8 w9 w5": the union is 4."""
    scores = rouge(["w1 w2 w6 w7 w8\nw1 w3 w8 w9 w5"], ["w1 w2 w3 w4 w5"], stem=False, split="newline")
    recall, precision = 4 / 5, 4 / 10
    assert scores["rougeLsum"] == pytest.approx(100 * 2 * recall * precision / (recall + precision))


@pytest.mark.parametrize("stem", [True, False])
def test_it_is_rouge_score(stem: bool) -> None:
    scorer = RougeScorer(list(TYPES), use_stemmer=stem)
    for split in ("newline", "pysbd"):
        divide = (lambda text: "\n".join(sentences(text))) if split == "pysbd" else str
        expected = dict.fromkeys(TYPES, 0.0)
        for prediction, reference in zip(PREDICTIONS, REFERENCES, strict=True):
            for name, score in scorer.score(divide(reference), divide(prediction)).items():
                expected[name] += 100 * score.fmeasure / 3
        assert rouge(PREDICTIONS, REFERENCES, stem=stem, split=split) == pytest.approx(expected)


def test_the_best_of_several_references_counts() -> None:
    assert rouge(["two men"], [["a dog", "two men", "x"]])["rouge1"] == 100


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Mr. Smith paid $3.50. He left.", ["Mr. Smith paid $3.50.", "He left."]),
        ("One line\nanother one\n\n", ["One line", "another one"]),
        ("No end", ["No end"]),
        ("Dr. Who said so!", ["Dr. Who said so!"]),
        ("", []),
    ],
)
def test_sentences(text: str, expected: list[str]) -> None:
    assert sentences(text) == expected


def test_the_short_way_is_pysbd_and_loses_no_word() -> None:
    texts = [t for (t,) in rows("EdinburghNLP/xsum/default/validation-*.parquet", "summary")]
    texts += [t for (t,) in rows("abisee/cnn_dailymail/3.0.0/validation-*.parquet", "highlights")]
    for text in texts:
        slow = [
            piece.strip()
            for line in text.split("\n")
            if line.strip()
            for piece in module._segmenter().segment(line.strip())
        ]
        assert sentences(text) == slow
        assert " ".join(slow).split() == text.split()


def test_what_cannot_be_scored_is_refused() -> None:
    with pytest.raises(DataError, match="one per prediction"):
        rouge(["a"], [])
    with pytest.raises(DataError, match=r"references\[0\]"):
        rouge(["a"], [[]])
