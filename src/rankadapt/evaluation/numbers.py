"""The final number of a worked answer, compared by value (GSM8K and its like).

Where the number is looked for, in this order:
    1. after the **first** ``####``: GSM8K's own mark (Cobbe et al. 2021); what follows it is another example
    2. after the **last** "the answer is": MetaMath's mark (Yu et al. 2024), split as its evaluation does
    3. in the last ``\\boxed{}``
    4. else the last number of the text, as LLM-Adapters does (off with ``strict``)

A mark counts to the end of its line, and of an equation there its last side ("the answer is 49 - 34 = 15").
One without a number behind it is passed over.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction

from rankadapt.errors import DataError, Problem
from rankadapt.evaluation.verdicts import Verdict, accuracy

_DIGITS = r"(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)"
_PLAIN = rf"(?:{_DIGITS}(?:\.\d+)?|\.\d+)"
_LATEX = r"\\[dt]?frac\s*\{\s*(?P<top>-?\d+)\s*\}\s*\{\s*(?P<bottom>-?\d+)\s*\}"
_NUMBER = re.compile(
    r"(?:(?<![\w)])(?P<minus>[-−]))?(?:\\?[$€£]\s?(?P<inner>[-−])?)?"
    rf"(?:(?:(?P<whole>\d+)\s*)?{_LATEX}"
    r"|(?P<units>\d+)[ ](?P<over>\d+)/(?P<under>\d+)"
    rf"|(?P<plain>{_PLAIN})(?:\s?/\s?(?P<divisor>{_PLAIN}))?)"
)
_ANSWER_IS = re.compile(r"the (?:final )?answer is\s*:?", re.IGNORECASE)
_BOXED = re.compile(r"\\boxed\s*\{")


def value(text: str) -> Fraction | None:
    """The first number in ``text``, exactly; None where there is none or it divides by 0.

    Reads ``1,234.50``, ``-3``, ``$5``, ``12%`` (12: the sign is a unit), ``3/4``, ``1 1/2``, ``\\frac{3}{4}``
    and ``2\\frac{3}{4}``; units and a final dot are passed over. A minus is a sign only where no letter,
    digit or bracket stands before it.
    """
    found = _NUMBER.search(text.replace(r"\!", "").replace("{,}", ","))
    return _read(found) if found else None


def final_number(completion: str, strict: bool = False) -> Fraction | None:
    """The number that ``completion`` gives as its answer, by the order above; None where it gives none.

    Args:
        strict: do not fall back on the last number of the text.
    """
    for part in _marked(completion):
        number = value(part.rpartition("=")[2])
        if number is not None:
            return number
    if strict:
        return None
    numbers = list(_NUMBER.finditer(completion))
    return _read(numbers[-1]) if numbers else None


def same_number(one: Fraction | None, other: Fraction | None, tolerance: float = 0.0) -> bool:
    """Whether two values are equal, or no further apart than ``tolerance``; None equals nothing. LLM-Adapters
    compares with 0.001, GSM8K and MetaMath exactly."""
    return one is not None and other is not None and abs(one - other) <= Fraction(tolerance)


def number_accuracy(
    completions: Sequence[str], references: Sequence[str], tolerance: float = 0.0, strict: bool = False
) -> dict[str, float]:
    """``accuracy``, and ``unanswered``: completions without a number (wrong as well); both in percent. See
    :func:`number_verdicts`."""
    return accuracy(number_verdicts(completions, references, tolerance, strict))


def number_verdicts(
    completions: Sequence[str], references: Sequence[str], tolerance: float = 0.0, strict: bool = False
) -> list[Verdict]:
    """Of each completion, the number that it gives and whether that is the reference's.

    Args:
        completions: what the model generated, without the prompt.
        references: the right answers, bare or worked; read by the same rules.

    Raises:
        DataError: no example, not one reference per completion, or a reference without a number.
    """
    if not completions or len(completions) != len(references):
        raise DataError(
            Problem("completions", len(completions), f"{len(references)} references: one per completion")
        )
    expected = [final_number(reference) for reference in references]
    bad = [row for row, number in enumerate(expected) if number is None]
    if bad:
        raise DataError([Problem(f"references[{row}]", references[row], "there is no number") for row in bad])
    found = [final_number(completion, strict) for completion in completions]
    return [
        Verdict(None if a is None else str(a), same_number(a, b, tolerance))
        for a, b in zip(found, expected, strict=True)
    ]


def _marked(completion: str) -> list[str]:
    """The texts behind the marks, up to the end of the line."""
    parts = completion.split("####")[1:2]
    said = list(_ANSWER_IS.finditer(completion))
    boxes = list(_BOXED.finditer(completion))
    parts += [completion[said[-1].end() :]] if said else []
    parts += [completion[boxes[-1].end() :]] if boxes else []
    return [part.strip().split("\n")[0] for part in parts]


def _read(found: re.Match[str]) -> Fraction | None:
    part = {name: (text or "").replace(",", "") for name, text in found.groupdict().items()}
    try:
        if part["top"]:
            size = int(part["whole"] or 0) + Fraction(int(part["top"]), int(part["bottom"]))
        elif part["units"]:
            size = int(part["units"]) + Fraction(int(part["over"]), int(part["under"]))
        else:
            size = Fraction(part["plain"]) / Fraction(part["divisor"] or 1)
    except (ZeroDivisionError, ValueError):  # ValueError: more digits than Python reads
        return None
    return -size if part["minus"] or part["inner"] else size
