"""The report on any runs: every arm of every study with its figures, and what holds between them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from statistics import mean, stdev

from rankadapt.analysis.plots import arms_plot, png
from rankadapt.analysis.reading import Record, command_of
from rankadapt.analysis.report.arms import Arm, Study, studies
from rankadapt.analysis.report.comparable import Difference, differences
from rankadapt.analysis.report.document import Document, Grid, Heading, Items, Paragraph, Picture
from rankadapt.analysis.statistics import Comparison, compare, holm, seeds_needed, verdict
from rankadapt.errors import Problem

ARM_COLUMNS = (
    "arm", "settings tried", "seeds", "best", "last", "trained", "directions", "mean over time", "ms / step",
)  # fmt: skip
PAIR_COLUMNS = (
    "arm", "against", "n", "difference", "95 % interval", "p", "p of all", "seeds for 80 %", "verdict",
)  # fmt: skip


@dataclass(frozen=True)
class Choice:
    """How to compare.

    Attributes:
        against: the method that others are compared with; None for all pairs.
        stage: ``best`` or ``last``; None for the best where a split was kept apart to choose it, else the
            last.
        despite: kinds of difference (:data:`comparable.KINDS`) in spite of which to compare.
    """

    against: str | None = "lora"
    stage: str | None = None
    despite: Collection[str] = ()


def overview(records: Iterable[Record], left_out: Sequence[Problem], choice: Choice) -> Document:
    """A document with a section per study, and what was left out."""
    document = Document([Heading("Runs compared", 1)])
    records = list(records)
    found = studies(records)
    if not found:
        document.add(Paragraph("No complete run was found."))
    for study in found:
        document.add(Heading(study.name), _arms(study), *_comparisons(study, choice))
        figure = arms_plot(study.name, *_drawn(study))
        document.add(Picture(png(figure), f"every seed of every arm, {study.name}"))
        document.add(Items(list(_commands(study))))
    document.add(*_incomplete(records, left_out))
    return document


def _incomplete(records: Sequence[Record], left_out: Sequence[Problem]) -> list[Heading | Items]:
    ended = [r for r in records if r.content["status"] != "completed"]
    lines = [f"{r.folder}: {r.content['status']}: {r.content.get('error')}" for r in ended]
    lines += [str(problem) for problem in left_out]
    return [Heading("Left out"), Items(lines)] if lines else []


def reported_metric(study: Study) -> str:
    """The metric that is reported: the primary one, of the split that had no part in a choice."""
    if not study.primary.startswith("selection/"):
        return study.primary
    name = study.primary.partition("/")[2]
    last = next(iter(study.arms[0].trials[0].runs.values())).content["metrics"]["last"] or {}
    return next(key for key in last if key.endswith(f"/{name}") and not key.startswith("selection/"))


def stage_of(study: Study, choice: Choice) -> str:
    """``best`` or ``last``."""
    return choice.stage or ("best" if study.primary.startswith("selection/") else "last")


def spread(values: Collection[float]) -> str:
    """``0.712 ± 0.013``; without a spread for one value."""
    if not values:
        return "-"
    return f"{mean(values):.4g}" + (f" ± {stdev(values):.2g}" if len(values) > 1 else "")


def _arms(study: Study) -> Grid:
    metric = reported_metric(study)
    rows = []
    for arm in study.arms:
        trial = arm.best(study.primary)
        contents = [record.content for record in trial.runs.values()]
        totals = [c["rank"]["total"] for c in contents]
        rows.append(
            [
                arm.name,
                str(len(arm.trials)),
                f"{len(trial.runs)}: {', '.join(map(str, sorted(trial.runs)))}",
                spread(trial.values(metric, "best").values()),
                spread(trial.values(metric, "last").values()),
                f"{mean(c['trainable_parameters']['budget'] for c in contents):,.0f}",
                f"{mean(t['final'] for t in totals):,.0f}",
                f"{mean(t['mean'] or 0 for t in totals):,.0f}",
                f"{mean(c['cost']['median_step_ms'] or 0 for c in contents):,.0f}",
            ]
        )
    return Grid(f"{metric}: mean ± sd over seeds, at the best step and at the last", ARM_COLUMNS, rows)


def _drawn(study: Study) -> tuple[str, dict[str, list[float]]]:
    """The metric, and the figures of every arm at the last step, by its name."""
    metric = reported_metric(study)
    values = {arm.name: arm.best(study.primary).values(metric, "last") for arm in study.arms}
    return metric, {name: list(found.values()) for name, found in values.items() if found}


def _commands(study: Study) -> Iterator[str]:
    """What to type for each arm's best trial, where the run was one of the command line."""
    for arm in study.arms:
        runs = arm.best(study.primary).runs
        if command := command_of(next(iter(runs.values())).folder):
            yield f"{arm.name}: {command} seed={','.join(map(str, sorted(runs)))}"


