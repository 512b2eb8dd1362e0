"""Programs that a model wrote: read or run, as is asked for, and what the plus sets' tests need."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError
from test_generation_tasks import answers, causal_model, mirror, options
from tiny_tokenizer import tiny_tokenizer

from rankadapt.errors import DataError
from rankadapt.evaluation.evalplus import NUMPY, humanevalplus_program, mbppplus_program, without_numpy
from rankadapt.evaluation.sandbox import missing_features, run_programs
from rankadapt.tasks import code
from rankadapt.tasks.code import Code, is_python
from rankadapt.tasks.generation import Exchange

needs_sandbox = pytest.mark.skipif(bool(missing_features()), reason=f"no sandbox: {missing_features()}")
MBPP = {
    "task_id": 1,
    "text": "a b",
    "code": "def double(x):\r\n    return 2 * x",
    "test_list": ["assert double(1) == 2", "assert double(4) == 8"],
    "test_setup_code": "",
}
RIGHT, WRONG, NOTHING = "def double(x):\n    return x + x", "def double(x):\n    return x", "def double(x:"
PLUS = """import numpy as np

def is_floats(x):
    if isinstance(x, float): return True
    if isinstance(x, np.ndarray): return x.dtype == np.float64
    return isinstance(x, (list, tuple)) and all(isinstance(i, float) for i in x)

def assertion(out, exp, atol):
    if atol == 0 and is_floats(exp): atol = 1e-6
    if out != exp and atol != 0: assert np.allclose(out, exp, rtol=1e-07, atol=atol)
    else: assert out == exp
