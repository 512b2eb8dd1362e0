"""The trusted side: runs a data set's tests, in which the program's functions are calls to another process.

The program never sees the tests, only the arguments of its calls, and all that comes back is plain data of
exact types (:mod:`wire`). So whatever it patches, forges or prints, it is the values that are compared, here.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from rankadapt.evaluation.sandbox.inside import candidate, wire

PASSED = "passed"


class CandidateError(Exception):
    """The program raised something, or its process has ended."""


class Line:
    """The two pipes to the program."""

    def __init__(self, source: int, sink: int, limit: int):
        self._source, self._sink, self._limit = source, sink, limit

    def start(self, program: str) -> None:
        """Run the program. Raises CandidateError."""
        self._say(wire.encode(program))

    def ask(self, *request: Any) -> Any:
        """The answer to a request. Raises CandidateError, or StopIteration if that is the answer."""
        return self._say(wire.encode(list(request), _number))

    def _say(self, message: bytes) -> Any:
        try:
            wire.send(self._sink, message)
            answer = wire.decode(wire.receive(self._source, self._limit), lambda n: Remote(self, n))
        except (wire.Closed, OSError):
            raise CandidateError("its process has ended") from None
        except wire.WireError as error:
            raise CandidateError(f"forged: {error}") from None
        if type(answer) is not list or len(answer) < 2 or type(answer[0]) is not bool:
            raise CandidateError("forged: no answer")
        if answer[0]:
            return answer[1]
        raise StopIteration if answer[1] == candidate.ENDED else CandidateError(f"{answer[1]}: {answer[-1]}")


class Remote:
    """A value of the program's that is no plain data. It is equal to nothing but itself."""

    def __init__(self, line: Line, number: int):
        self._line, self.number = line, number

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        return self._line.ask("call", self, list(arguments), keywords)

    def __iter__(self) -> Iterator[Any]:
        iterator = self._line.ask("iter", self)
        while True:
            try:
                yield self._line.ask("next", iterator)
            except StopIteration:
                return


def function(line: Line, name: str) -> Any:
    """The program's function ``name``."""

    def call(*arguments: Any, **keywords: Any) -> Any:
        return line.ask("call", name, list(arguments), keywords)

    return call


def verdict(line: Line, job: dict[str, Any]) -> str:
    """:data:`PASSED`, or why not."""
    try:
        line.start(job["candidate"])
    except (CandidateError, StopIteration) as error:
        return f"program: {error}"
    space: dict[str, Any] = {"__name__": "tests"}
    for name in job["functions"]:
        space[name] = function(line, name)
    try:
        for name in job["values"]:
            space[name] = line.ask("get", name)
        exec(compile(job["tests"], "<tests>", "exec"), space)
    except AssertionError:
        return "wrong answer"
    except CandidateError as error:
        return str(error)
    except BaseException as error:
        return f"{type(error).__name__}: {str(error)[:200]}"
    return PASSED


def _number(value: object) -> int:
    if type(value) is Remote:
        return value.number
    raise wire.WireError(f"not plain data: {type(value).__name__}")


def main(result: int, source: int, sink: int, limit: int, job: dict[str, Any]) -> None:
    """Judge, write the verdict to the descriptor ``result``, and end this process."""
    said = verdict(Line(source, sink, limit), job)
    os.write(result, said.encode("utf-8", "replace")[:4000])
    os._exit(0)
