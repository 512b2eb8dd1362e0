"""Tokenised splits on disk, found again by what they were made of.

A split's folder is named by the hash of everything that its tokens depend on: the data's rows, which of them
were chosen, the tokenizer, the task's settings, and the code. What differs in any of it has another name, so
that nothing stale is ever found. A folder is written beside its place under a lock and then renamed: two jobs
at once build it once, and one that is killed leaves nothing that could be taken for a whole one.
"""

from __future__ import annotations

import functools
import hashlib
import json
import shutil
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from rankadapt.errors import ConfigError, Problem
from rankadapt.tasks.examples import TokenExamples

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Encoded:
    """One example of a row.

    Attributes:
        fields: name -> ints; ``input_ids`` is one of them.
        label: a class number (int) or target (float); None where the labels are a field.
        weight: how much it counts in the mean loss of a batch, e.g. its number of target tokens.
        truncated: whether it was cut.
    """

    fields: Mapping[str, Sequence[int]]
    label: float | None = None
    weight: float = 1.0
    truncated: bool = False


Encode = Callable[[], Iterator[tuple[int, Sequence[Encoded] | None]]]
"""Gives (row number, its examples), or None for the examples of a row that cannot be used."""


def stored(cache: Path, key: Mapping[str, Any], encode: Encode) -> TokenExamples:
    """The split that ``key`` describes: from ``cache``, or made by ``encode`` and kept there.

    Args:
        key: everything that the examples depend on, as plain values; the code is added here.

    Raises:
        ConfigError: nothing can be written to ``cache``.
    """
    return _open(kept(cache, "tokens", key, lambda folder: _write(folder, encode)))


def kept(cache: Path, kind: str, key: Mapping[str, Any], write: Callable[[Path], None]) -> Path:
    """The folder below ``cache/kind`` that ``key`` describes: as it is there, or filled by ``write`` now.

    Args:
        key: everything that the files depend on, as plain values; the code is added here.
        write: fills an empty folder, and ends with :func:`seal`.

    Raises:
        ConfigError: nothing can be written to ``cache``.
    """
    from filelock import FileLock

    described = json.dumps({**key, "code": _code()}, sort_keys=True, default=str)
    folder = cache / kind / hashlib.sha256(described.encode()).hexdigest()[:32]
    if not _whole(folder):
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(folder.with_suffix(".lock")):
                _build(folder, write)
        except OSError as error:
            remedy = "paths.cache=<folder>, or RANKADAPT_CACHE"
            reason = f"cannot be written to ({error.strerror or error})"
            raise ConfigError(Problem("paths.cache", str(cache), reason, remedy)) from error
    return folder


def seal(folder: Path, meta: Mapping[str, Any]) -> None:
    """Write down ``meta`` and how long each file of the folder is, by which a whole one is known."""
    sizes = {file.name: file.stat().st_size for file in folder.iterdir()}
    (folder / "meta.json").write_text(json.dumps({**meta, "bytes": sizes}))


def tokenizer_fingerprint(tokenizer: PreTrainedTokenizerBase) -> str:
    """A hash of all that decides which ids a fast tokenizer gives."""
    backend = tokenizer.backend_tokenizer
    backend.no_truncation()  # what the last call left set: every call sets its own
    backend.no_padding()
    whole = backend.to_str() + str(tokenizer.special_tokens_map)
    return hashlib.sha256(whole.encode()).hexdigest()[:16]


@functools.cache
def _code() -> str:
    """A hash of this package's source: what another version tokenised is not taken for this one's."""
    digest = hashlib.sha256()
    for file in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _build(folder: Path, write: Callable[[Path], None]) -> None:
    if _whole(folder):  # another job was faster
        return
    shutil.rmtree(folder, ignore_errors=True)
    beside = folder.with_suffix(".part")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir()
    try:
        write(beside)
        beside.rename(folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _whole(folder: Path) -> bool:
    """Whether the folder is there, with every file as long as it was made."""
    try:
        sizes = json.loads((folder / "meta.json").read_text())["bytes"]
        return all((folder / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError, KeyError):
        return False


class _Field:
    """Values of one field, written as they come; only where each example ends is kept in memory."""

    def __init__(self, file: Path):
        self._stream: BinaryIO = file.open("wb")
        self._end, self.ends = 0, array("q")

    def add(self, values: Sequence[int]) -> None:
        self._stream.write(np.asarray(values, dtype=np.int32).tobytes())
        self._end += len(values)
        self.ends.append(self._end)

    def close(self) -> np.ndarray:
        self._stream.close()
        return np.asarray(self.ends, dtype=np.int64)


def _write(folder: Path, encode: Encode) -> None:
    fields: dict[str, _Field] = {}
    rows, labels, weights = array("q"), [], array("d")
    truncated = skipped = 0
    for row, examples in encode():
        skipped += examples is None
        for example in examples or ():
            for name, values in example.fields.items():
                if name not in fields:
                    fields[name] = _Field(folder / f"{name}.values")
                fields[name].add(values)
            rows.append(row)
            weights.append(example.weight)
            truncated += example.truncated
            if example.label is not None:
                labels.append(example.label)
    for name, field in fields.items():
        np.save(folder / f"{name}.ends.npy", field.close())
    np.save(folder / "rows.npy", np.asarray(rows, dtype=np.int64))
    if labels:
        kind = np.float32 if isinstance(labels[0], float) else np.int64
        np.save(folder / "labels.npy", np.array(labels, dtype=kind))
    if any(weight != 1.0 for weight in weights):
        np.save(folder / "weights.npy", np.asarray(weights))
    seal(folder, {"fields": list(fields), "truncated": truncated, "skipped": skipped})


def _open(folder: Path) -> TokenExamples:
    meta = json.loads((folder / "meta.json").read_text())
    fields = {name: _opened(folder, name) for name in meta["fields"] or ["input_ids"]}
    labels, weights = (_array(folder / f"{name}.npy") for name in ("labels", "weights"))
    rows = np.load(folder / "rows.npy")
    return TokenExamples(fields, rows, labels, weights, meta["truncated"], meta["skipped"])


def _opened(folder: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    file = folder / f"{name}.values"
    if not file.exists():  # no row gave an example
        return np.zeros(0, dtype=np.int32), np.zeros(0, dtype=np.int64)
    empty = not file.stat().st_size
    values = np.zeros(0, dtype=np.int32) if empty else np.memmap(file, dtype=np.int32, mode="r")
    return values, np.load(folder / f"{name}.ends.npy")


def _array(file: Path) -> np.ndarray | None:
    return np.load(file) if file.exists() else None
