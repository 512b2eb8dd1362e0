"""The words of LaTeX expressions: commands, numbers, letters and signs, and what they stand for."""

from __future__ import annotations

import cmath
import math
import re
from collections.abc import Callable

from rankadapt.evaluation.arithmetic import NoValue, Value

MAX_LENGTH = 400
"""Longest answer that is compared by more than its text, in characters."""

_TOKEN = re.compile(r"\\[a-zA-Z]+|\\.|\d+(?:\.\d*)?|\.\d+|[a-zA-Z]|[-+*/^_!|(){}\[\]]")
_GREEK = (
    "alpha beta gamma delta epsilon varepsilon zeta eta theta iota kappa lambda mu nu xi rho sigma tau "
    "upsilon phi varphi chi psi omega Gamma Delta Theta Lambda Xi Sigma Upsilon Phi Psi Omega infty ell hbar"
)
NAMES = {f"\\{name}" for name in _GREEK.split()}
CONSTANTS: dict[str, Value] = {"\\pi": complex(math.pi), "e": complex(math.e), "i": 1j}
FUNCTIONS: dict[str, Callable[[complex], complex]] = {
    "\\sin": cmath.sin,
    "\\cos": cmath.cos,
    "\\tan": cmath.tan,
    "\\cot": lambda x: 1 / cmath.tan(x),
    "\\sec": lambda x: 1 / cmath.cos(x),
    "\\csc": lambda x: 1 / cmath.sin(x),
    "\\arcsin": cmath.asin,
    "\\arccos": cmath.acos,
    "\\arctan": cmath.atan,
    "\\sinh": cmath.sinh,
    "\\cosh": cmath.cosh,
    "\\tanh": cmath.tanh,
    "\\exp": cmath.exp,
    "\\ln": cmath.log,
    "\\log": lambda x: cmath.log(x) / math.log(10),
}
TIMES = {"*", "\\cdot", "\\times"}
OVER = {"/", "\\div"}
DIGITS = "0123456789."
PAIRS = {"(": ")", "{": "}", "[": "]", "|": "|"}
CLOSING = {")", "}", "]", "+", "-", "!", "^", "_", "|"} | TIMES | OVER
"""What ends a product without a sign; a bar only where one is open."""


def tokens(expression: str) -> list[str]:
    """Commands, numbers, letters and signs of ``expression``.

    Raises:
        NoValue: another character, or more than :data:`MAX_LENGTH` characters.
    """
    if len(expression) > MAX_LENGTH:
        raise NoValue("too long")
    rest = _TOKEN.sub("", expression)
    if rest.strip():
        raise NoValue(f"unknown sign {rest.strip()[0]}")
    return _TOKEN.findall(expression)
