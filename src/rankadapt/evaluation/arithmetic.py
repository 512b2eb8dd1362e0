"""Arithmetic on exact fractions and complex floats whose cost is bounded: what gets too long becomes a
float."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

Value = Fraction | complex

MAX_BITS = 4096
"""Longest numerator or denominator that is kept exactly."""
_MAX_FACTORIAL = 170


class NoValue(Exception):
    """An expression that cannot be read, or that has no value (division by zero, overflow)."""


def bounded(operation: Callable[[Any, Any], Any], a: Value, b: Value) -> Value:
    """``operation(a, b)``: exact for two fractions, in floating point otherwise. The result of one operation
    on numbers of :data:`MAX_BITS` bits is short enough to be computed; longer results become floats.

    Raises:
        ArithmeticError: division by zero, overflow.
    """
    if isinstance(a, Fraction) and isinstance(b, Fraction):
        return shortened(operation(a, b))
    return operation(complex(a), complex(b))


def shortened(value: Fraction) -> Value:
    """``value``, or as a float where it is longer than :data:`MAX_BITS` bits.

    Raises:
        OverflowError: too large for a float.
    """
    return value if _bits(value) <= MAX_BITS else complex(float(value))


def power(base: Value, exponent: Value) -> Value:
    """``base ** exponent``; exact where both are rational and the result is rational and short.

    Raises:
        ArithmeticError: a power of zero that is not defined, overflow.
    """
    if isinstance(base, Fraction) and isinstance(exponent, Fraction):
        if exponent.denominator == 1 and _bits(base) * abs(exponent.numerator) <= MAX_BITS:
            return base**exponent.numerator
        if exponent.denominator > 1 and _bits(exponent) <= 16:
            exact = root(base, Fraction(exponent.denominator))
            if isinstance(exact, Fraction):
                return power(exact, Fraction(exponent.numerator))
    return complex(base) ** complex(exponent)


def root(value: Value, degree: Value) -> Value:
    """The principal root, real for an odd root of a negative number; exact where that is rational.

    Raises:
        ArithmeticError: degree 0, overflow.
    """
    n = int(degree.real) if degree in range(1, 100) else 0
    if isinstance(value, Fraction) and n:
        if value < 0 and n % 2:
            return -root(-value, degree)
        top, bottom = _whole_root(value.numerator, n), _whole_root(value.denominator, n)
        if top is not None and bottom is not None:
            return Fraction(top, bottom)
    return complex(value) ** (1 / complex(degree))


def absolute(value: Value) -> Value:
    """``|value|``."""
    return abs(value) if isinstance(value, Fraction) else complex(abs(value))


def factorial(value: Value) -> Value:
    """``value!`` of a whole number up to 170.

    Raises:
        NoValue: of another number.
    """
    if not isinstance(value, Fraction) or value.denominator != 1 or not 0 <= value <= _MAX_FACTORIAL:
        raise NoValue("a factorial of this is not computed")
    return Fraction(math.factorial(value.numerator))


def binomial(n: Value, k: Value) -> Value:
    """``n`` choose ``k`` of whole numbers up to 1000.

    Raises:
        NoValue: of other numbers.
    """
    if n not in range(1001) or k not in range(1001):
        raise NoValue("a binomial coefficient of this is not computed")
    return Fraction(math.comb(int(n.real), int(k.real)))


def _bits(value: Fraction) -> int:
    return max(value.numerator.bit_length(), value.denominator.bit_length())


def _whole_root(number: int, degree: int) -> int | None:
    """The whole number whose ``degree``-th power is ``number`` (not negative), or None."""
    if number < 0:
        return None
    low, high = 0, 1 << (number.bit_length() // degree + 1)
    while low < high:
        middle = (low + high) // 2
        low, high = (middle + 1, high) if middle**degree < number else (low, middle)
    return low if low**degree == number else None
