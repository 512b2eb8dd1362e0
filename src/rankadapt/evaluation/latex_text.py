"""The text of a LaTeX answer: what does not change its meaning taken away, and its outer structure."""

from __future__ import annotations

import re

_DROPPED = re.compile(
    r"\\left(?![a-z])|\\right(?![a-z])|\\[!,;:> ]|\\(?:quad|qquad|displaystyle|limits|,)(?![a-zA-Z])|~"
    r"|\^\s*\\circ|\^\s*\{\s*\\circ\s*\}|\\degree|°|\\?%|\\?\$|\\(?:big|Big|bigg|Bigg)[lr]?(?![a-zA-Z])"
)
_SAME = [
    (re.compile(r"\\[dtc]frac(?![a-zA-Z])"), r"\\frac"),
    (re.compile(r"\\(?:leq|leqslant)(?![a-zA-Z])|≤"), r"\\le "),
    (re.compile(r"\\(?:geq|geqslant)(?![a-zA-Z])|≥"), r"\\ge "),
    (re.compile(r"\\neq(?![a-zA-Z])|≠"), r"\\ne "),
    (re.compile(r"\\lt(?![a-zA-Z])"), "<"),
    (re.compile(r"\\gt(?![a-zA-Z])"), ">"),
    (re.compile(r"\\(?:lvert|rvert|vert|mid)(?![a-zA-Z])"), "|"),
    (re.compile(r"\\[dt]binom(?![a-zA-Z])"), r"\\binom"),
    (re.compile(r"\\mathrm(?![a-zA-Z])"), r"\\text"),
    (re.compile(r"\\(?:mathbf|mathit|boldsymbol)(?![a-zA-Z])"), ""),
    (re.compile(r"[−–]"), "-"),
    (re.compile("∞"), r"\\infty "),
    (re.compile("π"), r"\\pi "),
    (re.compile("∪"), r"\\cup "),
    (re.compile("√"), r"\\sqrt"),
    (re.compile(r"\{,\}"), ","),
]
_TEXT = re.compile(
    r"\\(?:text|textbf|textit|textrm|mbox|hbox|textnormal)\s*\{([^{}]*)\}(?:\^\s*(?:\{\d\}|\d))?"
)
_WORDS = re.compile(r"[A-Z]?[a-z]{2,}(?: [A-Za-z][a-z]*)*")
_ROW = re.compile(r"\\\\(?:\[-?[\d.]+ ?[a-z]{2}\])?")
_THOUSANDS = re.compile(r"(?<![\d.,])\d{1,3}(?:,\d{3})+(?![\d,])")
_UNITS = re.compile(
    r"(?<=[\d}])\s*(?:square |cubic |sq\.? )?(?:units?|inch(?:es)?|feet|foot|cm|km|mm|meters?|miles?|"
    r"degrees?|dollars?|cents?|percent|hours?|minutes?|seconds?|days?|years?|points?|pounds?|ounces?|mph)\.?\s*$"
)
_BEGIN = re.compile(r"\\begin\{([pbB]?matrix|array|smallmatrix)\}(?:\{[^}]*\})?(.*)\\end\{\1\}", re.DOTALL)
_NAME = re.compile(r"[a-zA-Z](?:_\w)?(?:\([a-z]\))?|\([a-z](?:,[a-z])+\)")
_PAIRS = {"(": ")", "[": "]", "{": "}"}
_CLOSED = ")]}"


def normalise(answer: str) -> str:
    """``answer`` without spacing, ``\\left`` and ``\\right``, degrees, percent and dollar signs, units, text
    beside mathematics, thousands' commas, a final dot and ``x =`` before a value; its variants of commands
    made one, and its fractions and roots with braces."""
    text = answer.strip().strip("$").strip()
    for pattern, replacement in _SAME:
        text = pattern.sub(replacement, text)
    text = _DROPPED.sub("", _ROW.sub(r"\\cr ", text))
    text = _without_words(text)
    text = _without_thousands(_UNITS.sub("", text.strip()))
    text = re.sub(r"\s+", " ", text).strip().rstrip(".").strip()
    items = split_at(_braced(_tight(text)), ",")
    return ",".join(map(_without_name, items))