@dataclass(frozen=True)
class _Pair:
    a: Arm
    b: Arm
    found: Comparison | None
    apart: list[Difference]
    despite: list[Difference]


def _comparisons(study: Study, choice: Choice) -> list[Grid | Items | Paragraph]:
    pairs = [_pair(study, a, b, choice) for a, b in _chosen(study.arms, choice.against)]
    told = [pair for pair in pairs if pair.found is not None]
    adjusted = iter(holm([p.found.p for p in told if p.found and p.found.p is not None]))
    rows = [_row(pair, adjusted) for pair in told]
    blocks: list[Grid | Items | Paragraph] = []
    if rows:
        caption = f"paired by seed, at the {stage_of(study, choice)} step; p of all: Holm's, over {len(rows)}"
        blocks.append(Grid(caption, PAIR_COLUMNS, rows))
    refused = [f"{p.a.name} and {p.b.name} are not compared: {_reasons(p)}" for p in pairs if p.found is None]
    return [*blocks, Items(refused)] if refused else blocks


def _chosen(arms: Sequence[Arm], against: str | None) -> list[tuple[Arm, Arm]]:
    base = [arm for arm in arms if arm.method == against]
    if base:
        return [(arm, b) for b in base for arm in arms if arm not in base]
    return [(b, a) for i, a in enumerate(arms) for b in arms[i + 1 :]]


def _pair(study: Study, a: Arm, b: Arm, choice: Choice) -> _Pair:
    left, right = a.best(study.primary), b.best(study.primary)
    apart = list(differences(a, b, left, right))
    refusing = [d for d in apart if d.kind not in choice.despite]
    metric, stage = reported_metric(study), stage_of(study, choice)
    one, other = left.values(metric, stage), right.values(metric, stage)
    found = compare(one, other) if not refusing and one.keys() & other.keys() else None
    return _Pair(a, b, found, refusing, [d for d in apart if d not in refusing])


def _reasons(pair: _Pair) -> str:
    if not pair.apart:
        return "they have no seed in common"
    return "; ".join(map(str, pair.apart)) + f" (--despite {','.join(d.kind for d in pair.apart)})"


def _row(pair: _Pair, adjusted: Iterable[float]) -> list[str]:
    found = pair.found
    assert found is not None
    p = next(iter(adjusted)) if found.p is not None else None
    told = verdict(f"{pair.a.name} exceeds {pair.b.name}", found, p=p)
    despite = "".join(f"; despite {d}" for d in pair.despite)
    return [
        pair.a.name,
        pair.b.name,
        str(len(found.seeds)),
        f"{found.difference:+.4g}",
        "-" if found.interval is None else f"{found.interval[0]:+.3g} to {found.interval[1]:+.3g}",
        "-" if found.p is None else f"{found.p:.2g} ({found.test})",
        "-" if p is None else f"{p:.2g}",
        _needed(found),
        told.partition(": ")[2].partition(" with n")[0] + despite,
    ]


def _needed(found: Comparison) -> str:
    """Seeds that a test would need for an effect as large as the one seen."""
    if found.sd is None or found.sd == 0:
        return "-"
    needed = seeds_needed(found.difference / found.sd)
    return "over 1000" if needed is None else str(needed)
