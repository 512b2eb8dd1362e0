"""Programs: written by the model, and run only where that is asked for (HumanEval, MBPP and their plus sets).

Sources: Chen et al. 2021, Austin et al. 2021, Liu et al. 2023. Where nothing may be run, a program is only
read: ``parses`` says how many are Python, which is no measure of what they do.
"""

from __future__ import annotations

import ast
import math
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from annotated_types import Gt, MinLen

from rankadapt.evaluation.evalplus import humanevalplus_program, mbppplus_program
from rankadapt.evaluation.pass_at_k import pass_at_k
from rankadapt.evaluation.sandbox import Limits, Program, humaneval_program, mbpp_program, run_programs
from rankadapt.tasks.generation import Exchange, TextSplit
from rankadapt.tasks.instruction import Instruction

Builder = Callable[[Mapping[str, Any], str], Program]

BENCHMARKS: dict[str, tuple[Builder, list[str]]] = {
    "humaneval": (humaneval_program, ["task_id", "prompt", "test", "entry_point"]),
    "humaneval_plus": (humanevalplus_program, ["task_id", "prompt", "test", "entry_point"]),
    "mbpp": (mbpp_program, ["task_id", "code", "test_list", "test_setup_code"]),
    "mbpp_plus": (mbppplus_program, ["task_id", "code", "test", "test_imports"]),
}
"""What makes a program with its tests of a row and a completion, and the columns that it reads."""


@dataclass(kw_only=True)
class Programs(TextSplit):
    """Programs to be written.

    Attributes:
        benchmark: whose rows they are: a key of :data:`BENCHMARKS`.
    """

    benchmark: Literal["humaneval", "humaneval_plus", "mbpp", "mbpp_plus"]


@dataclass(kw_only=True)
class Code(Instruction):
    """Programs: ``pass@k`` and ``parses`` in percent.

    Args:
        run_generated_code: run the programs, in the sandbox. If not, there is no ``pass@k``, and a
            ``primary`` that names one means ``parses``.
        ks: the values of k. More than one program per task are drawn by ``decoding.samples``.
        seconds: how long a program and its tests may take.
    """

    no_tokens = Instruction.no_tokens | {"run_generated_code", "ks", "seconds"}

    evaluation: Annotated[Mapping[str, Programs], MinLen(1)]
    run_generated_code: bool
    ks: Annotated[list[Annotated[int, Gt(0)]], MinLen(1)] = field(default_factory=lambda: [1])
    seconds: Annotated[float, Gt(0)] = 10.0

    def __post_init__(self) -> None:
        drawn = self.decoding.samples or 1
        if max(self.ks) > drawn:
            raise ValueError(f"ks = {self.ks}: decoding.samples draws {drawn} programs for a task")
        named = re.search(r"pass@(\d+)$", self.primary)
        if named and int(named[1]) not in self.ks:
            raise ValueError(f"primary = {self.primary!r} is not among ks = {self.ks}")
        if not self.run_generated_code:
            self.primary = re.sub(r"pass@\d+$", "parses", self.primary)

    def scored_columns(self, split: str) -> list[str]:
        return [] if split == "train" else BENCHMARKS[self.evaluation[split].benchmark][1]

    def programs(self, split: str, texts: Sequence[str], asked: Exchange) -> list[Program]:
        """What the model wrote for one task, with its tests."""
        build, _ = BENCHMARKS[self.evaluation[split].benchmark]
        return [build(asked.row, text) for text in texts]

    def reference(self, split: str, asked: Exchange) -> str:
        """The name of the tests."""
        return str(asked.row["task_id"])

    def verdicts(
        self, split: str, answers: Sequence[Sequence[str]], asked: Sequence[Exchange]
    ) -> list[dict[str, Any]]:
        """Of each program, whether it ``parses``; where programs are run, whether it ``passed``, and the
        ``reason``.

        Raises:
            EvaluationError: they are to be run, and there is no sandbox.
        """
        written = [self.programs(split, texts, row) for texts, row in zip(answers, asked, strict=True)]
        everything = [program for programs in written for program in programs]
        found: list[dict[str, Any]] = [
            {"parses": [is_python(program.candidate) for program in programs]} for programs in written
        ]
        if self.run_generated_code:
            limits = Limits(seconds=self.seconds, cpu=math.ceil(self.seconds))
            verdicts = iter(run_programs(everything, limits))
            for entry, programs in zip(found, written, strict=True):
                mine = [next(verdicts) for _ in programs]
                entry |= {"passed": [v.passed for v in mine], "reason": [v.reason for v in mine]}
        return found

    def metrics(self, verdicts: Sequence[Mapping[str, Any]]) -> dict[str, float]:
        """``parses``, and ``pass@k`` where programs are run."""
        read = [parses for verdict in verdicts for parses in verdict["parses"]]
        scores = {"parses": 100 * sum(read) / len(read)}
        if not self.run_generated_code:
            return scores
        return pass_at_k([verdict["passed"] for verdict in verdicts], self.ks) | scores


def is_python(program: str) -> bool:
    """Whether it can be read and says something. It is not run."""
    try:
        with warnings.catch_warnings(action="ignore"):  # escapes of the model's making
            return bool(ast.parse(program).body)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
