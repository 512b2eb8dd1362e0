"""The option that a generated text chooses, as the protocol of LLM-Adapters has it (Hu et al. 2023; used by
DoRA, HiRA and La-LoRA for their commonsense tables).

Models are trained to say "the correct answer is answer3". The **first** name of an option in the text is the
choice, in the case in which the data writes it; a text without one is wrong. Which names there are depends on
the data set, not on the example.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from rankadapt.errors import ConfigError, DataError, Problem
from rankadapt.evaluation.verdicts import Verdict, accuracy


def _numbered(word: str, count: int) -> tuple[str, ...]:
    return tuple(f"{word}{number}" for number in range(1, count + 1))


OPTIONS: dict[str, tuple[str, ...]] = {
    "boolq": ("true", "false"),
    "piqa": _numbered("solution", 2),
    "social_i_qa": _numbered("answer", 5),
    "hellaswag": _numbered("ending", 4),
    "winogrande": _numbered("option", 2),
    "ARC-Easy": _numbered("answer", 5),
    "ARC-Challenge": _numbered("answer", 5),
    "openbookqa": _numbered("answer", 5),
}
"""Data set -> names of its options. Some questions of ARC have five, so all that say "answer" look for
five."""


def chosen(text: str, dataset: str) -> str | None:
    """The first option named in ``text``, or None.

    Raises:
        ConfigError: ``dataset`` is none of :data:`OPTIONS`.
    """
    if dataset not in OPTIONS:
        known = ", ".join(OPTIONS)
        raise ConfigError(Problem("dataset", dataset, "its options are not known", f"one of {known}"))
    found = re.search("|".join(OPTIONS[dataset]), text)
    return found.group() if found else None


def choice_accuracy(texts: Sequence[str], answers: Sequence[str], dataset: str) -> dict[str, float]:
    """``accuracy``, and ``unanswered``: texts that name no option (they count as wrong); both in percent. See
    :func:`choice_verdicts`."""
    return accuracy(choice_verdicts(texts, answers, dataset))


def choice_verdicts(texts: Sequence[str], answers: Sequence[str], dataset: str) -> list[Verdict]:
    """Of each text, the option that it chooses and whether that is the right one.

    Args:
        texts: what the model generated, without the prompt.
        answers: names of the right options, e.g. ``answer3``.
        dataset: key of :data:`OPTIONS`.

    Raises:
        DataError: no example, or not one answer per text.
        ConfigError: ``dataset`` is not known.
    """
    if not texts or len(texts) != len(answers):
        raise DataError(Problem("texts", len(texts), f"{len(answers)} answers: one per text, at least one"))
    choices = [chosen(text, dataset) for text in texts]
    return [Verdict(choice, choice == answer) for choice, answer in zip(choices, answers, strict=True)]
