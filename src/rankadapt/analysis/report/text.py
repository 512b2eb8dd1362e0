"""A report as text for a terminal, a log, or a mail."""

from __future__ import annotations

from io import StringIO

from rich import box
from rich.console import Console
from rich.table import Table

from rankadapt.analysis.report.document import (
    Block,
    Command,
    Document,
    Grid,
    Heading,
    Items,
    Paragraph,
    Picture,
)


def as_text(document: Document, width: int = 160) -> str:
    """The whole report; tables are at most ``width`` characters wide. Pictures are only named."""
    return "\n".join(_block(block, width) for block in document.blocks) + "\n"


def _block(block: Block, width: int) -> str:
    match block:
        case Heading(text, level):
            return f"{text}\n{('=' if level == 1 else '-') * len(text)}\n"
        case Paragraph(text):
            return text + "\n"
        case Items(texts):
            return "".join(f"- {text}\n" for text in texts)
        case Command(text):
            return f"    {text}\n"
        case Picture(_, caption):
            return f"(a plot, in the page: {caption})\n"
        case Grid():
            return _grid(block, width)


def _grid(grid: Grid, width: int) -> str:
    table = Table(*grid.columns, title=grid.caption, title_justify="left", box=box.SIMPLE_HEAD)
    for row in grid.rows:
        table.add_row(*(cell.replace("[", "\\[") for cell in row))
    stream = StringIO()
    Console(file=stream, width=width, highlight=False).print(table)
    return stream.getvalue()