def split_at(text: str, separator: str) -> list[str]:
    """``text`` cut at ``separator`` where it stands outside of all brackets; a command only where it ends."""
    pieces, depth, start, at = [], 0, 0, 0
    while at < len(text):
        depth += (text[at] in _PAIRS) - (text[at] in _CLOSED)
        if depth == 0 and text.startswith(separator, at) and _ends(text, at, separator):
            pieces.append(text[start:at].strip())
            at = start = at + len(separator)
        else:
            at += 1
    return [*pieces, text[start:].strip()]


def parts(text: str) -> tuple[str, list[str], str] | None:
    """(opening, elements, closing) of a bracket around all of ``text`` with commas in it, or of a set, or
    None. A round bracket may close as a square one: intervals."""
    opening = "\\{" if text.startswith("\\{") else text[:1]
    closing = "\\}" if text.endswith("\\}") else text[-1:]
    if opening not in ("(", "[", "\\{") or closing not in (")", "]", "\\}"):
        return None
    inside = text[len(opening) : len(text) - len(closing)]
    if not _balanced(inside):
        return None
    items = split_at(inside, ",")
    return (opening, items, closing) if len(items) > 1 or opening == "\\{" else None


def matrix(text: str) -> list[list[str]] | None:
    """Rows of entries where all of ``text`` is a matrix, else None."""
    found = _BEGIN.fullmatch(text)
    if not found:
        return None
    rows = [row for row in re.split(r"\\cr ?", found.group(2)) if row.strip()]
    return [[entry.strip() for entry in row.split("&")] for row in rows]


def _ends(text: str, at: int, separator: str) -> bool:
    following = text[at + len(separator) : at + len(separator) + 1]
    return not (separator[-1].isalpha() and following.isalpha())


def _balanced(text: str) -> bool:
    depth = 0
    for sign in text:
        depth += (sign in _PAIRS) - (sign in _CLOSED)
        if depth < 0:
            return False
    return depth == 0


def _without_words(text: str) -> str:
    """Text beside mathematics is dropped (units; "and" becomes a comma). An answer of words alone stays,
    without case and spaces; the name of a choice, ``\\text{(A)}``, is its letter."""
    words = _TEXT.sub(lambda m: m.group(1), text)
    if re.search(r"\w", _TEXT.sub("", text)) and not _WORDS.fullmatch(text):
        beside = _TEXT.sub(lambda m: "," if m.group(1).strip().lower() in ("and", "or") else " ", text)
        return re.sub(r"^\(([A-Z])\)$", r"\1", beside.strip())
    choice = re.fullmatch(r"\s*\(?([A-Za-z])\)?\s*", words)
    return choice.group(1) if choice else re.sub(r"[\s.]", "", words).lower()


def _without_thousands(text: str) -> str:
    """Commas within numbers, outside of brackets only: ``(1,234)`` is a pair."""
    return _THOUSANDS.sub(
        lambda m: m.group().replace(",", "") if _balanced(text[: m.start()]) else m.group(), text
    )


def _tight(text: str) -> str:
    """Without spaces but those that end a command before a letter."""
    return re.sub(r"(\\[a-zA-Z]+) (?=[a-zA-Z])|\s", lambda m: f"{m.group(1)} " if m.group(1) else "", text)


def _braced(text: str) -> str:
    """``\\frac12`` -> ``\\frac{1}{2}``, ``\\sqrt3`` -> ``\\sqrt{3}``, ``x^{2}`` -> ``x^2``."""
    text = re.sub(r"\\frac ?(\w)(?=[\w{\\])", r"\\frac{\1}", text)
    text = re.sub(r"(\\frac\{[^{}]*\})(\w)", r"\1{\2}", text)
    text = re.sub(r"\\sqrt ?(\w)", r"\\sqrt{\1}", text)
    return re.sub(r"([_^])\{(\w)\}", r"\1\2", text)


def _without_name(text: str) -> str:
    """``x=5`` -> ``5``; also ``f(x)=...``, ``(x,y)=(1,2)`` and ``x\\in[0,1]``: one relation after a name."""
    for relation in ("=", "\\in"):
        sides = split_at(text, relation)
        if len(sides) == 2 and _NAME.fullmatch(sides[0]):
            return sides[1]
    return text
