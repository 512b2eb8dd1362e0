"""What is to be said of one generated text that is to name an answer, and the shares over many."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Verdict(NamedTuple):
    """``answer``: what was read in the text, None where nothing was found; ``right``: whether it is the right
    one."""

    answer: str | None
    right: bool


def accuracy(verdicts: Sequence[Verdict]) -> dict[str, float]:
    """``accuracy``, and ``unanswered``: texts in which no answer was found; both in percent. Of at least one
    text."""
    right = sum(verdict.right for verdict in verdicts)
    unanswered = sum(verdict.answer is None for verdict in verdicts)
    return {"accuracy": 100 * right / len(verdicts), "unanswered": 100 * unanswered / len(verdicts)}
