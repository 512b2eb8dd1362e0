"""Fresh interpreters that see nothing of what is around them."""

from __future__ import annotations

import sys

ROOT = __file__.removesuffix("rankadapt/evaluation/sandbox/inside/launch.py")
HERE = __name__.rpartition(".")[0]


def interpreter(module: str, function: str, *arguments: str) -> list[str]:
    """The command that calls a function of a module beside this one, given ``arguments`` in ``sys.argv``."""
    code = f"import sys; sys.path.insert(0, sys.argv[1]); from {HERE}.{module} import {function} as go; go()"
    return [sys.executable, "-I", "-S", "-B", "-X", "utf8", "-c", code, ROOT, *arguments]
