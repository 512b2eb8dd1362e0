"""ROUGE-1, -2, -L and -Lsum (Lin 2004), through Google's ``rouge_score`` with Porter's stemmer.

Lsum takes the union of the longest common subsequences over pairs of sentences, so its value depends on where
sentences end. Published numbers split with nltk's punkt, whose data must be downloaded; here pysbd splits,
whose rules come with it. An existing line break always ends a sentence (CNN/DailyMail's references have one
per highlight).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Literal

from rankadapt.errors import DataError, Problem

TYPES: tuple[str, ...] = ("rouge1", "rouge2", "rougeL", "rougeLsum")
Split = Literal["pysbd", "newline"]

_TERMINALS = frozenset(".!?:;。！？…")


def rouge(
    predictions: Sequence[str],
    references: Sequence[str | Sequence[str]],
    types: Sequence[str] = TYPES,
    stem: bool = True,
    split: Split = "pysbd",
) -> dict[str, float]:
    """Mean F1 in percent, by type: of what :func:`rouge_of_each` gives."""
    return means(rouge_of_each(predictions, references, types, stem, split))


def rouge_of_each(
    predictions: Sequence[str],
    references: Sequence[str | Sequence[str]],
    types: Sequence[str] = TYPES,
    stem: bool = True,
    split: Split = "pysbd",
) -> list[dict[str, float]]:
    """F1 of each prediction in percent, by type.

    Args:
        predictions: summaries.
        references: one right summary each, or several, of which the best counts, by type.
        types: ``rouge1`` … ``rouge9``, ``rougeL``, ``rougeLsum``.
        stem: strip suffixes of words of more than three letters.
        split: what ends a sentence for ``rougeLsum``: ``pysbd``, or only line breaks, ``newline``.

    Raises:
        DataError: no example, not one reference per prediction, or an empty list of references.
    """
    _check(predictions, references)
    scorer = _scorer(tuple(types), stem)
    divide = _divider(split)
    each = []
    for prediction, expected in zip(predictions, references, strict=True):
        targets = [expected] if isinstance(expected, str) else expected
        scores = scorer.score_multi([divide(target) for target in targets], divide(prediction))
        each.append({name: 100 * scores[name].fmeasure for name in types})
    return each


def means(each: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean by type of what :func:`rouge_of_each` gives, of at least one prediction."""
    return {name: sum(scores[name] for scores in each) / len(each) for name in each[0]}


def sentences(text: str) -> list[str]:
    """The sentences of an English text, by line breaks and pysbd's rules, without empty ones."""
    return [piece for line in text.split("\n") if line.strip() for piece in _of_line(line.strip())]


@lru_cache(maxsize=4096)
def _of_line(line: str) -> tuple[str, ...]:
    """pysbd takes a millisecond; a line whose only mark of an end is its last character is one sentence."""
    if not _TERMINALS.intersection(line[:-1]):
        return (line,)
    pieces = (str(piece).strip() for piece in _segmenter().segment(line))
    return tuple(piece for piece in pieces if piece)


@lru_cache(maxsize=1)
def _segmenter() -> Any:
    from pysbd import Segmenter

    return Segmenter(language="en", clean=False)


@lru_cache(maxsize=8)
def _scorer(types: tuple[str, ...], stem: bool) -> Any:
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(list(types), use_stemmer=stem)


def _divider(split: Split) -> Callable[[str], str]:
    """What puts one sentence on a line, as ``rouge_score`` wants them; other types do not see line breaks."""
    return (lambda text: "\n".join(sentences(text))) if split == "pysbd" else (lambda text: text)


def _check(predictions: Sequence[str], references: Sequence[str | Sequence[str]]) -> None:
    if not predictions or len(predictions) != len(references):
        reason = f"{len(references)} references: one per prediction, at least one"
        raise DataError(Problem("predictions", len(predictions), reason))
    empty = [row for row, expected in enumerate(references) if not isinstance(expected, str) and not expected]
    if empty:
        raise DataError([Problem(f"references[{row}]", None, "has no summary") for row in empty])
