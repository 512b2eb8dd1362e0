"""What the report of an experiment draws, from the files of its runs: the papers' plots."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pandas as pd
from matplotlib.figure import Figure

from rankadapt.analysis.allocation import cross_layer_variance
from rankadapt.analysis.effective_rank import effective_ranks, utilisation_difference
from rankadapt.analysis.importance import ranks_and_rankings
from rankadapt.analysis.logged import course, gradients
from rankadapt.analysis.plots import (
    curves,
    importance_scatter,
    png,
    ranks_figure,
    sensitivity_curves,
    sparsity_and_rank,
    utilisation_bars,
    utilisation_map,
)
from rankadapt.analysis.report.document import Picture
from rankadapt.analysis.run_files import RecordError, RunFiles
from rankadapt.analysis.sparsity import sparsity_by_block, update_sparsity
from rankadapt.analysis.sweeps import sensitivity
from rankadapt.papers.cells import Planned, Run
from rankadapt.papers.found import Found

Drawn = Iterator[tuple[str, Figure]]
"""Captions and figures."""


def pictures(found: Found) -> Iterator[Picture]:
    """The plots that the experiment names, as far as its runs are there."""
    if found.experiment.figure is None:
        return
    drawn = DRAWERS[found.experiment.figure](found)
    while True:
        try:
            caption, figure = next(drawn)
        except (StopIteration, RecordError):  # what a run did not leave cannot be drawn
            return
        yield Picture(png(figure), caption)


def _first_runs(found: Found) -> Iterator[tuple[Planned, RunFiles]]:
    """Each arm on each task with the run of its first seed that is complete."""
    seen = set()
    for cell in found.final:
        if (cell.arm, cell.task) in seen:
            continue
        seen.add((cell.arm, cell.task))
        for seed in found.seeds:
            state = found.runs[Run(cell.overrides, seed)]
            if state.record and state.folder:
                yield cell, RunFiles(state.folder, state.record)
                break


def _by_task(found: Found) -> Iterator[tuple[str, dict[str, RunFiles]]]:
    tasks: dict[str, dict[str, RunFiles]] = {}
    for cell, run in _first_runs(found):
        tasks.setdefault(cell.task, {})[cell.arm] = run
    yield from tasks.items()


def _sensitivity(found: Found) -> Drawn:
    """The metric over the values of the variants, for each task."""
    for task, metric in dict.fromkeys((c.task, c.metric) for c in found.final):
        rows = [
            {"series": cell.method, "value": _number(cell.variant), "seed": seed, "metric": value}
            for cell in found.final
            if (cell.task, cell.metric) == (task, metric)
            for seed, value in found.values(cell).items()
        ]
        if rows:
            key = found.final[0].variant.partition("=")[0]
            yield (
                f"{metric} on {task}",
                sensitivity_curves(sensitivity(pd.DataFrame(rows)), key, metric, task),
            )


def _number(variant: str) -> float | str:
    text = variant.partition("=")[2]
    try:
        return int(text) if text.isdigit() else float(text)
    except ValueError:
        return variant


def _effective_rank(found: Found) -> Drawn:
    """Effective rank and utilisation of every arm: while training, at the end, and the difference of the last
    to the first."""
    for task, runs in _by_task(found):
        for name in ("effective_rank", "utilisation"):
            logged = {arm: course(run.metrics(), f"spectrum/{name}") for arm, run in runs.items()}
            if any(len(values) for values in logged.values()):
                told = name.replace("_", " ")
                yield f"{told} while training, {task}", curves(logged, f"{told}, mean over modules", task)
        frames = {arm: effective_ranks(run.factors(), run.final_ranks()) for arm, run in runs.items()}
        yield f"effective rank (HeBiRA Eq. 21), {task}", utilisation_bars(frames, task)
        if len(frames) > 1:
            first, *_, last = frames
            title = f"{last} - {first}, {task}"
            yield title, utilisation_map(utilisation_difference(frames[last], frames[first]), title)


def _course(found: Found) -> Drawn:
    """The metric of every arm while training."""
    for task, runs in _by_task(found):
        names = {cell.arm: cell.figure.name for cell in found.final if cell.task == task}
        series = {arm: course(run.metrics(), f"eval/{names[arm]}") for arm, run in runs.items()}
        yield f"{next(iter(names.values()))} while training, {task}", curves(series, "metric", task)


def _ranks(found: Found) -> Drawn:
    """Final ranks and their course, for every arm."""
    for cell, run in _first_runs(found):
        title = f"{cell.arm}, {cell.task}"
        yield title, ranks_figure(run.trace(), title)


def _variance(found: Found) -> Drawn:
    """Variance over modules of I^(2/3)/r at every event."""
    for task, runs in _by_task(found):
        scored = {arm: run.trace() for arm, run in runs.items() if run.trace()["score_mean"].notna().any()}
        series = {arm: cross_layer_variance(trace)["relative"] for arm, trace in scored.items()}
        if series:
            caption = f"variance over modules of I^(2/3)/r, over its squared mean, {task}"
            yield caption, curves(series, "relative variance", task, log=True)


def _spearman(found: Found) -> Drawn:
    """Mean importance against mean rank, for every arm."""
    for cell, run in _first_runs(found):
        title = f"{cell.arm}, {cell.task}"
        yield f"importance against rank: {title}", importance_scatter(ranks_and_rankings(run.trace()), title)


def _gradients(found: Found) -> Drawn:
    """Size of the gradients of core and factors, and the penalty, while training."""
    for cell, run in _first_runs(found):
        title = f"{cell.arm}, {cell.task}"
        logged = run.metrics()
        kinds = gradients(logged)
        series = {str(kind): kinds[kind] for kind in kinds.columns}
        yield f"gradients: {title}", curves(series, "gradient, rms of an entry", title, log=True)
        penalty = {cell.arm: course(logged, "train/penalty")}
        yield f"orthogonality loss: {title}", curves(penalty, "penalty", title, log=True)


def _sparsity(found: Found) -> Drawn:
    """Sparsity of the update by block (La-LoRA Eq. 1), for every task."""
    for cell, run in _first_runs(found):
        title = f"{cell.arm}, {cell.task}"
        blocks = sparsity_by_block(update_sparsity(run.factors()))
        yield f"sparsity: {title}", sparsity_and_rank(blocks, run.final_ranks(), title)


DRAWERS: dict[str, Callable[[Found], Drawn]] = {
    "sensitivity": _sensitivity,
    "effective_rank": _effective_rank,
    "course": _course,
    "ranks": _ranks,
    "variance": _variance,
    "spearman": _spearman,
    "gradients": _gradients,
    "sparsity": _sparsity,
}
"""Every plot that an experiment may name."""
