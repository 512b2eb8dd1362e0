"""What a study's claims came to: one sentence each, with its interval."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rankadapt.analysis.reading import Record
from rankadapt.analysis.report.arms import Arm, Trial
from rankadapt.analysis.report.comparable import differences
from rankadapt.analysis.statistics import compare, holm, verdict
from rankadapt.papers.cells import Planned, Run
from rankadapt.papers.experiments import Claim
from rankadapt.papers.found import Found


def claims(found: Found, despite: Sequence[str] = ()) -> Iterator[str]:
    """One sentence for every claim on every task, with its interval; the p-values are Holm's, over all."""
    tasks = list(dict.fromkeys((c.task, c.metric) for c in found.planned))
    asked = [(claim, task, metric) for claim in found.experiment.claims for task, metric in tasks]
    pairs = [_Pair.of(found, *one, [*despite, *found.experiment.despite]) for one in asked]
    told = [pair.p for pair in pairs if pair.p is not None]
    adjusted = iter(holm(told)) if told else iter(())
    for pair in pairs:
        yield pair.sentence(None if pair.p is None else next(adjusted))


@dataclass(frozen=True)
class _Pair:
    says: str
    a: dict[int, float]
    b: dict[int, float]
    refused: str = ""
    despite: str = ""

    @classmethod
    def of(cls, found: Found, claim: Claim, task: str, metric: str, despite: Sequence[str]) -> _Pair:
        says = f"{claim.says}, on {task} ({metric})"
        cells = [_cell(found, arm, task, metric) for arm in (claim.a, claim.b)]
        a, b = (found.values(cell) if cell else {} for cell in cells)
        if not a.keys() & b.keys():
            return cls(says, {}, {})
        left, right = (_trial(found, cell) for cell in cells if cell)
        one, other = (_arm(found, cell) for cell in cells if cell)
        apart = list(differences(one, other, left, right))
        refused = "; ".join(str(d) for d in apart if d.kind not in despite)
        spite = "; ".join(f"despite {d}" for d in apart if d.kind in despite)
        return cls(says, a, b, refused, spite)

    @property
    def p(self) -> float | None:
        return None if self.refused or not self.a else compare(self.a, self.b).p

    def sentence(self, p: float | None) -> str:
        if not self.a:
            return f"{self.says}: cannot be told, there is no seed that both have."
        if self.refused:
            return f"{self.says}: not compared: {self.refused}."
        told = verdict(self.says, compare(self.a, self.b), p=p)
        return f"{told} {self.despite.capitalize()}." if self.despite else told


def _cell(found: Found, arm: str, task: str, metric: str) -> Planned | None:
    fitting = (c for c in found.final if (c.arm, c.task, c.metric) == (arm, task, metric))
    return next(fitting, None)


def _trial(found: Found, cell: Planned) -> Trial:
    states = {seed: found.runs.get(Run(cell.overrides, seed)) for seed in found.seeds}
    records = {s: Record(p.folder, p.record) for s, p in states.items() if p and p.record and p.folder}
    return Trial(records)


def _arm(found: Found, cell: Planned) -> Arm:
    """The arm of ``cell``, with as many trials as its grid has points."""
    points = [c for c in found.planned if (c.arm, c.task, c.metric) == (cell.arm, cell.task, cell.metric)]
    return Arm(cell.arm, cell.method, {}, [_trial(found, point) for point in points])