"""


def task(**changes: Any) -> Code:
    given = options(primary="pass@1", run_generated_code=True)
    given["train"] |= {"prompt": "{text}", "target": " {code}"}
    given["evaluation"]["test"] |= {"prompt": "{text}", "benchmark": "mbpp"}
    return TypeAdapter(Code).validate_python({**given, **changes})


def asked(*texts: str, **changes: Any) -> dict[str, float]:
    return scored(task(**changes), [[text] for text in texts])


def scored(made: Code, answers: list[list[str]]) -> dict[str, float]:
    return made.metrics(made.verdicts("test", answers, [Exchange("", "", MBPP)] * len(answers)))


class TestScores:
    @needs_sandbox
    def test_programs_are_run(self) -> None:
        scores = asked(RIGHT, WRONG, NOTHING, f"Sure:\n```python\n{RIGHT}\n```")
        assert scores == {"pass@1": 50.0, "parses": 75.0}

    @needs_sandbox
    def test_several_programs_for_a_task(self) -> None:
        drawn = {"max_new_tokens": 6, "samples": 2}
        scores = scored(task(ks=[1, 2], decoding=drawn), [[RIGHT, WRONG]])
        assert scores == {"pass@1": 50.0, "pass@2": 100.0, "parses": 100.0}

    @needs_sandbox
    def test_what_is_said_of_each_program(self) -> None:
        drawn = {"max_new_tokens": 6, "samples": 3}
        made, exchange = task(decoding=drawn), Exchange("", "", MBPP)
        (verdict,) = made.verdicts("test", [[RIGHT, WRONG, NOTHING]], [exchange])
        assert verdict["parses"] == [True, True, False]
        assert verdict["passed"] == [True, False, False]
        assert verdict["reason"][0] == "passed"
        assert verdict["reason"][1] != "passed"
        assert made.reference("test", exchange) == "1"

    def test_nothing_is_run_unless_asked_for(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(code, "run_programs", lambda *_: pytest.fail("a program was run"))
        assert asked(RIGHT, WRONG, NOTHING, "", run_generated_code=False) == {"parses": 50.0}

    @pytest.mark.parametrize(
        ("primary", "means"), [("pass@1", "parses"), ("mbpp/pass@1", "mbpp/parses"), ("parses", "parses")]
    )
    def test_what_is_not_run_is_not_chosen_by_passing(self, primary: str, means: str) -> None:
        assert task(primary=primary, run_generated_code=False).primary == means
        assert task(primary=primary).primary == primary

    @pytest.mark.parametrize("text", ["", "def f(:", "x" + "(" * 500, "\0"])
    def test_what_is_no_python(self, text: str) -> None:
        assert not is_python(text)


class TestOptions:
    def test_as_many_programs_as_k_must_be_drawn(self) -> None:
        with pytest.raises(ValidationError, match=r"ks = \[1, 5\]: decoding.samples draws 1"):
            task(ks=[1, 5])

    def test_primary_is_among_ks(self) -> None:
        with pytest.raises(ValidationError, match="is not among ks"):
            task(primary="pass@10")

    def test_a_missing_column_is_named(self, tmp_path: Path) -> None:
        rows = [{k: v for k, v in MBPP.items() if k != "test_setup_code"}]
        with pytest.raises(DataError, match="has no column test_setup_code"):
            task().load(tiny_tokenizer(), mirror(tmp_path, rows))

    def test_windows_line_ends_are_not_learned(self) -> None:
        assert task().parse(MBPP, "row 0", "train").target == " def double(x):\n    return 2 * x"

    def test_prompts_may_be_longer_than_examples(self, tmp_path: Path) -> None:
        rows = [{**MBPP, "text": "a b c d e f g h", "code": "a"}]
        data = task(max_length=12, max_prompt_length=6).load(tiny_tokenizer(), mirror(tmp_path, rows))
        assert data.evaluation["test"].examples[0]["input_ids"].tolist() == [2, 7, 8, 9, 10, 11]
        assert data.evaluation["test"].examples.truncated == 1


def test_answers_are_the_same_at_every_batch_size(tmp_path: Path) -> None:
    rows = [{**MBPP, "text": " ".join("abcdefgh"[:n]), "code": "a"} for n in range(1, 9)]
    sources, model = mirror(tmp_path, rows), causal_model()
    asked_for = task(decoding={"max_new_tokens": 7, "min_new_tokens": 5})
    assert answers(asked_for, model, sources, 1) == answers(asked_for, model, sources, 8)


class TestPlus:
    def test_the_import_alone_is_replaced(self) -> None:
        tests = without_numpy(PLUS)
        assert "import numpy" not in tests
        assert tests.count("class np:") == 1
        assert without_numpy("x = 1\n") == "x = 1\n"

    def test_closeness_is_numpys(self) -> None:
        import numpy

        space: dict[str, Any] = {}
        exec(NUMPY, space)  # our own text
        ours = space["np"].allclose
        inf, nan = float("inf"), float("nan")
        values = [
            0.0,
            1.0,
            1.0 + 1e-8,
            1.1,
            -1.0,
            1e9,
            inf,
            -inf,
            nan,
            3,
            [1.0, 2.0],
            [1.0, 2.0 + 1e-9],
            [[1.0]],
        ]
        for a in values:
            for b in values:
                if a != [1.0, 2.0] or b != [[1.0]]:
                    assert ours(a, b, rtol=1e-7, atol=1e-6) == numpy.allclose(a, b, rtol=1e-7, atol=1e-6), (
                        a,
                        b,
                    )

    @needs_sandbox
    def test_programs_pass_and_fail(self) -> None:
        row = {
            "task_id": 7,
            "code": "def third(x): return x / 3",
            "test_imports": ["import math"],
            "test": PLUS
            + "\nfor inp, exp in zip([[1.0], [9.0]], [0.33333333, 3.0]):\n    assertion(third(*inp), exp, 0)",
        }
        human = {
            "task_id": "HumanEval/0",
            "prompt": 'def third(x):\n    """A third."""\n',
            "entry_point": "third",
            "test": PLUS + "\ndef check(candidate):\n    assertion(candidate(1.0), 0.33333333, 0)\n",
        }
        programs = [
            mbppplus_program(row, "def third(x): return x / 3"),
            mbppplus_program(row, "def third(x): return x / 4"),
            humanevalplus_program(human, "    return x / 3"),
            humanevalplus_program(human, "    return x"),
        ]
        assert [verdict.passed for verdict in run_programs(programs)] == [True, False, True, False]
