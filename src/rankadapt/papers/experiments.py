"""An experiment: a published table, or a study of our own, as the runs that give its figures.

``conf/experiment/<paper>/<table>.yaml`` says what is particular to it; what the papers' names mean in
general is in ``data/names.yaml``. A run is a tuple of overrides for ``python train.py``: two cells with
equal overrides are one run, whichever tables they stand in.
"""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from rankadapt.analysis.report.comparable import KINDS
from rankadapt.errors import ConfigError, Problem
from rankadapt.papers.published import DATA, tables

Overrides = tuple[str, ...]
PLOTS = ("sensitivity", "effective_rank", "course", "ranks", "variance", "spearman", "gradients", "sparsity")
"""What the report of an experiment can draw: :mod:`rankadapt.papers.pictures`."""


@dataclass(frozen=True)
class Claim:
    """A sentence that a study tests: that arm ``a`` exceeds arm ``b``, on every task of the study."""

    says: str
    a: str
    b: str


@dataclass(frozen=True)
class Experiment:
    """What one file of ``conf/experiment`` says.

    Attributes:
        name: ``hebira/table03``.
        title: its first comment line.
        published: name of the published table (``papers/data``) whose cells it gives; None for a study.
        common: overrides of every run.
        models, methods, variants, tasks: printed name -> overrides; they come before the general names.
        seeds: of every run.
        leave_out: printed method or metric -> why no run gives it.
        grid: override key -> values; every arm is run with each, and its best is reported (equal tuning).
        tuning_seeds: of the runs that choose among the grid.
        claims: what a study tests.
        despite: kind of difference (``analysis.report.comparable.KINDS``) -> why its arms are compared in
            spite of it.
        figure: the plot that its report draws; None for none.
        notes: what to know when reading its figures.
    """

    name: str
    title: str
    published: str | None = None
    common: str = ""
    models: dict[str, str] = field(default_factory=dict)
    methods: dict[str, str] = field(default_factory=dict)
    variants: dict[str, str] = field(default_factory=dict)
    tasks: dict[str, Any] = field(default_factory=dict)
    seeds: tuple[int, ...] = (1, 2, 3)
    leave_out: dict[str, str] = field(default_factory=dict)
    grid: dict[str, list[Any]] = field(default_factory=dict)
    tuning_seeds: tuple[int, ...] = ()
    claims: tuple[Claim, ...] = ()
    despite: dict[str, str] = field(default_factory=dict)
    figure: str | None = None
    notes: str = ""

    @property
    def source(self) -> str:
        """``HeBiRA, Table 3``, or ``a study of this project``."""
        return tables()[self.published].source if self.published else "a study of this project"


KEYS = {field.name for field in fields(Experiment)} - {"name", "title"} | {"like"}
"""What a file may say."""


def experiments(folder: Path) -> list[str]:
    """The names of all experiments below ``folder`` (``conf/experiment``), sorted."""
    return sorted(file.relative_to(folder).with_suffix("").as_posix() for file in folder.rglob("*.yaml"))


def experiment(folder: Path, name: str) -> Experiment:
    """Read one.

    Raises:
        ConfigError: there is none of this name, or its file says what it may not.
    """
    content, title = _read(folder, name)
    content["claims"] = [Claim(**claim) for claim in content.get("claims", ())]
    lists = {key: tuple(value) for key, value in content.items() if isinstance(value, list)}
    found = Experiment(name, title, **content | lists)
    if problems := list(_problems(found)):
        raise ConfigError(problems)
    return found


@cache
def names() -> dict[str, Any]:
    """``data/names.yaml``."""
    return yaml.safe_load((DATA / "names.yaml").read_text(encoding="utf-8"))


def merged(parts: Iterable[str]) -> Overrides:
    """Overrides in the order given, one per key: the last one wins. Each part holds any number of them."""
    chosen: dict[str, str] = {}
    for override in (o for part in parts for o in shlex.split(part)):
        key = override.lstrip("+~").partition("=")[0]
        chosen.pop(key, None)
        chosen[key] = override
    return tuple(chosen.values())


def _read(folder: Path, name: str) -> tuple[dict[str, Any], str]:
    """The content of a file over that of the one it is ``like``, and the file's first line."""
    file = folder / f"{name}.yaml"
    if not file.is_file():
        known = experiments(folder)
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
        remedy = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(known)}"
        raise ConfigError(Problem("experiment", name, "there is no such experiment", remedy))
    text = file.read_text(encoding="utf-8")
    content: dict[str, Any] = yaml.safe_load(text) or {}
    if unknown := content.keys() - KEYS:
        reason = f"unknown keys {', '.join(sorted(unknown))}"
        raise ConfigError(Problem(str(file), None, reason, f"known: {', '.join(sorted(KEYS))}"))
    if parent := content.pop("like", None):
        content = _over(_read(folder, parent)[0], content)
    return content, text.partition("\n")[0].lstrip("# ")


def _over(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    both = {**below, **above}
    if "common" in below and "common" in above:
        both["common"] = f"{below['common']} {above['common']}"
    return both


def _problems(found: Experiment) -> Iterable[Problem]:
    where = f"experiment {found.name}"
    if found.published is not None and found.published not in tables():
        near = difflib.get_close_matches(found.published, list(tables()), n=1)
        yield Problem(f"{where}: published", found.published, "is not a published table", str(near))
    arms = set(found.methods)
    for claim in found.claims:
        for arm in (claim.a, claim.b):
            if arm not in arms:
                yield Problem(f"{where}: claims", arm, "is not one of its methods", ", ".join(sorted(arms)))
    if found.grid and not found.tuning_seeds:
        yield Problem(
            f"{where}: tuning_seeds", None, "a grid needs seeds to choose on", "tuning_seeds: [101]"
        )
    if unknown := found.despite.keys() - KINDS.keys():
        reason = "is no kind of difference"
        yield Problem(f"{where}: despite", ", ".join(sorted(unknown)), reason, ", ".join(KINDS))
    if found.figure is not None and found.figure not in PLOTS:
        yield Problem(f"{where}: figure", found.figure, "there is no such plot", ", ".join(PLOTS))
    if set(found.tuning_seeds) & set(found.seeds):
        reason = "are also seeds of the report"
        yield Problem(f"{where}: tuning_seeds", list(found.tuning_seeds), reason, "choose others")
