"""Whether two arms may be compared: what sets them apart besides what they do."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from statistics import mean
from typing import Any

from rankadapt.analysis.report.arms import Arm, Trial
from rankadapt.errors import Problem

CLOSE = 1e-3
"""Relative difference up to which two budgets count as one: a direction more or less of some hundreds."""


@dataclass(frozen=True)
class Difference:
    """What sets two arms apart besides their method: the ``kind`` (a key of :data:`KINDS`), and the two
    values."""

    kind: str
    a: str
    b: str

    def __str__(self) -> str:
        return f"{KINDS[self.kind]} {self.a} and {self.b}"


KINDS = {
    "budget": "budget at the end",
    "mean-budget": "budget, mean over time",
    "data": "data",
    "length": "steps x batch size",
    "tuning": "settings tried",
    "selection": "choice of the best step",
}
"""Kind of difference -> in words."""


def kinds_of(text: str | None) -> list[str]:
    """The kinds of difference that ``budget,data`` names; none for None."""
    return [kind for kind in (text or "").split(",") if kind]


def refuse_unknown_kinds(kinds: Iterable[str]) -> list[Problem]:
    """A problem for each of ``kinds`` that is no kind of difference."""
    known = ", ".join(KINDS)
    return [Problem("--despite", kind, "is no such difference", known) for kind in kinds if kind not in KINDS]


def differences(a: Arm, b: Arm, left: Trial, right: Trial) -> Iterator[Difference]:
    """What sets trial ``left`` of arm ``a`` apart from ``right`` of ``b``, besides what they do."""
    directions = all(_mean(t, lambda c: c["rank"]["total"]["final"]) for t in (left, right))
    for kind, read in _budgets(directions).items():
        one, other = _mean(left, read), _mean(right, read)
        if abs(one - other) > CLOSE * max(one, other):
            unit = "directions" if directions else "parameters"
            yield Difference(kind, f"{one:,.0f}", f"{other:,.0f} {unit}")
    for kind, text in (("data", _data), ("length", _length), ("selection", _selection)):
        shared: list[int | None] = [*sorted(left.runs.keys() & right.runs.keys())] or [None]
        pairs = [(text(left, seed), text(right, seed)) for seed in shared]
        unlike = next(((x, y) for x, y in pairs if x != y), None)
        if unlike:
            yield Difference(kind, *unlike)
    if len(a.trials) != len(b.trials):
        yield Difference("tuning", str(len(a.trials)), str(len(b.trials)))


def _budgets(directions: bool) -> dict[str, Callable[[dict[str, Any]], float]]:
    """How to read both budgets: in directions; in parameters where an arm has none."""
    if not directions:
        return {"budget": lambda content: content["trainable_parameters"]["budget"]}
    return {
        "budget": lambda content: content["rank"]["total"]["final"],
        "mean-budget": lambda content: content["rank"]["total"]["mean"],
    }


def _mean(trial: Trial, read: Callable[[dict[str, Any]], float]) -> float:
    return mean(read(record.content) or 0.0 for record in trial.runs.values())


def _content(trial: Trial, seed: int | None) -> dict[str, Any]:
    found = None if seed is None else trial.runs.get(seed)
    return (found or next(iter(trial.runs.values()))).content


def _data(trial: Trial, seed: int | None) -> str:
    found = _content(trial, seed)["provenance"]["data"]
    return ", ".join(f"{name} {str(value)[:8]}" for name, value in sorted(found.items()))


def _length(trial: Trial, seed: int | None) -> str:
    content = _content(trial, seed)
    return f"{content['steps']['taken']} x {content['config']['task']['batch_size']}"


def _selection(trial: Trial, seed: int | None) -> str:
    content = _content(trial, seed)
    share = content["config"]["task"].get("selection_share", 0)
    trained = [entry for entry in content["metrics"]["history"] if entry["step"] > 0]
    return f"of {len(trained)} evaluations" + (f" on {share:.0%} apart" if share else "")
