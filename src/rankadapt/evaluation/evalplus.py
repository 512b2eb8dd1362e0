"""HumanEval+ and MBPP+ (Liu et al. 2023): the rows of the two benchmarks with many more inputs.

Their tests compare floats with ``numpy.allclose``. The interpreter that runs tests has nothing installed, so
what they use of NumPy stands in front of them in plain Python.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from typing import Any

from rankadapt.evaluation.sandbox import Program, humaneval_program, mbpp_program

NUMPY = '''
class np:
    """Of NumPy: what the tests ask of plain numbers and of nested lists of them."""

    class ndarray: pass
    class float32: pass
    class float64: pass

    @staticmethod
    def allclose(a, b, rtol=1e-05, atol=1e-08):
        if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
            return len(a) == len(b) and all(np.allclose(x, y, rtol, atol) for x, y in zip(a, b))
        if isinstance(a, (list, tuple)):
            return all(np.allclose(x, b, rtol, atol) for x in a)
        if isinstance(b, (list, tuple)):
            return all(np.allclose(a, y, rtol, atol) for y in b)
        return a == b or abs(a - b) <= atol + rtol * abs(b) < float("inf")
'''
"""Stands for ``import numpy as np``. As there, infinities are close to themselves and NaN to nothing."""


def humanevalplus_program(row: Mapping[str, Any], completion: str) -> Program:
    """A completion of ``row["prompt"]``, with the tests of HumanEval+."""
    return humaneval_program({**row, "test": without_numpy(row["test"])}, completion)


def mbppplus_program(row: Mapping[str, Any], completion: str) -> Program:
    """A program for ``row["prompt"]``, with the tests of MBPP+, which are one text."""
    tests = without_numpy("\n".join([*row["test_imports"], row["test"]]))
    return mbpp_program({**row, "test_setup_code": "", "test_list": [tests]}, completion)


def without_numpy(tests: str) -> str:
    """``tests`` with :data:`NUMPY` in the place of the import."""
    lines = tests.splitlines()
    imports = [node for node in ast.parse(tests).body if isinstance(node, ast.Import) and _numpy(node)]
    for node in imports:
        lines[node.lineno - 1] = NUMPY if node is imports[0] else ""
    return "\n".join(lines) + "\n"


def _numpy(node: ast.Import) -> bool:
    return [(alias.name, alias.asname) for alias in node.names] == [("numpy", "np")]
