"""Extractive question answering, scored as SQuAD is: exact match and F1 of words, the best over the
references.

Source: Rajpurkar et al. 2016 (v1.1) and 2018 (v2.0), and what their official scorers publish of themselves.
The scorers agree but for empty answers: in v1.1 an answer without words has F1 0, in v2.0 it has 1 against an
empty reference.

Where this differs: a question without a prediction is left out of the mean by the scorer of v2.0, which
raises the score. Here it is an error. In v1.1 it counts 0, as there.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

from rankadapt.errors import DataError, Problem

Predictions = Mapping[str, str]
References = Mapping[str, Sequence[str]]

_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLES = re.compile(r"\b(a|an|the)\b")


def normalise(answer: str) -> str:
    """Lower case, without ASCII punctuation, without the words a, an and the, single spaces."""
    return " ".join(_ARTICLES.sub(" ", answer.lower().translate(_PUNCTUATION)).split())


def exact_match(prediction: str, reference: str) -> float:
    """1 where the two are the same after :func:`normalise`, else 0."""
    return float(normalise(prediction) == normalise(reference))


def f1(prediction: str, reference: str) -> float:
    """F1 of the bags of words in [0, 1]; 0 where either has no word (v1.1)."""
    predicted, expected = normalise(prediction).split(), normalise(reference).split()
    common = (Counter(predicted) & Counter(expected)).total()
    return 2 * common / (len(predicted) + len(expected)) if common else 0.0


def f1_or_both_empty(prediction: str, reference: str) -> float:
    """:func:`f1`, but 1 where neither has a word (v2.0)."""
    empty = not normalise(prediction) and not normalise(reference)
    return 1.0 if empty else f1(prediction, reference)


def squad_v1(predictions: Predictions, references: References) -> dict[str, float]:
    """Scores of SQuAD 1.1.

    Args:
        predictions: question id -> answer.
        references: question id -> right answers.

    Returns:
        ``exact_match`` and ``f1`` in percent, over all of ``references``.

    Raises:
        DataError: no reference at all, or a question without any.
    """
    _check(references, least=1)
    return {
        "exact_match": _percent(_best(exact_match, predictions, references).values()),
        "f1": _percent(_best(f1, predictions, references).values()),
    }


def squad_v2(
    predictions: Predictions,
    references: References,
    no_answer: Mapping[str, float] | None = None,
    threshold: float = 1.0,
) -> dict[str, float]:
    """Scores of SQuAD 2.0; a question whose references are all empty is one without an answer.

    Args:
        predictions: question id -> answer, empty for none.
        references: question id -> right answers.
        no_answer: question id -> how sure it is that there is no answer: a probability, or the score of the
            null answer less that of the best span (any unit, ordered).
        threshold: above this value of ``no_answer`` a prediction counts as empty. The official scorer's 1
            never acts on probabilities; give ``inf`` with score differences that were already thresholded.

    Returns:
        In percent: ``exact_match``, ``f1``; the same under ``has_answer/`` and ``no_answer/``, where there
        are such questions; with ``no_answer`` also ``best_exact`` and ``best_f1``, the highest that any
        threshold reaches, and that threshold, in the unit of ``no_answer``: ``best_exact_threshold``,
        ``best_f1_threshold``.

    Raises:
        DataError: no reference at all; a question without a prediction or without a value of ``no_answer``.
    """
    _check(references, least=0)
    _require_all("predictions", predictions, references)
    if no_answer is not None:
        _require_all("no_answer", no_answer, references)
    expected = {key: [a for a in answers if normalise(a)] or [""] for key, answers in references.items()}
    answerable = {key: answers != [""] for key, answers in expected.items()}
    raw = {
        "exact_match": _best(exact_match, predictions, expected),
        "f1": _best(f1_or_both_empty, predictions, expected),
    }
    empty = {key for key in expected if no_answer is not None and no_answer[key] > threshold}
    final = {
        name: {key: float(not answerable[key]) if key in empty else score for key, score in scores.items()}
        for name, scores in raw.items()
    }
    result = _by_kind(final, answerable)
    if no_answer is not None:
        for name, short in (("exact_match", "best_exact"), ("f1", "best_f1")):
            best = best_threshold(raw[name], predictions, no_answer, answerable)
            result[short], result[f"{short}_threshold"] = best
    return result


def best_threshold(
    scores: Mapping[str, float],
    predictions: Predictions,
    no_answer: Mapping[str, float],
    answerable: Mapping[str, bool],
) -> tuple[float, float]:
    """(highest mean score in percent, its threshold) over all thresholds on ``no_answer``.

    As in the official scorer: everything starts as empty at threshold 0, questions are taken back in the
    order of ``no_answer``, and the first maximum counts. Equal values are taken back one by one, in the order
    of ``scores``.
    """
    score = best = float(sum(not has for has in answerable.values()))
    threshold = 0.0
    for key in sorted(scores, key=lambda k: no_answer[k]):
        score += scores[key] if answerable[key] else -float(bool(predictions[key]))
        if score > best:
            best, threshold = score, no_answer[key]
    return 100 * best / len(scores), threshold


def _by_kind(scores: Mapping[str, Mapping[str, float]], answerable: Mapping[str, bool]) -> dict[str, float]:
    result = {name: _percent(values.values()) for name, values in scores.items()}
    for prefix, kind in (("has_answer", True), ("no_answer", False)):
        keys = [key for key, has in answerable.items() if has is kind]
        if keys:
            for name, values in scores.items():
                result[f"{prefix}/{name}"] = _percent(values[key] for key in keys)
    return result


def _best(
    score: Callable[[str, str], float], predictions: Predictions, references: References
) -> dict[str, float]:
    return {
        key: max(score(predictions[key], answer) for answer in answers) if key in predictions else 0.0
        for key, answers in references.items()
    }


def _percent(values: Iterable[float]) -> float:
    listed = list(values)
    return 100 * sum(listed) / len(listed)


def _check(references: References, least: int) -> None:
    if not references:
        raise DataError(Problem("references", None, "there is no question to score"))
    short = [key for key, answers in references.items() if len(answers) < least]
    if short:
        raise DataError(Problem("references", short[:3], f"{len(short)} questions have no right answer"))


def _require_all(name: str, values: Mapping[str, object], references: References) -> None:
    missing = [key for key in references if key not in values]
    if missing:
        raise DataError(Problem(name, missing[:3], f"{len(missing)} questions have no entry"))
