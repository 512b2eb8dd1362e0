"""One setting varied over runs: what the metric does, over seeds.

The papers' tables of this kind: adjustment size (HeBiRA Table 10, PE-DyRA Table 14), interval (HeBiRA Table
15), rank (Tables 12 and 13), La-LoRA's γ (Fig. 3).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import pandas as pd

from rankadapt.analysis.reading import Record
from rankadapt.analysis.run_files import RecordError, RunFiles
from rankadapt.analysis.settings import flat
from rankadapt.errors import Problem

Run = Record | RunFiles
Which = Literal["best", "last"]

_ASIDE = (
    "seed",
    "resume",
    "dry_run",
    "paths.",
    "logger.",
    "trainer.progress_bar",
    "trainer.log_every_n_steps",
)
"""Settings that two runs to be compared may differ in."""


def setting(run: Run, key: str) -> Any:
    """The value of a dotted ``key`` (``policy.k``) of the run's configuration; ``method``, ``seed`` and the
    like of its record.

    Raises:
        RecordError: it has no such setting.
    """
    found = dict(flat(run.content["config"]))
    if key in found:
        return found[key]
    if key in run.content and not isinstance(run.content[key], dict):
        return run.content[key]
    last = key.rpartition(".")[2]
    like = sorted(name for name in found if name.rpartition(".")[2] == last)
    remedy = f"choose one of {', '.join(like)}" if like else "see `python train.py --cfg job`"
    raise RecordError(Problem(str(run.folder), key, "the run has no such setting", remedy))


def sweep_table(
    runs: Sequence[Run], key: str, metric: str | None = None, which: Which = "last", series: str = "method"
) -> pd.DataFrame:
    """One row per completed run: ``series``, ``value`` of the setting ``key``, ``seed``, ``metric``.

    Args:
        metric: its name; None for each task's primary one. which: at the last evaluation, or the best.
        series: the setting that tells several curves apart.

    Raises:
        RecordError: two runs of one curve differ in another setting as well, or count twice: same value, same
            seed.
    """
    complete = [run for run in runs if run.content["status"] == "completed"]
    frame = pd.DataFrame(
        {
            "series": [_plain(setting(run, series)) for run in complete],
            "value": [_plain(setting(run, key)) for run in complete],
            "seed": [run.content["seed"] for run in complete],
            "metric": [_figure(run, metric, which) for run in complete],
        }
    )
    for name, rows in frame.groupby("series").groups.items():
        mine = [complete[int(row)] for row in rows]
        _refuse_mixed(mine, key, str(name))
        _refuse_twice(frame.loc[rows], mine)
    return frame


def sensitivity(table: pd.DataFrame) -> pd.DataFrame:
    """By ``series`` and ``value`` of a :func:`sweep_table`: ``mean``, ``sd`` over seeds (NaN for one),
    ``seeds`` (their number)."""
    grouped = table.groupby(["series", "value"])["metric"]
    return grouped.agg(mean="mean", sd="std", seeds="count").reset_index()


def _plain(value: Any) -> int | float | str:
    """Numbers and words as they are; what a frame would lose or cannot group by, as its word in yaml."""
    if isinstance(value, int | float | str):
        return value
    return "null" if value is None else str(value)


def _figure(run: Run, metric: str | None, which: Which) -> float:
    metrics = run.content["metrics"]
    name = metric or metrics["primary"]
    entry = metrics[which] or {}
    if entry.get(name) is None:
        known = ", ".join(key for key in entry if key != "step")
        raise RecordError(Problem(str(run.folder), name, "the run has no such metric", f"it has {known}"))
    return float(entry[name])


def _refuse_mixed(runs: Sequence[Run], key: str, series: str) -> None:
    flats = [dict(flat(run.content["config"])) for run in runs]
    names = dict.fromkeys(name for settings in flats for name in settings)
    differ = [
        name
        for name in names
        if name != key
        and not name.startswith(_ASIDE)
        and any(settings.get(name) != flats[0].get(name) for settings in flats)
    ]
    if differ:
        shown = ", ".join(differ[:5]) + (", ..." if len(differ) > 5 else "")
        remedy = "leave out the runs of another kind, or name the setting as `series`"
        raise RecordError(Problem(series, key, f"its runs differ in {shown} too", remedy))


def _refuse_twice(rows: pd.DataFrame, runs: Sequence[Run]) -> None:
    twice = rows.duplicated(["value", "seed"], keep=False).tolist()
    if any(twice):
        folders = ", ".join(str(run.folder) for run, is_twice in zip(runs, twice, strict=True) if is_twice)
        raise RecordError(Problem(folders, None, "have the same setting and seed", "leave all but one out"))
