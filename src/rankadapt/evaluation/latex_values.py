"""The value of a LaTeX expression, with names of variables replaced by numbers. Bounded work for any input.

    sum      = product (("+" | "-") product)*
    product  = signed (("*" | "/" | nothing) signed)*         nothing: ``4t``, ``7\\pi``, ``12\\frac{3}{5}``
    signed   = ("+" | "-")* power
    power    = atom ("!")* ("^" argument)*
    atom     = number | name | group | \\frac | \\sqrt | \\binom | function | "|" sum "|"

Rationals are exact (Fraction), everything else is complex floating point. A number that would take more than
``arithmetic.MAX_BITS`` bits is computed in floating point, where it is finite or undefined: ``9^{9^{9^9}}``
costs nothing. Depth and length are bounded as well, so that no time limit is needed, which threads could not
enforce.
"""

from __future__ import annotations

import cmath
import operator
from collections.abc import Callable
from fractions import Fraction

from rankadapt.evaluation.arithmetic import (
    NoValue,
    Value,
    absolute,
    binomial,
    bounded,
    factorial,
    power,
    root,
)
from rankadapt.evaluation.latex_tokens import (
    CLOSING,
    CONSTANTS,
    DIGITS,
    FUNCTIONS,
    NAMES,
    OVER,
    PAIRS,
    TIMES,
    tokens,
)

MAX_DEPTH = 40


def evaluate(expression: str, variable: Callable[[str], float]) -> Value:
    """Value of ``expression``.

    Args:
        expression: LaTeX without text, units or spacing commands.
        variable: gives the value of a name: a letter, a Greek letter's command, either with ``_index``.

    Raises:
        NoValue: the text is not of the grammar, or has no value (division by zero, overflow).
    """
    reader = _Reader(tokens(expression), variable)
    try:
        result = reader.sum()
    except (ArithmeticError, ValueError) as error:
        raise NoValue(str(error)) from None
    if reader.next is not None:
        raise NoValue(f"{reader.next} is left over")
    if isinstance(result, complex) and not cmath.isfinite(result):
        raise NoValue("not finite")
    return result


class _Reader:
    """Recursive descent over the tokens; every method reads one rule of the grammar and returns its value."""

    def __init__(self, items: list[str], variable: Callable[[str], float]):
        self.items, self.at, self.depth, self.variable = items, 0, 0, variable
        self.within_bars = False

    @property
    def next(self) -> str | None:
        return self.items[self.at] if self.at < len(self.items) else None

    def take(self, wanted: str | None = None) -> str:
        token = self.next
        if token is None or (wanted is not None and token != wanted):
            raise NoValue(f"{wanted or 'something'} is missing")
        self.at += 1
        return token

    def closes(self) -> bool:
        """Whether no factor can begin here. A bar closes where one is open, else it opens."""
        return self.next is None or (self.next in CLOSING and (self.next != "|" or self.within_bars))

    def sum(self) -> Value:
        total = self.product()
        while self.next in ("+", "-"):
            sign = self.take()
            term = self.product()
            total = bounded(operator.add if sign == "+" else operator.sub, total, term)
        return total

    def product(self) -> Value:
        result = self.signed()
        while self.next is not None and (self.next in TIMES | OVER or not self.closes()):
            if self.next in OVER:
                self.take()
                result = bounded(operator.truediv, result, self.signed())
            elif self.next in TIMES:
                self.take()
                result = bounded(operator.mul, result, self.signed())
            else:
                result = self.implicit(result)
        return result

    def implicit(self, left: Value) -> Value:
        """A product without a sign; not of two numbers."""
        before, token = self.items[self.at - 1], self.items[self.at]
        if before[-1] in DIGITS and token[0] in DIGITS:
            raise NoValue("two numbers in a row")
        return bounded(operator.mul, left, self.power())

    def signed(self) -> Value:
        negative = False
        while self.next in ("+", "-"):
            negative ^= self.take() == "-"
        value = self.power()
        return -value if negative else value

    def power(self) -> Value:
        value = self.atom()
        while self.next == "!":
            self.take()
            value = factorial(value)
        if self.next == "^":
            self.take()
            return power(value, self.argument())
        return value

    def argument(self) -> Value:
        """``{sum}``, or one token: of a number its first digit, as TeX reads it."""
        token = self.next or ""
        if token in ("{", "\\frac", "\\sqrt"):
            return self.atom()
        if token.isdigit():
            self.items[self.at : self.at + 1] = [token[0], token[1:]] if token[1:] else [token]
            return Fraction(self.take())
        return -self.atom() if token == "-" and self.take() else self.atom()

    def atom(self) -> Value:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise NoValue("nested too deeply")
        value = self.bare_atom()
        self.depth -= 1
        return value

    def bare_atom(self) -> Value:
        token = self.take()
        if token[0].isdigit() or token[0] == ".":
            return self.number(token)
        if token in PAIRS:
            return self.group(token)
        if token == "\\frac":
            return bounded(operator.truediv, self.argument(), self.argument())
        if token == "\\binom":
            return binomial(self.argument(), self.argument())
        if token == "\\sqrt":
            return self.radical()
        if token in FUNCTIONS:
            return self.function(token)
        return self.name(token)

    def group(self, opening: str) -> Value:
        around, self.within_bars = self.within_bars, opening == "|"
        inside = self.sum()
        self.take(PAIRS[opening])
        self.within_bars = around
        return absolute(inside) if opening == "|" else inside

    def number(self, token: str) -> Value:
        """A decimal, or a mixed number: a whole number right before a fraction of whole numbers."""
        whole = Fraction(token.rstrip("."))
        if token.isdigit() and self.next == "\\frac":
            top, bottom = self.items[self.at + 1 : self.at + 4], self.items[self.at + 4 : self.at + 7]
            if all(len(part) == 3 and part[0] == "{" and part[1].isdigit() for part in (top, bottom)):
                return bounded(operator.add, whole, self.power())
        return whole

    def name(self, token: str) -> Value:
        if not token.isalpha() and token not in NAMES and token not in CONSTANTS:
            raise NoValue(f"{token} is not known")
        if self.next == "_":
            self.take()
            token += "_" + self.index()
        return CONSTANTS.get(token) or complex(self.variable(token))

    def radical(self) -> Value:
        degree: Value = Fraction(2)
        if self.next == "[":
            self.take()
            degree = self.sum()
            self.take("]")
        return root(self.argument(), degree)

    def index(self) -> str:
        """A subscript as it is written, without braces."""
        if self.next != "{":
            return self.take()
        self.take("{")
        parts = []
        while self.next != "}":
            parts.append(self.take())
        self.take("}")
        return "".join(parts)

    def function(self, token: str) -> Value:
        """``\\sin^2 2x``: exponent, then factors up to a sign or another function; or ``\\sin(2x)``, whose
        exponent may also come after it."""
        base = exponent = None
        while self.next in ("_", "^"):
            if self.take() == "_":
                base = self.argument()
            else:
                exponent = self.argument()
        if exponent == -1 or (base is not None and token != "\\log"):
            raise NoValue(f"{token} has an inverse or an index")
        enclosed = self.next in ("(", "{")
        inside = self.atom() if enclosed else self.power()
        while not enclosed and not self.closes() and self.next not in FUNCTIONS:
            inside = bounded(operator.mul, inside, self.power())
        value = FUNCTIONS[token](complex(inside))
        if base is not None:
            value = cmath.log(inside) / cmath.log(base)
        return value if exponent is None else power(value, exponent)
