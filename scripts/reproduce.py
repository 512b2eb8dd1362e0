"""From a published table, or a study of our own, to its runs, and from the runs to what they show.

    python scripts/reproduce.py list
    python scripts/reproduce.py plan hebira/table03
    python scripts/reproduce.py run hebira/table03 [hydra/launcher=joblib]
    python scripts/reproduce.py report hebira/table03 --html table03.html

Further arguments are overrides for every run, as for train.py, and belong to what the runs are: give the
same ones to `plan`, `run` and `report`. `seed=1,2` takes other seeds than the experiment's own. `run` starts
what is missing, goes on with what was interrupted, leaves what is complete, and may run twice at once.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rankadapt.analysis.report.document import Document, Grid, Heading, Items, Paragraph, Picture
from rankadapt.analysis.report.overview import refuse_unknown_kinds
from rankadapt.analysis.report.page import as_page
from rankadapt.analysis.report.text import as_text
from rankadapt.cli import write_page
from rankadapt.errors import ConfigError, RankAdaptError
from rankadapt.papers.cells import Planned, Run, cells
from rankadapt.papers.experiments import Experiment, Overrides, experiment, experiments
from rankadapt.papers.found import Found, find
from rankadapt.papers.progress import all_runs, progress
from rankadapt.papers.side_by_side import document
from rankadapt.papers.sweeps import extras, seeds_of

if TYPE_CHECKING:
    from rankadapt.papers.outline import Outline

ROOT = Path(__file__).resolve().parents[1]
CONF = ROOT / "conf"
PLAN_COLUMNS = ("state", "steps", "events", "directions", "trained", "memory", "command")


@dataclass(frozen=True)
class Asked:
    """An experiment, its cells with the overrides ``extra``, other ``seeds`` if given, and where runs are."""

    experiment: Experiment
    planned: list[Planned]
    extra: Overrides
    seeds: tuple[int, ...] | None
    output: Path

    @classmethod
    def of(cls, name: str, arguments: list[str]) -> Asked:
        """From the command line."""
        given = dict(a.partition("=")[::2] for a in arguments)
        extra = extras(arguments)
        found = experiment(CONF / "experiment", name)
        output = Path(given.get("paths.output", "outputs")).absolute()
        return cls(found, cells(found, extra), extra, seeds_of(given.get("seed")), output)

    @property
    def runs(self) -> list[Run]:
        """Every run that is known now."""
        return all_runs(self.experiment, self.planned, self.output, self.seeds)


def show_list(given: argparse.Namespace) -> int:
    """Every experiment, and what it is."""
    found = [experiment(CONF / "experiment", name) for name in experiments(CONF / "experiment")]
    rows = [[e.name, e.title, str(len(cells(e)))] for e in found]
    print(as_text(Document([Grid("", ("experiment", "what it is", "figures"), rows)]), given.width), end="")
    return 0


def show_plan(given: argparse.Namespace) -> int:
    """Every run of an experiment: its command, what it costs, and whether it is done."""
    asked = Asked.of(given.name, given.overrides)
    examples = {cell.overrides: cell.examples for cell in asked.planned}
    outlines: dict[Overrides, Outline | str] = {}
    for overrides in examples:
        outlines[overrides] = _outlined(overrides, examples[overrides])
    rows = [_planned(run, outlines[run.overrides], asked.output) for run in asked.runs]
    made = Document([Heading(asked.experiment.title, 1), Paragraph(f"Source: {asked.experiment.source}.")])
    made.add(Grid(f"{len(rows)} runs", PLAN_COLUMNS, rows))
    if asked.experiment.grid:
        made.add(Paragraph(f"These choose; each arm's best is then run with seeds {asked.experiment.seeds}."))
    if bad := [f"{' '.join(o)}: {found}" for o, found in outlines.items() if isinstance(found, str)]:
        made.add(Heading("Cannot be run"), Items(bad))
    print(as_text(made, given.width), end="")
    return 1 if bad else 0


def _outlined(overrides: Overrides, examples: int | None) -> Outline | str:
    from rankadapt.papers.compose import (
        configuration,
    )  # needs torch and transformers, `run` and `report` do not
    from rankadapt.papers.outline import outline

    try:
        config = configuration(overrides)
        return outline(config, config.task.max_train_examples or examples or 1)
    except RankAdaptError as error:
        return str(error)


def _planned(run: Run, found: Outline | str, output: Path) -> list[str]:
    command = " ".join(["python train.py", *run.arguments])
    if isinstance(found, str):
        return [progress(output, run).state, *["-"] * 5, command]
    directions = "-" if found.directions == (0, 0) else f"{found.directions[0]} to {found.directions[1]}"
    memory = f"{found.memory / 2**30:.1f} GiB"
    trained = f"{found.parameters[1]:,}"
    state = progress(output, run).state
    return [state, f"{found.steps:,}", str(found.events), directions, trained, memory, command]


def run_missing(given: argparse.Namespace) -> int:
    """Start what is missing, through Hydra; the exit code is that of the sweep."""
    asked = Asked.of(given.name, given.overrides)
    states = [progress(asked.output, run).state for run in asked.runs]
    done = states.count("completed")
    print(f"{given.name}: {done} of {len(states)} runs are complete", flush=True)
    if done == len(states) and not _waits(asked):
        return 0
    command = [sys.executable, str(ROOT / "train.py"), "-m", f"experiment={given.name}", *given.overrides]
    return subprocess.run(command, check=False).returncode


def _waits(asked: Asked) -> bool:
    """Whether runs of the report are still to be known, because their arm was not tuned."""
    return len(asked.runs) < len({c.overrides for c in asked.planned}) * len(asked.experiment.tuning_seeds)


def show_report(given: argparse.Namespace) -> int:
    """Our figures beside the published ones, and what the claims came to."""
    asked = Asked.of(given.name, given.overrides)
    despite = [kind for kind in (given.despite or "").split(",") if kind]
    if problems := refuse_unknown_kinds(despite):
        raise ConfigError(problems)
    found = find(asked.experiment, asked.planned, asked.output, asked.seeds, given.stage)
    made = document(found, asked.extra, despite)
    if asked.experiment.figure and (drawn := list(_pictures(found))):
        made.add(Heading("Plots"), *drawn)
    print(as_text(made, given.width), end="")
    if given.html:
        write_page(given.html, as_page(made, asked.experiment.title))
    return 0


def _pictures(found: Found) -> Iterator[Picture]:
    from rankadapt.papers.pictures import pictures  # reads weights, so it needs torch

    return pictures(found)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True, metavar="command")
    actions: dict[str, Callable[[argparse.Namespace], int]] = {
        "list": show_list, "plan": show_plan, "run": run_missing, "report": show_report,
    }  # fmt: skip
    for name, action in actions.items():
        command = commands.add_parser(name, help=(action.__doc__ or "").partition("\n")[0])
        command.set_defaults(action=action)
        command.add_argument("--width", type=int, default=180, help="of the text")
        if name != "list":
            command.add_argument("name", help="of the experiment, e.g. hebira/table03")
            command.add_argument("overrides", nargs="*", help="for every run")
        if name == "report":
            command.add_argument("--html", type=Path, help="also write a page there")
            command.add_argument(
                "--stage", choices=("best", "last"), default="best", help="the step that counts"
            )
            command.add_argument("--despite", help="compare despite these differences, a comma between them")
    given = parser.parse_args()
    try:
        return given.action(given)
    except RankAdaptError as error:
        print(f"\n{error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
