"""All 1,138 reference solutions of HumanEval and MBPP pass in the sandbox: it is in nobody's way."""

from __future__ import annotations

import time

import pytest

from rankadapt.evaluation.sandbox import (
    Limits,
    Program,
    humaneval_program,
    mbpp_program,
    missing_features,
    run_programs,
)
from tests.mirrored import records

SPECIAL = {"MBPP/367", "MBPP/533", "MBPP/596", "MBPP/927"}
"""Those that need their setup code, hand a type to the program, or count on an import of the reference."""
missing = missing_features()
pytestmark = pytest.mark.skipif(bool(missing), reason=f"no sandbox here: {missing}")


def references() -> list[Program]:
    humaneval = records("openai/openai_humaneval/*/*.parquet")
    mbpp = records("google-research-datasets/mbpp/full/*.parquet")
    return [humaneval_program(row, row["canonical_solution"]) for row in humaneval] + [
        mbpp_program(row, row["code"]) for row in mbpp
    ]


def test_some_references_pass() -> None:
    programs = references()
    some = [p for p in programs if p.name in SPECIAL] + programs[:160:8] + programs[164::40]
    assert len({p.name for p in some} & SPECIAL) == 4
    assert [v for v in run_programs(some) if not v.passed] == []


@pytest.mark.slow
def test_all_references_pass() -> None:
    programs = references()
    assert len(programs) == 164 + 974
    start = time.perf_counter()
    assert [v for v in run_programs(programs, Limits(seconds=60, cpu=30)) if not v.passed] == []
    taken = time.perf_counter() - start
    assert taken / len(programs) < 180 / 1000  # a thousand in three minutes, on two cores


@pytest.mark.slow
def test_no_reference_passes_the_tests_of_another() -> None:
    """That they pass is no accident: with an answer that is off, the same tests fail."""
    some = references()[:164:5]
    wrong = [
        Program(
            p.name, "\n".join(f"def {n}(*a, **k): return 'wrong'" for n in p.functions), p.tests, p.functions
        )
        for p in some
    ]
    assert [v.name for v in run_programs(wrong) if v.passed] == []
