"""How long directions live: births and deaths from ``ranks.parquet``, which counts but does not name them.

What the counts tell exactly: how many directions a module ever had, and how many steps all of them together
were alive; so the mean life, where one that is alive at the end has lived until then. They do not tell which
direction went. How many of the first directions are left at the end lies between two bounds:

    at least  initial - all deaths            (every death was one of the first)
    at most   the smallest number that was left right after a pruning, and the initial

A direction that comes to life again where it is (AdaLoRA) is not counted as born in the file. It shows as a
rank that rises without a birth, and counts as a new life here, as one that comes back with its weights does
(La-LoRA).
"""

from __future__ import annotations

import pandas as pd


def changes(trace: pd.DataFrame) -> pd.DataFrame:
    """The rows of ``trace`` with ``before``, the rank until that step (the first row: its own), ``revived``,
    the directions that live again, and ``came``, which is both births and revivals."""
    frame = trace.copy()
    frame["before"] = frame.groupby("module")["rank"].shift().fillna(frame["rank"]).astype("int64")
    frame["revived"] = frame["rank"] - frame["before"] + frame["pruned"] - frame["born"]
    frame["came"] = frame["born"] + frame["revived"]
    return frame


def births_and_deaths(trace: pd.DataFrame) -> pd.DataFrame:
    """By step, over all modules: ``came``, ``pruned``, ``alive`` (after the event), and the running totals
    ``came_so_far``, ``pruned_so_far``."""
    counted = changes(trace).groupby("step")[["came", "pruned", "rank"]].sum()
    counted = counted.rename(columns={"rank": "alive"})
    running = counted[["came", "pruned"]].cumsum().add_suffix("_so_far")
    return counted.join(running)


def life_spans(trace: pd.DataFrame) -> pd.DataFrame:
    """By module, in the order of the model.

    Returns:
        ``initial``, ``came``, ``pruned``, ``final``: directions. ``alive_steps``: the sum over directions of
        the steps that each was alive. ``mean_life``: that over the directions there ever were, in optimizer
        steps (NaN where there were none). ``first_left_min``, ``first_left_max``: how many of the initial
        directions are alive at the end.
    """
    frame = changes(trace)
    last = frame["step"].max()
    ends = frame.groupby("module")["step"].shift(-1).fillna(last)
    frame["alive_steps"] = frame["rank"] * (ends - frame["step"])
    frame["left"] = frame["rank"] - frame["came"]
    grouped = frame.groupby("module", sort=False)
    spans = grouped[["came", "pruned", "alive_steps"]].sum().astype("int64")
    spans.insert(0, "initial", grouped["rank"].first())
    spans["final"] = grouped["rank"].last()
    ever = spans["initial"] + spans["came"]
    spans["mean_life"] = spans["alive_steps"] / ever.where(ever > 0)
    spans["first_left_min"] = (spans["initial"] - spans["pruned"]).clip(lower=0)
    spans["first_left_max"] = grouped["left"].min()
    return spans
