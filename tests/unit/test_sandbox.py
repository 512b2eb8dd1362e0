# ruff: noqa: E501
"""The sandbox: right programs pass, no hostile one does, and none leaves anything behind."""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path

import pytest
from hostile_programs import HOSTILE

from rankadapt.errors import EvaluationError
from rankadapt.evaluation.sandbox import (
    Limits,
    Program,
    humaneval_program,
    mbpp_program,
    missing_features,
    run_programs,
)
from rankadapt.evaluation.sandbox.inside import launch, wire

TESTS = "assert f(2) == 5"
QUICK = Limits(seconds=20.0, memory=256 << 20, cpu=5)
IMPATIENT = Limits(seconds=2.0, memory=256 << 20, cpu=1)
missing = missing_features()
pytestmark = pytest.mark.skipif(bool(missing), reason=f"no sandbox here: {missing}")


def judged(candidate: str, tests: str = TESTS, names: tuple[str, ...] = ("f",)) -> str:
    return run_programs([Program("x", candidate, tests, names)], QUICK)[0].reason


def processes() -> set[str]:
    """The command lines of what this library has started and that still runs."""
    found = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    return {line for line in found.splitlines() if "rankadapt.evaluation.sandbox.inside" in line}


class TestRight:
    @pytest.mark.parametrize(
        "value",
        ["5", "-(2 ** 200)", "0.1 + 0.2", "float('inf')", "1 + 2j", "'é\\n'", "b'\\x00'", "None", "True", "[1, [2, (3,)]]",
         "(1,)", "{1, 2}", "frozenset({1})", "{'a': [1], (1, 2): None}", "[]", "bytearray(b'x')", "int"],
    )  # fmt: skip
    def test_values_come_back_as_they_are(self, value: str) -> None:
        tests = f"got, want = f({value}), {value}\nassert got == want and type(got) is type(want)"
        assert judged("def f(x): return x", tests) == "passed"

    def test_subclasses_come_back_as_what_they_derive_from(self) -> None:
        code = "from collections import Counter, namedtuple\nP = namedtuple('P', 'a b')\ndef f(x): return Counter('aab'), P(1, 2)"
        assert judged(code, "assert f(0) == ({'a': 2, 'b': 1}, (1, 2))") == "passed"

    def test_objects_of_its_own_classes_go_to_and_fro(self) -> None:
        code = "class P:\n    def __init__(self, a): self.a = a\ndef f(ps): return sum(p.a for p in ps)"
        assert judged(code, "assert f([P(2), P(3)]) == 5", ("f", "P")) == "passed"

    def test_what_can_be_iterated_is(self) -> None:
        assert judged("def f(x): return map(int, '23')", "assert list(f(0)) == [2, 3]") == "passed"

    def test_the_standard_library_is_there(self) -> None:
        code = "import math, re, heapq, hashlib, decimal, datetime, itertools, json, random, statistics\n"
        assert judged(code + "def f(x): return int(hashlib.md5(b'x').hexdigest()[:1], 16) - 4") == "passed"

    def test_its_own_directory_is_there(self) -> None:
        code = "def f(x):\n    open('a', 'w').write('5')\n    return int(open('a').read())"
        assert judged(code) == "passed"

    def test_a_test_may_expect_an_exception(self) -> None:
        tests = "try:\n    f(0)\nexcept Exception: pass\nelse:\n    assert False"
        assert judged("def f(x): return 1 / x", tests) == "passed"

    def test_wrong_answers_and_their_reasons(self) -> None:
        assert judged("def f(x): return 6") == "wrong answer"
        assert judged("def f(x): return 1 / 0") == "ZeroDivisionError: division by zero"
        assert judged("import numpy") == "program: ModuleNotFoundError: No module named 'numpy'"
        endless = Program("x", "def f(x):\n    while True: pass", TESTS, ("f",))
        assert run_programs([endless], IMPATIENT)[0].reason in ("timeout", "its process has ended")


def test_no_hostile_program_passes_and_none_leaves_a_trace(tmp_path: Path) -> None:
    outside, secret = tmp_path / "outside", tmp_path / "secret"
    outside.mkdir(mode=0o777)
    secret.write_text("swordfish")
    secret.chmod(0o666)
    tmp_path.chmod(0o755)
    before = set(os.listdir("/tmp")) | set(os.listdir("/dev/shm"))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(0.01)
        there = {
            "secret": secret,
            "outside": outside,
            "parent": os.getpid(),
            "port": listening.getsockname()[1],
        }
        programs = []
        for name, code in HOSTILE.items():
            for key, value in there.items():
                code = code.replace(f"{{{key}}}", str(value))
            programs.append(Program(name, code, TESTS, ("f",)))
        verdicts = run_programs(programs, IMPATIENT)
        with pytest.raises(TimeoutError):
            listening.accept()
    assert len(programs) >= 80
    assert [v.name for v in verdicts if v.passed] == []
    assert secret.read_text() == "swordfish"
    assert secret.stat().st_mode & 0o777 == 0o666
    assert list(outside.iterdir()) == []
    new = (set(os.listdir("/tmp")) | set(os.listdir("/dev/shm"))) - before
    assert [name for name in new if name.startswith("rankadapt-") and "tests" not in name] == []
    assert processes() == set()


