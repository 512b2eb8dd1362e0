"""From what a model wrote to a program that can be tested. Nothing is executed here.

HumanEval (Chen et al. 2021): the prompt ends inside a function, the completion goes on until one of
:data:`STOPS`. MBPP (Austin et al. 2021): the completion is a whole program, up to ``[DONE]``. Models tuned on
instructions write Markdown fences, repeat the function, or talk before and after it; such text is cut down to
the code in it.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Sequence

STOPS: tuple[str, ...] = ("\nclass", "\ndef", "\n#", "\nif", "\nprint")
"""Where a completion of HumanEval ends (Chen et al. 2021, section 2.2)."""

_FENCE = re.compile(r"^[ \t]*```[^\n`]*\n(.*?)(?:^[ \t]*```|\Z)", re.DOTALL | re.MULTILINE)
_DEFINES = re.compile(r"^(?:(?:async def|def|class|import|from)\b|@)", re.MULTILINE)
_START = re.compile(rf"{_DEFINES.pattern}|^[A-Za-z_][\w, ]*=(?!=)", re.MULTILINE)
_END = re.compile(r"\[DONE\]|</s>|<\|endoftext\|>|<\|eot_id\|>")


def truncate(completion: str, stops: Sequence[str] = STOPS) -> str:
    """``completion`` up to the earliest of ``stops``."""
    ends = [at for stop in stops if (at := completion.find(stop)) >= 0]
    return completion[: min(ends, default=len(completion))]


def fenced(text: str) -> list[str]:
    """Contents of the Markdown code blocks in ``text``, in order; an open last one goes to the end."""
    return [block.group(1) for block in _FENCE.finditer(text)]


def humaneval_program(prompt: str, completion: str, entry_point: str) -> str:
    """A program that defines ``entry_point``.

    A completion that defines the function itself (fenced or not) stands alone, after what the prompt has
    above the function (imports, helpers). Any other is the function's body: cut at :data:`STOPS`, after the
    prompt.
    """
    text = completion[: _end(completion)].replace("\r\n", "\n")
    defines = re.compile(rf"^(?:async )?def {re.escape(entry_point)}\b", re.MULTILINE)
    for block in [*fenced(text), text]:
        if defines.search(block):
            return _above(prompt, defines) + (whole_program(block) if block is text else _block(block))
    blocks = fenced(text)
    return prompt + truncate(blocks[0] if blocks else text)


def mbpp_program(completion: str) -> str:
    """The program in a completion of MBPP: its first code block that defines something, or else the text from
    its first definition, import or assignment on; both as far as they are Python. The text as it is where
    there is none."""
    text = completion[: _end(completion)].replace("\r\n", "\n").removeprefix("[BEGIN]").lstrip("\n")
    blocks = fenced(text)
    for block in blocks:
        if _DEFINES.search(block):
            return _block(block)
    return whole_program(blocks[0] if blocks else text)


def whole_program(text: str) -> str:
    """``text`` from its first top-level definition, import or assignment on, as far as it is Python;
    unchanged where nothing of it is, so that the reader sees the error that the model made."""
    start = _START.search(text)
    return (start and _as_far_as_python(text[start.start() :])) or text


def _block(code: str) -> str:
    return _as_far_as_python(code) or code


def _as_far_as_python(text: str) -> str:
    """The longest beginning of ``text``, in lines, that parses; empty where none does."""
    lines = text.split("\n")
    end = len(lines)
    while end > 0:
        wrong = _first_wrong_line("\n".join(lines[:end]))
        if wrong is None:
            return "\n".join(lines[:end]).rstrip() + "\n"
        end = min(end - 1, max(wrong - 1, 0)) if wrong < end else end - 1
    return ""


def _first_wrong_line(source: str) -> int | None:
    """Line of the syntax error, None where there is none. A source that does not parse for another reason
    (null bytes, nesting) is wrong from its first line on."""
    try:
        with warnings.catch_warnings(action="ignore"):  # escapes of the model's making
            tree = ast.parse(source)
    except SyntaxError as error:
        return error.lineno or 1
    except (ValueError, RecursionError, MemoryError):
        return 1
    return None if tree.body else 1


def _above(prompt: str, defines: re.Pattern[str]) -> str:
    found = defines.search(prompt)
    return prompt[: found.start()] if found else ""


def _end(completion: str) -> int:
    found = _END.search(completion)
    return found.start() if found else len(completion)
