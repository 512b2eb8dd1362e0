"""Answers of MATH compared as LaTeX: by their normalised text, else by value (Hendrycks et al. 2021).

The benchmark's own check is equality of normalised text: it takes ``\\frac12``, ``1/2`` and ``0.5`` for one,
drops units, degrees, percent and dollar signs, and a leading ``x =``. This one does the same and then
compares values, so that ``2\\sqrt{3}`` equals ``\\sqrt{12}`` and ``(x+1)^2`` equals ``x^2+2x+1``.

    value          expressions: equal exactly, or as floats, at :data:`_POINTS` values of their variables
    (a, b] ...     intervals, points, vectors: the same brackets, element by element
    \\{a, b\\}; a, b  sets and bare lists: in any order
    \\cup           unions of the former, in any order
    matrices       entry by entry;  = < > \\le \\ge: side by side;  \\pm: both values
    \\text{...}     an answer that is only text: without case and spaces

No comparison can hang (see ``latex_values.py``), in whatever thread or process.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache

from rankadapt.errors import DataError, Problem
from rankadapt.evaluation.arithmetic import NoValue, Value
from rankadapt.evaluation.latex_text import matrix, normalise, parts, split_at
from rankadapt.evaluation.latex_tokens import MAX_LENGTH
from rankadapt.evaluation.latex_values import evaluate
from rankadapt.evaluation.verdicts import Verdict, accuracy

_POINTS = 3
_TOLERANCE = 1e-9
_RELATIONS = ("\\le", "\\ge", "\\ne", "\\in", "=", "<", ">")
_FLIPPED = {"\\le": "\\ge", "\\ge": "\\le", "<": ">", ">": "<", "=": "=", "\\ne": "\\ne"}
_MAX_PARTS = 32


def boxed(text: str) -> str | None:
    """What the last ``\\boxed{...}`` or ``\\fbox{...}`` of ``text`` holds, braces balanced; of ``\\boxed 5``
    the next word. None without one, or where it is not closed."""
    at = max(text.rfind("\\boxed"), text.rfind("\\fbox"))
    if at < 0:
        return None
    start = at + (6 if text.startswith("\\boxed", at) else 5)
    rest = text[start:].lstrip()
    if not rest.startswith("{"):
        word = re.match(r"[^\s$]+", rest)
        return word.group().rstrip(".,") if word else None
    depth = 0
    for end, sign in enumerate(rest):
        escaped = end > 0 and rest[end - 1] == "\\"
        depth += 0 if escaped else (sign == "{") - (sign == "}")
        if depth == 0:
            return rest[1:end]
    return None


def final_answer(completion: str) -> str | None:
    """The answer that ``completion`` gives: its last box, else what follows the last "the answer is" in that
    line (MetaMath's mark), without ``$`` around it and without a final dot. None where there is neither."""
    box = boxed(completion)
    if box is not None:
        return box
    said = list(re.finditer(r"the (?:final )?answer is\s*:?", completion, re.IGNORECASE))
    if not said:
        return None
    line = completion[said[-1].end() :].strip().split("\n")[0]
    return line.strip().rstrip(".").strip().strip("$").strip() or None


def same_answer(one: str | None, other: str | None) -> bool:
    """Whether two answers (the contents of their boxes) are the same. None equals nothing."""
    if one is None or other is None:
        return False
    if max(len(one), len(other)) > MAX_LENGTH:
        return one.strip() == other.strip()
    a, b = normalise(one), normalise(other)
    return bool(a) and (a == b or _same(a, b))


def math_accuracy(completions: Sequence[str], references: Sequence[str]) -> dict[str, float]:
    """``accuracy``, and ``unanswered``: completions without a marked answer (wrong as well); both in percent.
    See :func:`math_verdicts`."""
    return accuracy(math_verdicts(completions, references))


def math_verdicts(completions: Sequence[str], references: Sequence[str]) -> list[Verdict]:
    """Of each completion, the answer that it gives and whether it is the reference's.

    Args:
        completions: what the model generated, without the prompt.
        references: the right answers; a worked solution counts by its box.

    Raises:
        DataError: no example, or not one reference per completion.
    """
    if not completions or len(completions) != len(references):
        raise DataError(
            Problem("completions", len(completions), f"{len(references)} references: one per completion")
        )
    expected = [reference if (box := boxed(reference)) is None else box for reference in references]
    found = [final_answer(completion) for completion in completions]
    return [Verdict(a, same_answer(a, b)) for a, b in zip(found, expected, strict=True)]


def _same(a: str, b: str) -> bool:
    """Of two normalised texts. Structure from the outside in; then values."""
    if a == b:
        return True
    if "\\pm" in a or "\\pm" in b:
        return _same_in_any_order(_both_signs(a), _both_signs(b))
    for separator in (",", "\\cup"):
        left, right = split_at(a, separator), split_at(b, separator)
        if len(left) > 1 or len(right) > 1:
            return _same_in_any_order(left, right)
    if (rows := matrix(a)) is not None or matrix(b) is not None:
        return _same_table(rows, matrix(b))
    left_relation, right_relation = _relation(a), _relation(b)
    if left_relation or right_relation:
        return bool(left_relation and right_relation and _same_relation(left_relation, right_relation))
    return _same_group(a, b)


def _same_group(a: str, b: str) -> bool:
    """Brackets with several elements inside; anything else by value."""
    one, other = parts(a), parts(b)
    if one is None or other is None:
        return one is other and _same_value(a, b)
    (left, items, right), (other_left, other_items, other_right) = one, other
    if (left, right) != (other_left, other_right):
        return False
    if left == "\\{":
        return _same_in_any_order(items, other_items)
    return len(items) == len(other_items) and all(map(_same, items, other_items))


def _same_in_any_order(a: Sequence[str], b: Sequence[str]) -> bool:
    rest = list(b)
    if len(a) != len(rest) or len(rest) > _MAX_PARTS:
        return False
    for item in a:
        match = next((i for i, candidate in enumerate(rest) if _same(item, candidate)), None)
        if match is None:
            return False
        del rest[match]
    return True


def _same_table(a: list[list[str]] | None, b: list[list[str]] | None) -> bool:
    if a is None or b is None or [len(row) for row in a] != [len(row) for row in b]:
        return False
    return all(
        _same(x, y) for left, right in zip(a, b, strict=True) for x, y in zip(left, right, strict=True)
    )


def _both_signs(text: str) -> list[str]:
    """The elements of a bare list, those with a plus-minus as two: all of its signs plus, and all minus."""
    items = split_at(text, ",")
    signs = {item: ("+", "-") if "\\pm" in item else ("",) for item in items}
    return [item.replace("\\pm", sign).removeprefix("+") for item in items for sign in signs[item]]


def _relation(text: str) -> tuple[str, str, str] | None:
    for sign in _RELATIONS:
        sides = split_at(text, sign)
        if len(sides) == 2:
            return sides[0], sign, sides[1]
    return None


def _same_relation(a: tuple[str, str, str], b: tuple[str, str, str]) -> bool:
    if a[1] == b[1] and _same(a[0], b[0]) and _same(a[2], b[2]):
        return True
    return _FLIPPED.get(a[1]) == b[1] and _same(a[0], b[2]) and _same(a[2], b[0])


def _same_value(a: str, b: str) -> bool:
    """At every point where one has a value, the other has the same; and there is such a point."""
    defined = False
    for point in range(_POINTS):
        one, other = _value(a, point), _value(b, point)
        if (one is None) != (other is None):
            return False
        if one is not None and other is not None:
            if not _close(one, other):
                return False
            defined = True
    return defined


@lru_cache(maxsize=8192)
def _value(text: str, point: int) -> Value | None:
    try:
        return evaluate(text, lambda name: _place(name, point))
    except NoValue:
        return None


def _place(name: str, point: int) -> float:
    """A number for a variable: the same in every process, of either sign, of no special value."""
    return (zlib.crc32(f"{name} at {point}".encode()) / 2**32 - 0.5) * 4.3 + 0.0123


def _close(a: Value, b: Value) -> bool:
    if isinstance(a, Fraction) and isinstance(b, Fraction):
        return a == b
    x, y = complex(a), complex(b)
    return abs(x - y) <= _TOLERANCE * max(abs(x), abs(y), 1e-3)
