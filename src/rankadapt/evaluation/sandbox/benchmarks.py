"""HumanEval's and MBPP's rows as programs with tests."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from typing import Any

from rankadapt.evaluation import code_text
from rankadapt.evaluation.sandbox.runner import Program


def humaneval_program(row: Mapping[str, Any], completion: str) -> Program:
    """A completion of ``row["prompt"]`` (Chen et al. 2021). The tests call the entry point, and some of them
    functions that the prompt defines."""
    entry = row["entry_point"]
    defined = [entry, *_defined(ast.parse(row["prompt"] + "    pass\n"))]
    tests = f"{row['test']}\ncheck({entry})\n"
    used = _names(tests)
    return Program(
        name=row["task_id"],
        candidate=code_text.humaneval_program(row["prompt"], completion, entry),
        tests=tests,
        functions=tuple(name for name in dict.fromkeys(defined) if name in used),
    )


def mbpp_program(row: Mapping[str, Any], completion: str) -> Program:
    """A program for ``row["text"]`` (Austin et al. 2021). What the tests name is what the reference defines,
    and two of them use a module that it imports. The setup code builds on the program's own classes, and so
    runs after it and beside it."""
    setup, tests = row["test_setup_code"] or "", "\n".join(row["test_list"])
    used, reference = _names(tests), ast.parse(row["code"])
    modules = [n for n in reference.body if isinstance(n, ast.Import) and used & {_bound(a) for a in n.names}]
    return Program(
        name=f"MBPP/{row['task_id']}",
        candidate=f"{code_text.mbpp_program(completion)}\n{setup}\n",
        tests="\n".join([*map(ast.unparse, modules), tests]),
        functions=tuple(name for name in _defined(reference) if name in used),
        values=tuple(name for name in _assigned(ast.parse(setup)) if name in used),
    )


def _defined(tree: ast.Module) -> list[str]:
    """Names of the functions and classes at the top."""
    return [n.name for n in tree.body if isinstance(n, ast.FunctionDef | ast.ClassDef)]


def _assigned(tree: ast.Module) -> list[str]:
    targets = [t for n in tree.body if isinstance(n, ast.Assign) for t in n.targets]
    return list(dict.fromkeys(t.id for t in targets if isinstance(t, ast.Name)))


def _bound(alias: ast.alias) -> str:
    return alias.asname or alias.name.partition(".")[0]


def _names(code: str) -> set[str]:
    return {node.id for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Name)}
