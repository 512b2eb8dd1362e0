"""``rankadapt report``: what the records below some folders show."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rankadapt.analysis.reading import read_records
from rankadapt.analysis.report.comparable import kinds_of, refuse_unknown_kinds
from rankadapt.analysis.report.overview import Choice, overview
from rankadapt.analysis.report.page import as_page
from rankadapt.analysis.report.text import as_text
from rankadapt.errors import ConfigError, Problem, RankAdaptError
from rankadapt.training.files import replacing


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code: 0, or 2 if it cannot be done."""
    given = _parser().parse_args(arguments)
    try:
        return report(given)
    except RankAdaptError as error:
        print(f"\n{error}", file=sys.stderr)
        return 2


def report(given: argparse.Namespace) -> int:
    """Print the report, and write the page if one is asked for.

    Raises:
        ConfigError: a folder does not exist, or an option says what it may not.
    """
    despite = kinds_of(given.despite)
    problems = refuse_unknown_kinds(despite)
    problems += [
        Problem(str(f), None, "is no folder", "give one with runs") for f in given.folders if not f.is_dir()
    ]
    if problems:
        raise ConfigError(problems)
    records, left_out = read_records(given.folders)
    choice = Choice(None if given.against == "all" else given.against, given.stage, despite)
    document = overview(records, left_out, choice)
    print(as_text(document, given.width), end="")
    if given.html:
        write_page(given.html, as_page(document, "Runs compared"))
    return 0


def write_page(path: Path, page: str) -> None:
    """Write ``page``, whole or not at all, and say where."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as beside:
        beside.write_text(page, encoding="utf-8")
    print(f"page: {path}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("rankadapt", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="command")
    found = commands.add_parser("report", help="compare runs by paired seeds")
    found.add_argument("folders", nargs="*", type=Path, default=[Path("outputs")], help="where runs are")
    found.add_argument("--html", type=Path, help="also write a page there, with the same content")
    found.add_argument("--against", default="lora", help="the method to compare with; all for every pair")
    found.add_argument("--stage", choices=("best", "last"), help="the step that counts")
    found.add_argument("--despite", help="compare despite these differences, a comma between them")
    found.add_argument("--width", type=int, default=160, help="of the text")
    return parser
