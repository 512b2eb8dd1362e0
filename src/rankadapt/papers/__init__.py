"""What four papers printed, as data; the runs that give the same figures; and both side by side."""

from rankadapt.papers.published import Cell, Table, tables

__all__ = ["Cell", "Table", "tables"]
