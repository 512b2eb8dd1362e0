"""One run, read from the folder that it left: its record, the course of its ranks, its logged numbers, its
update."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from safetensors.torch import load_file
from torch import Tensor

from rankadapt.analysis.reading import read_record
from rankadapt.errors import Problem, RankAdaptError
from rankadapt.export.peft import PREFIX

Factors = Mapping[str, tuple[Tensor, Tensor]]
"""Module path -> ``A`` (r, d_in) and ``B`` (d_out, r) with ``ΔW = B A``, scale and core folded in."""


class RecordError(RankAdaptError):
    """What a run left cannot be analysed."""

    title = "The files of the run cannot be used"


@dataclass(frozen=True)
class RunFiles:
    """The ``folder`` of a run and the ``content`` of its ``results.json``; the rest is read when asked for.

    Every reader raises :class:`RecordError` where its file is not there or cannot be read.
    """

    folder: Path
    content: dict[str, Any]

    @property
    def label(self) -> str:
        """``hebira on glue/rte (deberta_v3_base, seed 1)``."""
        found = self.content
        return f"{found['method']} on {found.get('task')} ({found.get('model')}, seed {found['seed']})"

    def trace(self) -> pd.DataFrame:
        """``ranks.parquet``: ``step``, ``module``, ``rank``, ``score_min``, ``score_mean``, ``born``,
        ``pruned``; one row per (event, module). A run whose ranks cannot move has its start and end."""
        trace = self._read("ranks.parquet", pd.read_parquet)
        if trace.empty:
            path = str(self.folder / "ranks.parquet")
            raise RecordError(Problem(path, None, "is empty: the adaptation has no ranks"))
        return trace

    def metrics(self) -> pd.DataFrame:
        """``metrics.csv``: ``step``, ``metric``, ``value``."""
        return self._read("metrics.csv", pd.read_csv)

    def factors(self) -> Factors:
        """The final update of every module that has directions, from ``adapter/compact``.

        An update that started as a part of the base weight (PiSSA, MiLoRA) has twice as many directions as
        the module's rank: it is the difference to the weight as it was.
        """
        tensors = self._read("adapter/compact/adapter_model.safetensors", load_file)
        names = [n.removesuffix(".lora_A.weight") for n in tensors if n.endswith(".lora_A.weight")]
        return {
            name.removeprefix(PREFIX): (tensors[f"{name}.lora_A.weight"], tensors[f"{name}.lora_B.weight"])
            for name in names
        }

    def final_ranks(self) -> dict[str, int]:
        """Module path -> its rank at the end; empty for an adaptation without ranks."""
        return {name: module["final"] for name, module in self.content["rank"]["modules"].items()}

    def _read(self, name: str, reader: Any) -> Any:
        path = self.folder / name
        try:
            return reader(path)
        except FileNotFoundError:
            reason, remedy = "is not there", _REMEDIES.get(path.suffix, "")
        except Exception as error:
            reason, remedy = f"cannot be read: {error}", "run it again"
        raise RecordError(Problem(str(path), None, reason, remedy))


_REMEDIES = {
    ".safetensors": "only a completed run whose update is a sum of low-rank factors has it "
    "(DoRA, HiRA and bottlenecks do not)",
    ".csv": "the run was made with logger=none; choose logger=csv",
}


def open_run(folder: str | Path) -> RunFiles:
    """The run that left ``results.json`` in ``folder``.

    Raises:
        RecordError: there is none, or it is no record of a run.
    """
    found = read_record(Path(folder))
    if isinstance(found, Problem):
        raise RecordError(found)
    return RunFiles(found.folder, found.content)
