"""From completions to programs; the data sets' own solutions come through unharmed, in whatever wrapping."""

from __future__ import annotations

import ast

import pytest

from rankadapt.evaluation.code_text import fenced, humaneval_program, mbpp_program, truncate, whole_program
from tests.mirrored import rows

PROMPT = 'from math import sqrt\n\n\ndef helper(x):\n    return x\n\n\ndef area(r):\n    """Area."""\n'
BODY = "    return 3 * r * r\n"
WHOLE = "def area(r):\n    return 3 * r * r\n"


@pytest.mark.parametrize(
    "after",
    [
        "",
        "\ndef other():\n    pass\n",
        "\nprint(area(2))",
        "\n# Test\n",
        "\nif __name__ == '__main__':\n",
        "\nclass A:",
    ],
)
def test_a_body_ends_at_the_stops(after: str) -> None:
    assert humaneval_program(PROMPT, BODY + after, "area").rstrip() == (PROMPT + BODY).rstrip()


@pytest.mark.parametrize(
    "completion",
    [
        WHOLE,
        f"```python\n{WHOLE}```",
        f"Here it is:\n\n```python\n{WHOLE}```\nIt works because …",
        f"```\n{WHOLE}",
        f"Sure!\n{WHOLE}\nThis function returns the area.",
        f"{WHOLE}</s>garbage(",
        f"```py\nprint(1)\n```\nor\n```py\n{WHOLE}```",
        WHOLE.replace("\n", "\r\n"),
    ],
)
def test_a_whole_function_stands_alone(completion: str) -> None:
    program = humaneval_program(PROMPT, completion, "area")
    names: dict[str, object] = {}
    exec(program, names)  # this test's own text
    assert names["area"](2) == 12  # type: ignore[operator]
    assert "helper" in names
    assert "sqrt" in names
    assert program.count("def area") == 1


def test_a_fenced_body_follows_the_prompt() -> None:
    assert humaneval_program(PROMPT, f"```python\n{BODY}```", "area") == PROMPT + BODY


def test_helpers_of_a_whole_function_are_kept() -> None:
    completion = f"import math\n\ndef two():\n    return 2\n\n\n{WHOLE}\n\ndef three():\n    return 3\n"
    assert mbpp_program(completion) == completion
    assert "def three" in humaneval_program(PROMPT, completion, "area")


@pytest.mark.parametrize(
    "completion",
    [
        f"[BEGIN]\n{WHOLE}[DONE]\n[BEGIN]\nmore",
        f"Solution:\n```python\n{WHOLE}```",
        f"{WHOLE}\nThe code above",
    ],
)
def test_mbpp(completion: str) -> None:
    assert mbpp_program(completion) == WHOLE


def test_what_is_no_python_is_left_as_it_is() -> None:
    for text in ("I cannot do that.", "def f(:\n", "\0", "def f():\n    return " + "(" * 5000):
        assert mbpp_program(text) == text
    assert whole_program("def f(:\n    pass") == "def f(:\n    pass"


def test_stops_and_fences() -> None:
    assert truncate("a\nb\nc", ["\nc", "\nb"]) == "a"
    assert truncate("abc", ["x"]) == "abc"
    assert fenced("```python\na\n```\ntext\n```\nb") == ["a\n", "b"]
    assert fenced("no `code` here") == []


def test_every_solution_of_humaneval_comes_through() -> None:
    columns = ("prompt", "canonical_solution", "entry_point")
    for prompt, solution, name in rows("openai/openai_humaneval/*/test-*.parquet", *columns):
        program = ast.dump(ast.parse(prompt + solution))
        assert ast.dump(ast.parse(humaneval_program(prompt, solution, name))) == program
        whole = f"Here:\n```python\n{prompt}{solution}```\nDone."
        assert name in {
            node.name
            for node in ast.parse(humaneval_program(prompt, whole, name)).body
            if isinstance(node, ast.FunctionDef)
        }


@pytest.mark.filterwarnings("ignore:invalid escape sequence")
def test_every_solution_of_mbpp_comes_through() -> None:
    for (code,) in rows("google-research-datasets/mbpp/full/*.parquet", "code"):
        expected = ast.dump(ast.parse(code))
        assert ast.dump(ast.parse(mbpp_program(f"```python\n{code}\n```"))) == expected
        assert ast.dump(ast.parse(mbpp_program(f"[BEGIN]\n{code}\n[DONE]"))) == expected