def test_a_right_program_passes_beside_the_hostile_ones() -> None:
    """That they fail is no fault of the sandbox: the same attempts at what is allowed go through."""
    assert (
        judged(
            "def f(x):\n    try:\n        open('own', 'w').write('x')\n        return 5\n    except BaseException:\n        return 0"
        )
        == "passed"
    )


class TestBenchmarks:
    def test_humaneval_calls_helpers_of_the_prompt(self) -> None:
        row = {
            "task_id": "HumanEval/x", "entry_point": "f", "prompt": "def twice(x):\n    return 2 * x\n\ndef f(x):\n",
            "test": "def check(candidate):\n    assert candidate(2) == twice(2)\n",
        }  # fmt: skip
        program = humaneval_program(row, "    return x + x\n")
        assert set(program.functions) == {"twice", "f"}
        assert run_programs([program], QUICK)[0].passed

    def test_mbpp_runs_its_setup_behind_the_program(self) -> None:
        row = {
            "task_id": 1, "code": "class N:\n    pass\ndef f(n):\n    return n.v", "test_setup_code": "root = N()\nroot.v = 5",
            "test_list": ["assert f(root) == 5"],
        }  # fmt: skip
        program = mbpp_program(row, row["code"])
        assert program.values == ("root",)
        assert run_programs([program], QUICK)[0].passed

    def test_a_candidate_cannot_take_the_place_of_a_builtin_in_the_tests(self) -> None:
        row = {
            "task_id": 1,
            "code": "def f(x):\n    return x",
            "test_setup_code": "",
            "test_list": ["assert abs(f(2) - 5) < 1"],
        }
        assert not run_programs([mbpp_program(row, "def f(x): return 0\ndef abs(x): return 0")], QUICK)[
            0
        ].passed


class TestRefusal:
    def test_without_a_feature_nothing_is_run(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A worker that stands in for one on a kernel without namespaces."""
        command = launch.interpreter("server", "main")
        code = command[command.index("-c") + 1]
        broken = "from rankadapt.evaluation.sandbox.inside import jail; jail.NEW_NS = 1; "
        swap = f"launch.interpreter = lambda *a: [x.replace('from rank', {broken!r} + 'from rank', 1) for x in plain(*a)]"
        begin, _, end = code.partition("; from ")
        stand_in = (
            f"{begin}; from {launch.HERE} import launch; plain = launch.interpreter; {swap}; from {end}"
        )
        command[command.index("-c") + 1] = stand_in
        monkeypatch.setattr(launch, "interpreter", lambda *arguments: command)
        marker = tmp_path / "ran"
        with pytest.raises(
            EvaluationError, match=r"sandbox: namespaces.*\n.*Landlock, seccomp and user namespaces"
        ):
            run_programs([Program("x", f"open({str(marker)!r}, 'w')", TESTS, ("f",))], QUICK)
        assert not marker.exists()

    def test_no_programs(self) -> None:
        assert run_programs([]) == []


class TestWire:
    @pytest.mark.parametrize("value", [object(), lambda: 0, type("X", (), {})])
    def test_what_is_no_plain_data_needs_a_keeper(self, value: object) -> None:
        with pytest.raises(wire.WireError):
            wire.encode(value)
        assert wire.decode(wire.encode([value], lambda v: 7), lambda n: ("kept", n)) == [("kept", 7)]

    @pytest.mark.parametrize(
        "data",
        [b"", b"x" + bytes(8), b"i" + (9).to_bytes(8, "big"), b"l" + (2**40).to_bytes(8, "big"), wire.encode(5) + b"x",
         b"f" + (3).to_bytes(8, "big") + b"xyz", b"k" + (3).to_bytes(8, "big") + b"abc",
         (b"l" + (1).to_bytes(8, "big")) * 200],
    )  # fmt: skip
    def test_what_is_no_message_is_refused(self, data: bytes) -> None:
        with pytest.raises(wire.WireError):
            wire.decode(data)

    def test_a_subclass_cannot_speak_for_itself(self) -> None:
        class Liar(int):
            def __eq__(self, other: object) -> bool:
                return True

            def to_bytes(self, *_: object, **__: object) -> bytes:  # type: ignore[override]
                return b"\x05"

            __hash__ = int.__hash__

        found = wire.decode(wire.encode(Liar(3)))
        assert (found, type(found)) == (3, int)
