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
from pathlib import Path
from typing import TYPE_CHECKING

from rankadapt.analysis.report.comparable import kinds_of, refuse_unknown_kinds
from rankadapt.analysis.report.document import Document, Grid, Heading, Items, Paragraph, Picture
from rankadapt.analysis.report.page import as_page
from rankadapt.analysis.report.text import as_text
from rankadapt.cli import write_page
from rankadapt.errors import ConfigError, RankAdaptError
from rankadapt.papers.cells import cells
from rankadapt.papers.experiments import Overrides, experiment, experiments
from rankadapt.papers.found import Found, find
from rankadapt.papers.progress import looking
from rankadapt.papers.side_by_side import document
from rankadapt.papers.sweeps import Sweep

if TYPE_CHECKING:
    from rankadapt.papers.outline import Outline

ROOT = Path(__file__).resolve().parents[1]
CONF = ROOT / "conf"
PLAN_COLUMNS = ("state", "steps", "events", "directions", "trained", "memory", "command")


def asked(given: argparse.Namespace) -> Sweep:
    """The experiment and the overrides of the command line."""
    chosen = dict(a.partition("=")[::2] for a in given.overrides)
    output = Path(chosen.get("paths.output", "outputs"))
    return Sweep.parse(given.name, given.overrides, CONF / "experiment", output)


def show_list(given: argparse.Namespace) -> int:
    """Every experiment, and what it is."""
    found = [experiment(CONF / "experiment", name) for name in experiments(CONF / "experiment")]
    rows = [[e.name, e.title, str(len(cells(e)))] for e in found]
    print(as_text(Document([Grid("", ("experiment", "what it is", "figures"), rows)]), given.width), end="")
    return 0


def show_plan(given: argparse.Namespace) -> int:
    """Every run of an experiment: its command, what it costs, and whether it is done."""
    sweep = asked(given)
    look, about = looking(sweep.output), sweep.experiment
    examples = {cell.overrides: cell.examples for cell in sweep.planned}
    outlines = {overrides: _outlined(overrides, rows) for overrides, rows in examples.items()}
    lines = [[look(run).state, *_costs(outlines[run.overrides]), run.command] for run in sweep.runs(look)]
    made = Document([Heading(about.title, 1), Paragraph(f"Source: {about.source}.")])
    made.add(Grid(f"{len(lines)} runs", PLAN_COLUMNS, lines))
    if about.grid:
        made.add(Paragraph(f"These choose; each arm's best is then run with seeds {about.seeds}."))
    if bad := [f"{' '.join(o)}: {found}" for o, found in outlines.items() if isinstance(found, str)]:
        made.add(Heading("Cannot be run"), Items(bad))
    print(as_text(made, given.width), end="")
    return 1 if bad else 0


def _outlined(overrides: Overrides, examples: int | None) -> Outline | str:
    # Torch and transformers, which `run` and `report` do not need.
    from rankadapt.papers.outline import outline
    from rankadapt.runs.compose import resolved
    from rankadapt.training.validation import parse

    try:
        config = parse(resolved(CONF, overrides))
        return outline(config, config.task.max_train_examples or examples or 1)
    except RankAdaptError as error:
        return str(error)


def _costs(found: Outline | str) -> list[str]:
    if isinstance(found, str):
        return ["-"] * 5
    directions = "-" if found.directions == (0, 0) else f"{found.directions[0]} to {found.directions[1]}"
    memory = f"{found.memory / 2**30:.1f} GiB"
    return [f"{found.steps:,}", str(found.events), directions, f"{found.parameters[1]:,}", memory]


def run_missing(given: argparse.Namespace) -> int:
    """Start what is missing, through Hydra; the exit code is that of the sweep."""
    sweep = asked(given)
    look = looking(sweep.output)
    states = [look(run).state for run in sweep.runs(look)]
    done = states.count("completed")
    print(f"{given.name}: {done} of {len(states)} runs are complete", flush=True)
    if done == len(states):
        return 0
    command = [sys.executable, str(ROOT / "train.py"), "-m", f"experiment={given.name}", *given.overrides]
    return subprocess.run(command, check=False).returncode


def show_report(given: argparse.Namespace) -> int:
    """Our figures beside the published ones, and what the claims came to."""
    sweep, despite = asked(given), kinds_of(given.despite)
    if problems := refuse_unknown_kinds(despite):
        raise ConfigError(problems)
    found = find(sweep.experiment, sweep.planned, sweep.output, sweep.seeds, given.stage)
    made = document(found, sweep.extra, despite)
    if sweep.experiment.figure and (drawn := list(_pictures(found))):
        made.add(Heading("Plots"), *drawn)
    print(as_text(made, given.width), end="")
    if given.html:
        write_page(given.html, as_page(made, sweep.experiment.title))
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
