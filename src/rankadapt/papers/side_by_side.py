"""Our results beside the published ones, and what a study's claims came to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import mean

from rankadapt.analysis.report.document import Command, Document, Grid, Heading, Items, Paragraph
from rankadapt.analysis.report.overview import spread
from rankadapt.papers.cells import Planned, left_out
from rankadapt.papers.claims import claims
from rankadapt.papers.found import Found
from rankadapt.papers.progress import identity
from rankadapt.papers.published import tables

CELL_COLUMNS = (
    "model", "arm", "rank", "task", "metric", "published", "best", "last", "seeds", "difference", "command",
)  # fmt: skip


def document(found: Found, extra: Sequence[str] = (), despite: Sequence[str] = ()) -> Document:
    """The report on one experiment.

    Args:
        extra: overrides that were given for all runs; they are part of the commands.
        despite: kinds of difference in spite of which arms are compared, besides those of the experiment.
    """
    experiment = found.experiment
    command = " ".join(["python scripts/reproduce.py run", experiment.name, *identity(extra)])
    made = Document(
        [Heading(experiment.title, 1), Paragraph(f"Source: {experiment.source}."), Command(command)]
    )
    made.add(Paragraph(_state(found)))
    if experiment.notes:
        made.add(Paragraph(experiment.notes))
    made.add(_table(found))
    if experiment.claims:
        made.add(Heading("Claims"), Items(list(claims(found, despite))))
    made.add(Heading("Every figure"), _cells(found))
    if excuses := left_out(experiment):
        made.add(Heading("Given by no run"), Items([f"{name}: {why}" for name, why in excuses.items()]))
    if troubles := list(_troubles(found)):
        made.add(Heading("Runs that did not end well"), Items(troubles))
    return made


def _state(found: Found) -> str:
    states = [state.state for state in found.runs.values()]
    counts = {state: states.count(state) for state in dict.fromkeys(states)}
    told = ", ".join(f"{n} {state}" for state, n in counts.items())
    waiting = len({c.arm + c.task for c in found.planned}) - len({c.arm + c.task for c in found.final})
    tuned = f"; {waiting} arms wait for their tuning" if waiting else ""
    counted = f"Figures are those of the {found.stage} step, mean ± sd over seeds (n)."
    return f"{len(states)} runs: {told}{tuned}. {counted}{_effort(found)}"


def _effort(found: Found) -> str:
    """How much every arm was tuned: the same for all, or it would not be an experiment with a grid."""
    trials = {cell.trial for cell in found.planned}
    if trials == {()}:
        return " Nothing was tuned: one setting per arm."
    seeds = ", ".join(map(str, found.experiment.tuning_seeds))
    keys = ", ".join(found.experiment.grid)
    return (
        f" Every arm was tuned over {len(trials)} values of {keys}, with seeds {seeds}; its best is reported."
    )


def _row_of(cell: Planned) -> tuple[str, ...]:
    return (cell.model, cell.arm, "" if cell.rank is None else str(cell.rank))


def _table(found: Found) -> Grid:
    """One row per arm, one column per task and metric: ``published -> ours``."""
    columns = list(dict.fromkeys((c.task, c.metric) for c in found.planned))
    rows: dict[tuple[str, ...], dict[tuple[str, str], str]] = {}
    for cell in found.planned:
        rows.setdefault(_row_of(cell), {})
    for cell in found.final:
        ours = found.values(cell)
        text = f"{spread(ours.values())} ({len(ours)})" if ours else "-"
        printed = "" if cell.published is None else f"{cell.published:g} -> "
        rows[_row_of(cell)][cell.task, cell.metric] = printed + text
    names = [f"{task} {metric}" for task, metric in columns]
    average = _averages(found)
    lines = []
    for row, given in rows.items():
        line = [*row, *(given.get(column, "waits for its tuning") for column in columns)]
        lines.append([*line, average.get(row, "")] if average else line)
    heads = ["model", "arm", "rank", *names, *(["average"] if average else [])]
    caption = "published -> ours" if found.experiment.published else "ours"
    return _grid(caption, heads, lines)


def _grid(caption: str, heads: Sequence[str], lines: Sequence[Sequence[str]]) -> Grid:
    """A table without the columns that are empty in every row."""
    keep = [i for i in range(len(heads)) if any(line[i] for line in lines)]
    return Grid(caption, [heads[i] for i in keep], [[line[i] for i in keep] for line in lines])


def _averages(found: Found) -> dict[tuple[str, ...], str]:
    """Row -> the printed average beside ours, which there is once every figure of the row is there."""
    if not found.experiment.published:
        return {}
    printed = [c for c in tables()[found.experiment.published].cells if c.is_average]
    averages: dict[tuple[str, ...], str] = {}
    for cell in printed:
        arm = ", ".join(part for part in (cell.method, cell.variant) if part)
        row = (cell.model, arm, "" if cell.rank is None else str(cell.rank))
        values = [list(found.values(c).values()) for c in found.final if _row_of(c) == row]
        ours = f"{mean(mean(v) for v in values):.4g}" if values and all(values) else "-"
        averages[row] = f"{cell.number:g} -> {ours}"
    return averages


def _cells(found: Found) -> Grid:
    rows = []
    for cell in found.final:
        ours = found.values(cell)
        told = cell.published is not None and ours
        seeds = ",".join(map(str, sorted(ours)))
        rows.append(
            [
                *_row_of(cell),
                cell.task,
                cell.metric,
                "" if cell.published is None else f"{cell.published:g}",
                spread(found.values(cell, "best").values()),
                spread(found.values(cell, "last").values()),
                f"{len(ours)}: {seeds}" if ours else "0",
                f"{mean(ours.values()) - (cell.published or 0):+.3g}" if told else "",
                " ".join(["python train.py -m", *identity(cell.overrides), f"seed={seeds or _seeds(found)}"]),
            ]
        )
    return _grid("", CELL_COLUMNS, rows)


def _seeds(found: Found) -> str:
    return ",".join(map(str, found.seeds))


def _troubles(found: Found) -> Iterator[str]:
    for run, state in found.runs.items():
        if state.state in ("failed", "interrupted", "unreadable"):
            first = state.error.strip().splitlines()[-1:] or [""]
            yield f"{state.state}: {run.command}: {first[0].strip()}"
