"""The jailed side: runs a program and answers calls to its functions. Nothing here is trusted.

Requests are lists: ``["call", name or reference, arguments, keywords]``, ``["get", name]``, ``["next",
reference]``. Answers are ``[True, value]`` or ``[False, name of the exception, its text]``.
"""

from __future__ import annotations

import os
from typing import Any

from rankadapt.evaluation.sandbox.inside import wire

ENDED = "StopIteration"


class Kept:
    """Values that are no plain data stay here; the other side has their numbers."""

    def __init__(self) -> None:
        self.values: list[object] = []

    def keep(self, value: object) -> int:
        """Its number."""
        self.values.append(value)
        return len(self.values) - 1

    def find(self, number: int) -> object:
        """The value with ``number``. Raises IndexError."""
        return self.values[number]


def serve(source: int, sink: int, limit: int) -> None:
    """Runs the program that comes as the first message, then answers requests until there are no more."""
    kept, space = Kept(), {"__name__": "candidate"}
    program = wire.decode(wire.receive(source, limit))
    _answer(sink, kept, lambda: exec(compile(program, "<candidate>", "exec"), space))
    while True:
        try:
            request = wire.decode(wire.receive(source, limit), kept.find)
        except wire.Closed:
            os._exit(0)
        _answer(sink, kept, lambda request=request: _done(request, space, kept))


def _answer(sink: int, kept: Kept, act: Any) -> None:
    try:
        said = wire.encode([True, act()], kept.keep)
    except BaseException as error:  # whatever a program raises is its answer
        said = wire.encode([False, type(error).__name__, str(error)[:200]])
    wire.send(sink, said)


def _done(request: list, space: dict[str, Any], kept: Kept) -> object:
    kind, target = request[0], request[1]
    if kind == "get":
        return space[target]
    if kind == "next":
        return next(target)
    if kind == "iter":
        return _Iterator(iter(target))
    function = space[target] if isinstance(target, str) else target
    return function(*request[2], **request[3])


class _Iterator:
    """Any iterator, as something that is no plain data."""

    def __init__(self, inner: Any):
        self.inner = inner

    def __iter__(self) -> _Iterator:
        return self

    def __next__(self) -> object:
        return next(self.inner)
