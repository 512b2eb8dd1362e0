"""What a report consists of, before it is text or a page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Heading:
    """Of a section; ``level`` 1 is the report's own."""

    text: str
    level: int = 2


@dataclass(frozen=True)
class Paragraph:
    """Plain text."""

    text: str


@dataclass(frozen=True)
class Items:
    """Sentences of equal standing, one per line."""

    texts: Sequence[str]


@dataclass(frozen=True)
class Command:
    """What to type to get this again."""

    text: str


@dataclass(frozen=True)
class Grid:
    """A table: its ``caption``, the names of the ``columns``, and ``rows`` of as many texts."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Picture:
    """A plot as PNG, and what it shows."""

    png: bytes
    caption: str


Block = Heading | Paragraph | Items | Command | Grid | Picture


@dataclass
class Document:
    """A report: its blocks, in order."""

    blocks: list[Block] = field(default_factory=list)

    def add(self, *blocks: Block) -> None:
        """Append ``blocks``."""
        self.blocks.extend(blocks)
