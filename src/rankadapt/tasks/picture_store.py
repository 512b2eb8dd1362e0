"""Images on disk, as encoded as they came: what a loader draws from without holding them.

The files of a split lie end to end in one, which is mapped into memory: the system keeps what is read of it
as long as there is room. What the process holds is three numbers per image; while a split is copied, a
thousand of its rows besides.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rankadapt.tasks.examples import Examples
from rankadapt.tasks.pixels import Pixels
from rankadapt.tasks.store import kept, seal


class Picture(NamedTuple):
    """An image file's bytes, and the number of its class."""

    encoded: bytes
    label: int


class PictureExamples(Examples):
    """Images that are decoded when they are asked for.

    Args:
        encoded: (bytes,) uint8, the files end to end.
        ends: (n,) the end of each.
        rows: (n,) the row that each is from.
        labels: (n,) class numbers.
        pixels: decodes one.
        skipped: see :class:`Examples`.
    """

    def __init__(
        self,
        encoded: np.ndarray,
        ends: np.ndarray,
        rows: np.ndarray,
        labels: np.ndarray,
        pixels: Pixels,
        skipped: int = 0,
    ):
        self._encoded, self._ends = encoded, ends
        self.rows, self.labels, self.pixels, self.skipped = rows, labels, pixels, skipped
        self.lengths = np.ones(len(ends), dtype=np.int64)

    def __getitem__(self, i: int) -> dict[str, Any]:
        """``pixel_values`` (3, S, S) float32, ``labels`` and ``index``."""
        encoded = self._encoded[self._ends[i - 1] if i else 0 : self._ends[i]].tobytes()
        return {"index": i, "labels": self.labels[i], "pixel_values": self.pixels(encoded)}


def stored_pictures(
    cache: Path,
    key: Mapping[str, Any],
    pictures: Callable[[], Iterator[tuple[int, Picture | None]]],
    pixels: Pixels,
) -> PictureExamples:
    """The split that ``key`` describes: from ``cache``, or copied there from ``pictures``.

    Args:
        pictures: gives (row number, its picture), or None for one that cannot be used.

    Raises:
        ConfigError: nothing can be written to ``cache``.
    """
    return _open(kept(cache, "pictures", key, lambda folder: _write(folder, pictures())), pixels)


def _write(folder: Path, pictures: Iterator[tuple[int, Picture | None]]) -> None:
    rows, ends, labels = array("q"), array("q"), array("q")
    end = skipped = 0
    with (folder / "encoded").open("wb") as stream:
        for row, picture in pictures:
            if picture is None:
                skipped += 1
                continue
            end += stream.write(picture.encoded)
            rows.append(row)
            ends.append(end)
            labels.append(picture.label)
    for name, values in (("rows", rows), ("ends", ends), ("labels", labels)):
        np.save(folder / f"{name}.npy", np.asarray(values, dtype=np.int64))
    seal(folder, {"skipped": skipped})


def _open(folder: Path, pixels: Pixels) -> PictureExamples:
    ends, rows, labels = (np.load(folder / f"{name}.npy") for name in ("ends", "rows", "labels"))
    encoded = np.memmap(folder / "encoded", dtype=np.uint8, mode="r") if len(ends) else np.zeros(0, np.uint8)
    skipped = json.loads((folder / "meta.json").read_text())["skipped"]
    return PictureExamples(encoded, ends, rows, labels, pixels, skipped)
