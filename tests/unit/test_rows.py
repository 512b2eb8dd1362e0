"""Rows: read in pieces, chosen, named, and hashed by their values alone."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rankadapt.errors import DataError
from rankadapt.rows import PIECE, ParquetRows, TableRows, parted


def in_table(columns: dict[str, list]) -> TableRows:
    return TableRows(pa.table(columns), "made here")


def in_files(folder: Path, *parts: dict[str, list], group: int = 7) -> ParquetRows:
    files = [folder / f"part-{number}.parquet" for number in range(len(parts))]
    for file, part in zip(files, parts, strict=True):
        pq.write_table(pa.table(part), file, row_group_size=group)
    return ParquetRows(files, "made here")


class TestFingerprint:
    columns = {"x": ["a", "b", "c"], "y": [1, 2, 3]}

    def test_depends_on_the_values_only(self, tmp_path: Path) -> None:
        whole = in_table(self.columns).fingerprint()
        swapped = in_table({"y": [9, 1, 2, 3], "x": ["z", "a", "b", "c"]})
        swapped.table = swapped.table.slice(1)
        parts = in_files(tmp_path, {"x": ["a"], "y": [1]}, {"x": ["b", "c"], "y": [2, 3]})
        assert whole == swapped.fingerprint() == parts.fingerprint()
        assert len(whole) == 16

    @pytest.mark.parametrize(
        "other", [{"x": ["a", "c", "b"]}, {"x": ["a", "b"]}, {"y": ["a", "b", "c"]}, {"x": ["a", "b", None]}]
    )
    def test_tells_others_apart(self, other: dict[str, list]) -> None:
        assert in_table({"x": ["a", "b", "c"]}).fingerprint() != in_table(other).fingerprint()

    def test_of_bytes(self) -> None:
        one, two = (in_table({"image": [{"bytes": value, "path": None}]}) for value in (b"1", b"2"))
        assert one.fingerprint() != two.fingerprint()

    def test_is_quick(self) -> None:
        rows = in_table({"x": ["a sentence of some words"] * 100_000, "y": [1] * 100_000})
        start = time.process_time()
        rows.fingerprint()
        assert time.process_time() - start < 3


def test_more_rows_take_no_more_memory(tmp_path: Path) -> None:
    def peak(count: int) -> int:
        folder = tmp_path / str(count)
        folder.mkdir()
        rows = in_files(folder, {"text": [f"{n:05} " * 50 for n in range(count)]}, group=2000)
        before = pa.total_allocated_bytes()
        return max(pa.total_allocated_bytes() - before for _ in rows.pieces())

    assert 0 < peak(40_000) < 1.5 * peak(10_000)


class TestChosen:
    def test_all_in_order_over_files_and_pieces(self, tmp_path: Path) -> None:
        first, second = list(range(PIECE + 5)), list(range(PIECE + 5, PIECE + 9))
        rows = in_files(tmp_path, {"x": first}, {"x": second})
        assert len(rows) == PIECE + 9
        assert [(n, row["x"]) for n, row in rows.chosen(None, 0)] == [(n, n) for n in range(PIECE + 9)]
        assert max(piece.num_rows for piece in rows.pieces()) <= PIECE

    def test_some_in_order_by_seed(self) -> None:
        rows = in_table({"x": list(range(3000))})
        one, again, other = (dict(rows.chosen(50, seed)) for seed in (1, 1, 2))
        assert one == again != other
        assert len(one) == 50
        assert list(one) == sorted(one)
        assert all(row["x"] == n for n, row in one.items())
        assert set(dict(rows.chosen(20, 1))) < set(one)
        assert len(dict(rows.chosen(3000, 1))) == len(dict(rows.chosen(None, 1))) == 3000

    def test_a_row_has_a_place_in_its_file(self, tmp_path: Path) -> None:
        rows = in_files(tmp_path, {"x": [1, 2]}, {"x": [3, 4]})
        assert rows.place(1) == f"{tmp_path}/part-0.parquet, row 1"
        assert rows.place(2) == f"{tmp_path}/part-1.parquet, row 0"
        assert in_table({"x": [1]}).place(0) == "made here, row 0"


class TestParted:
    def test_two_splits_without_a_row_in_common(self, tmp_path: Path) -> None:
        numbers = list(range(PIECE * 2 + 10))
        rows = in_files(tmp_path, {"x": numbers[:1500]}, {"x": numbers[1500:]})
        one, other = parted(rows, 0.3, seed=0)
        assert (len(one), len(other)) == (603, len(rows) - 603)
        drawn, rest = ([row["x"] for _, row in part.chosen(None, 0)] for part in (one, other))
        assert sorted(drawn + rest) == numbers
        assert drawn == sorted(drawn)
        assert [row["x"] for _, row in parted(rows, 0.3, seed=0)[0].chosen(None, 0)] == drawn
        assert other.place(len(other) - 1) == rows.place(rest[-1])
        assert one.fingerprint() != other.fingerprint()


class TestShape:
    def test_missing_columns_are_named(self) -> None:
        with pytest.raises(DataError, match="made here: has no column z; it has x"):
            in_table({"x": [1]}).refuse_unusable(["x", "z"], "")
        with pytest.raises(DataError, match="the split is empty"):
            in_table({"x": []}).refuse_unusable(["x"], "")

    def test_class_names_that_the_file_notes(self, tmp_path: Path) -> None:
        features = {"label": {"names": ["no", "yes"], "_type": "ClassLabel"}, "x": {"dtype": "int64"}}
        noted = {"huggingface": json.dumps({"info": {"features": features}})}
        table = pa.table({"label": [0, 1], "x": [1, 2]}).replace_schema_metadata(noted)
        pq.write_table(table, tmp_path / "a.parquet")
        rows = ParquetRows([tmp_path / "a.parquet"], "made here")
        assert rows.class_names("label") == ["no", "yes"]
        assert rows.class_names("x") is None

    def test_damage_behind_the_header_is_named(self, tmp_path: Path) -> None:
        file = tmp_path / "a.parquet"
        pq.write_table(
            pa.table({"x": [f"{i} words of text" for i in range(5000)]}), file, compression="snappy"
        )
        content = bytearray(file.read_bytes())
        content[200:3000] = bytes(2800)
        file.write_bytes(content)
        rows = ParquetRows([file], "made here")
        with pytest.raises(DataError, match=r"a\.parquet: is not a whole parquet file"):
            list(rows.chosen(None, 0))
