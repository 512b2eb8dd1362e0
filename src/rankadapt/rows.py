"""The rows of a split, read piece by piece, so that no data set has to fit into memory."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rankadapt.errors import DataError, Problem

if TYPE_CHECKING:
    import pyarrow as pa

PIECE = 1000


class Rows(ABC):
    """A split: rows in a fixed order, with named columns.

    Attributes:
        where: what errors call it, e.g. ``nyu-mll/glue, rte/train``.
        columns: the columns' names.
    """

    where: str
    columns: list[str]

    @abstractmethod
    def __len__(self) -> int:
        """The number of rows."""

    @abstractmethod
    def pieces(self) -> Iterator[pa.Table]:
        """All rows in order, up to a thousand at a time.

        Raises:
            DataError: a file cannot be read to its end; it is named.
        """

    @abstractmethod
    def class_names(self, column: str) -> list[str] | None:
        """The names of the classes in ``column`` in the order of their numbers, where the data says them."""

    def place(self, row: int) -> str:
        """What errors call ``row``: its file, where there is one, and its number in it."""
        return f"{self.where}, row {row}"

    def chosen(self, size: int | None, seed: int) -> Iterator[tuple[int, dict[str, Any]]]:
        """(row number, row) of ``size`` rows drawn by ``seed``, in the order of the split; of all if None."""
        wanted = chosen_rows(len(self), size, seed)
        start = 0
        for piece in self.pieces():
            inside = range(start, start + piece.num_rows)
            picked = list(inside) if wanted is None else [row for row in inside if row in wanted]
            if picked:
                part = piece if wanted is None else piece.take([row - start for row in picked])
                yield from zip(picked, part.to_pylist(), strict=True)
            start += piece.num_rows

    def fingerprint(self) -> str:
        """A short hash of columns and values: 16 hex digits of SHA-256.

        The same rows give the same hash wherever and in whatever pieces they are stored; 100 000 rows of text
        take about a second.
        """
        digests = {name: hashlib.sha256(name.encode()) for name in sorted(self.columns)}
        for piece in self.pieces():
            for name, digest in digests.items():
                values = piece.column(name).to_pylist()
                digest.update((json.dumps(values, default=_hashable)[1:-1] + ", ").encode())
        whole = hashlib.sha256()
        for digest in digests.values():
            whole.update(digest.digest())
        return whole.hexdigest()[:16]

    def refuse_unusable(self, columns: list[str], remedy: str) -> None:
        """Raise a DataError if there are no rows, or if one of ``columns`` is missing."""
        if len(self) == 0:
            raise DataError(Problem(self.where, None, "the split is empty"))
        missing = [name for name in columns if name not in self.columns]
        if missing:
            reason = f"has no column {', '.join(missing)}; it has {', '.join(self.columns)}"
            raise DataError(Problem(self.where, None, reason, remedy))


def chosen_rows(count: int, size: int | None, seed: int) -> frozenset[int] | None:
    """``size`` of ``count`` row numbers, the first of an order drawn from ``seed``; None if that is all."""
    if size is None or size >= count:
        return None
    import numpy as np

    return frozenset(np.random.default_rng(seed).permutation(count)[:size].tolist())


class TableRows(Rows):
    """Rows of an Arrow table, in memory or mapped from a file."""

    def __init__(self, table: pa.Table, where: str, names: dict[str, list[str]] | None = None):
        self.table, self.where, self.columns = table, where, list(table.column_names)
        self._names = names or {}

    def __len__(self) -> int:
        return self.table.num_rows

    def pieces(self) -> Iterator[pa.Table]:
        for start in range(0, len(self), PIECE):
            yield self.table.slice(start, PIECE)

    def class_names(self, column: str) -> list[str] | None:
        return self._names.get(column)


class SomeRows(Rows):
    """Some rows of others, in their order.

    Args:
        whole: the others.
        numbers: which of them, ascending.
    """

    def __init__(self, whole: Rows, numbers: Sequence[int]):
        self.whole, self.numbers = whole, list(numbers)
        self.where, self.columns = whole.where, whole.columns

    def __len__(self) -> int:
        return len(self.numbers)

    def pieces(self) -> Iterator[pa.Table]:
        start = 0
        for piece in self.whole.pieces():
            first, last = (bisect_left(self.numbers, n) for n in (start, start + piece.num_rows))
            yield piece.take([number - start for number in self.numbers[first:last]])
            start += piece.num_rows

    def class_names(self, column: str) -> list[str] | None:
        return self.whole.class_names(column)

    def place(self, row: int) -> str:
        return self.whole.place(self.numbers[row])


class JoinedRows(Rows):
    """The rows of several splits with the columns that all of them have, one split after the other."""

    def __init__(self, parts: Sequence[Rows]):
        self.parts = list(parts)
        self.where = "; ".join(part.where for part in parts)
        self.columns = [name for name in parts[0].columns if all(name in part.columns for part in parts)]

    def __len__(self) -> int:
        return sum(len(part) for part in self.parts)

    def pieces(self) -> Iterator[pa.Table]:
        for part in self.parts:
            yield from (piece.select(self.columns) for piece in part.pieces())

    def class_names(self, column: str) -> list[str] | None:
        return self.parts[0].class_names(column)

    def place(self, row: int) -> str:
        for part in self.parts:
            if row < len(part):
                return part.place(row)
            row -= len(part)
        return super().place(row)


def parted(rows: Rows, share: float, seed: int) -> tuple[Rows, Rows]:
    """``share`` of the rows, drawn by ``seed``, and the others: two splits without a row in common."""
    drawn = chosen_rows(len(rows), round(share * len(rows)), seed) or frozenset(range(len(rows)))
    rest = [row for row in range(len(rows)) if row not in drawn]
    return SomeRows(rows, sorted(drawn)), SomeRows(rows, rest)


class ParquetRows(Rows):
    """Rows of parquet files, one after the other.

    Raises:
        DataError: a file is damaged, or has other columns than the first.
    """

    def __init__(self, files: list[Path], where: str):
        self.files, self.where = files, where
        opened = [_opened(file) for file in files]
        self._counts = [file.metadata.num_rows for file in opened]
        self.columns = list(opened[0].schema_arrow.names)
        self._names = _class_names(opened[0].schema_arrow)
        for file, other in zip(files[1:], opened[1:], strict=True):
            if list(other.schema_arrow.names) != self.columns:
                reason = f"its files have different columns ({file.name} and {files[0].name})"
                raise DataError(Problem(str(file.parent), None, reason))

    def __len__(self) -> int:
        return sum(self._counts)

    def pieces(self) -> Iterator[pa.Table]:
        import pyarrow as pa

        for file in self.files:
            opened = _opened(file)
            try:
                for batch in opened.iter_batches(PIECE):
                    yield pa.Table.from_batches([batch])
            except (pa.ArrowException, OSError) as error:
                raise _damaged(file, error) from error

    def class_names(self, column: str) -> list[str] | None:
        return self._names.get(column)

    def place(self, row: int) -> str:
        for file, count in zip(self.files, self._counts, strict=True):
            if row < count:
                return f"{file}, row {row}"
            row -= count
        return super().place(row)


def _opened(file: Path) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.ParquetFile(file)
    except (pa.ArrowException, OSError) as error:
        raise _damaged(file, error) from error


def _damaged(file: Path, error: Exception) -> DataError:
    reason = f"is not a whole parquet file, truncated perhaps ({error})"
    remedy = "delete it and download it again (hf download --repo-type dataset)"
    return DataError(Problem(str(file), None, reason, remedy))


def _class_names(schema: pa.Schema) -> dict[str, list[str]]:
    """What ``datasets`` notes of class labels in a file's schema."""
    noted = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
    features = (noted.get("info") or {}).get("features") or {}
    return {
        name: feature["names"]
        for name, feature in features.items()
        if isinstance(feature, dict) and feature.get("_type") == "ClassLabel" and feature.get("names")
    }


def _hashable(value: object) -> str:
    return hashlib.sha256(value).hexdigest() if isinstance(value, bytes) else str(value)
