"""Tokens on disk: as they were made, found by what they depend on, never half there, built once."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_tokenizer import tiny_tokenizer, write_split

from rankadapt.errors import ConfigError
from rankadapt.sources import Sources
from rankadapt.tasks import store
from rankadapt.tasks.glue import Glue
from rankadapt.tasks.store import Encoded, stored

OPTIONS: dict[str, Any] = {
    "name": "glue/rte",
    "config": "rte",
    "text": ["sentence1"],
    "labels": ["yes", "no"],
    "metrics": ["accuracy"],
    "primary": "accuracy",
    "batch_size": 2,
    "max_length": 16,
}
ROWS = {"sentence1": ["a b c", "d"], "label": [0, 1]}


class Source:
    """Three rows: one example, two, and one that cannot be used; counts how often it is asked."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self) -> Iterator[tuple[int, list[Encoded] | None]]:
        self.asked += 1
        yield 0, [Encoded({"input_ids": [1, 2, 3], "labels": [5]}, weight=1)]
        yield (
            1,
            [
                Encoded({"input_ids": [4], "labels": [6, 7]}, weight=2),
                Encoded({"input_ids": [], "labels": []}),
            ],
        )
        yield 2, None


def test_gives_back_what_was_encoded(tmp_path: Path) -> None:
    source = Source()
    for _ in range(2):
        examples = stored(tmp_path, {"data": "x"}, source)
        assert examples.lengths.tolist() == [3, 1, 0]
        assert examples[1]["labels"].tolist() == [6, 7]
        assert examples.rows.tolist() == [0, 1, 1]
        assert examples.weights is not None
        assert examples.weights.tolist() == [1, 2, 1]
        assert (examples.skipped, examples.labels) == (1, None)
    assert source.asked == 1


def test_what_is_kept_is_mapped_not_loaded(tmp_path: Path) -> None:
    examples = stored(tmp_path, {"data": "x"}, Source())
    assert all(isinstance(values, np.memmap) for values, _ in examples._fields.values())


def test_more_than_a_buffer_is_written_from_the_first_value_on(tmp_path: Path) -> None:
    def encode() -> Iterator[tuple[int, list[Encoded]]]:
        for row in range(500):
            yield row, [Encoded({"input_ids": [row + 1] * 40, "labels": [row]})]

    examples = stored(tmp_path, {}, encode)
    assert [int(examples[i]["input_ids"].min()) for i in range(500)] == list(range(1, 501))
    assert [int(examples[i]["labels"][0]) for i in range(500)] == list(range(500))


def test_anything_else_in_the_key_is_another_split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = Source()
    stored(tmp_path, {"data": "x", "settings": {"length": 3}}, source)
    stored(tmp_path, {"data": "x", "settings": {"length": 4}}, source)
    monkeypatch.setattr(store, "_code", lambda: "another version")
    stored(tmp_path, {"data": "x", "settings": {"length": 4}}, source)
    assert source.asked == 3


@pytest.mark.parametrize("name", ["input_ids.values", "meta.json", "rows.npy"])
def test_a_damaged_folder_is_made_anew(tmp_path: Path, name: str) -> None:
    source = Source()
    stored(tmp_path, {}, source)
    file = next(tmp_path.glob(f"tokens/*/{name}"))
    file.write_bytes(file.read_bytes()[:-3])
    assert stored(tmp_path, {}, source)[0]["input_ids"].tolist() == [1, 2, 3]
    assert source.asked == 2


def test_what_fails_leaves_nothing(tmp_path: Path) -> None:
    def failing() -> Iterator[tuple[int, list[Encoded]]]:
        yield 0, [Encoded({"input_ids": [1]})]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stored(tmp_path, {}, failing)
    assert [path.suffix for path in (tmp_path / "tokens").iterdir()] == [".lock"]


def _slow(folder: str, log: str) -> None:
    def encode() -> Iterator[tuple[int, list[Encoded]]]:
        with open(log, "a") as stream:
            stream.write(f"{os.getpid()}\n")
        for row in range(20):
            time.sleep(0.01)
            yield row, [Encoded({"input_ids": [row] * 3})]

    assert stored(Path(folder), {"x": 1}, encode)[19]["input_ids"].tolist() == [19] * 3


def test_two_jobs_at_once_build_it_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    jobs = [context.Process(target=_slow, args=(str(tmp_path), str(tmp_path / "log"))) for _ in range(3)]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join(60)
    assert [job.exitcode for job in jobs] == [0, 0, 0]
    assert len((tmp_path / "log").read_text().splitlines()) == 1


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"paths\.cache = .*file/below': cannot be written to"):
        stored(tmp_path / "file" / "below", {}, Source())


class TestWithATask:
    def load(self, folder: Path, tokenizer: Any = None, **changes: Any) -> list[list[int]]:
        data = Glue(**{**OPTIONS, **changes}).load(
            tokenizer or tiny_tokenizer(), Sources(folder, folder / "cache"), seed=0
        )
        return [data.train[i]["input_ids"].tolist() for i in range(len(data.train))]

    def made(self, folder: Path) -> int:
        return len(list((folder / "cache" / "tokens").glob("*/meta.json")))

    def test_settings_tokenizer_and_data_name_the_tokens(self, tmp_path: Path) -> None:
        for split in ("train", "validation"):
            write_split(tmp_path, split, ROWS)
        first = self.load(tmp_path)
        assert self.load(tmp_path, batch_size=1, name="other") == first
        assert self.made(tmp_path) == 2
        assert self.load(tmp_path, max_length=4) != first
        assert self.load(tmp_path, tiny_tokenizer("c b a")) != first
        write_split(tmp_path, "train", {**ROWS, "sentence1": ["a b", "d"]})
        assert self.load(tmp_path) != first
        assert self.made(tmp_path) == 7
