"""Extractive QA: windows, positions, what is refused, and answers that do not depend on batches."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from tiny_tokenizer import tiny_tokenizer

from rankadapt.errors import DataError
from rankadapt.sources import Sources
from rankadapt.tasks.squad import Squad
from rankadapt.training.loader import EvalLoader, Share

WORDS = "a b c d e f g h i j k l"
CONTEXT = "a b c d e f g h i j k l"
ROW = {"question": "e f", "context": CONTEXT, "answers": {"text": ["d e"], "answer_start": [6]}}


def squad(**changes: Any) -> Squad:
    options = {"name": "squad/v1", "primary": "f1", "batch_size": 2, "max_length": 12, "doc_stride": 3}
    return Squad(**{**options, **changes})  # type: ignore[arg-type]


def mirror(folder: Path, *rows: dict[str, Any], repo: str = "rajpurkar/squad") -> Sources:
    for split in ("train", "validation"):
        file = folder / "datasets" / repo / "plain_text" / f"{split}-00000-of-00001.parquet"
        file.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist([{"id": str(i), **row} for i, row in enumerate(rows)]), file)
    return Sources(folder, folder / "cache")


class TestWindows:
    def test_they_overlap_and_point_at_the_answer_or_at_cls(self, tmp_path: Path) -> None:
        data = squad().load(tiny_tokenizer(WORDS), mirror(tmp_path, ROW))
        # [CLS] e f [SEP] + 7 tokens of the context + [SEP]; the next window starts 3 tokens before the end
        windows = [data.train[i] for i in range(len(data.train))]
        assert [w["input_ids"].tolist()[4:-1] for w in windows] == [
            list(range(4, 11)),
            list(range(8, 15)),
            [12, 13, 14, 15],
        ]
        assert [w["positions"].tolist() for w in windows] == [[7, 8], [0, 0], [0, 0]]
        assert data.train.rows.tolist() == [0, 0, 0]
        assert len(data.evaluation["validation"]) == 1

    def test_offsets_are_those_of_the_context(self, tmp_path: Path) -> None:
        examples = (
            squad().load(tiny_tokenizer(WORDS), mirror(tmp_path, ROW)).evaluation["validation"].examples
        )
        example = examples[1]
        pairs = zip(example["offset_start"], example["offset_end"], strict=True)
        assert [CONTEXT[s:e] if s >= 0 else None for s, e in pairs] == [*[None] * 4, *"efghijk", None]

    def test_an_answer_cut_by_a_window_is_not_in_it(self, tmp_path: Path) -> None:
        row = {**ROW, "answers": {"text": ["g h"], "answer_start": [12]}}
        data = squad().load(tiny_tokenizer(WORDS), mirror(tmp_path, row))
        assert [data.train[i]["positions"].tolist() for i in range(2)] == [[0, 0], [6, 7]]


class TestRefused:
    @pytest.mark.parametrize(
        ("changes", "said"),
        [
            (
                {"answers": {"text": ["d f"], "answer_start": [6]}},
                r"row 1, column answers = 'd f': the context has 'd e'",
            ),
            ({"answers": {"text": [], "answer_start": []}}, "row 1, column answers: has no answer"),
            ({"answers": {"text": ["a", "b"], "answer_start": [0]}}, "has 2 answers and 1 starts"),
            ({"question": " "}, "row 1, column question = ' ': is empty"),
            ({"context": None}, "row 1, column context: is not a text"),
        ],
    )
    def test_a_bad_row_is_named_or_left_out(self, tmp_path: Path, changes: dict[str, Any], said: str) -> None:
        sources = mirror(tmp_path, ROW, {**ROW, **changes})
        with pytest.raises(DataError, match=rf"train-00000-of-00001\.parquet, .*{said}"):
            squad().load(tiny_tokenizer(WORDS), sources)
        data = squad(bad_rows="skip").load(tiny_tokenizer(WORDS), sources)
        assert {name: split.skipped for name, split in data.splits.items()} == {"train": 1, "validation": 1}
        assert len(data.evaluation["validation"]) == 1

    def test_a_missing_column_is_named(self, tmp_path: Path) -> None:
        row = {"question": "a", "context": "b"}
        with pytest.raises(DataError, match="has no column answers; it has id, question, context"):
            squad().load(tiny_tokenizer(WORDS), mirror(tmp_path, row))

    def test_windows_that_do_not_move_on(self) -> None:
        with pytest.raises(ValidationError, match="doc_stride = 12 must be below max_length = 12"):
            TypeAdapter(Squad).validate_python(vars(squad()) | {"doc_stride": 12})


def test_a_training_batch_can_be_lost(tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer(WORDS)
    task = squad()
    train = task.load(tokenizer, mirror(tmp_path, ROW)).train
    batch = task.collate([train[0], train[1]], tokenizer, pad_to=12)
    assert batch["labels"].tolist() == [[7, 8], [0, 0]]
    logits = torch.zeros(2, 12)
    losses = task.losses(SimpleNamespace(start_logits=logits, end_logits=logits), batch)
    torch.testing.assert_close(losses, torch.full((2,), 12.0).log())
    assert set(task.model_inputs(batch)) == {"input_ids", "token_type_ids", "attention_mask"}


def test_the_loss_is_that_of_transformers_but_for_padding() -> None:
    torch.manual_seed(0)
    first, last = torch.randn(2, 3, 8)
    labels = torch.tensor([[1, 2], [0, 0], [5, 7]])
    batch = {"labels": labels, "attention_mask": torch.ones(3, 8, dtype=torch.int64)}
    losses = squad().losses(SimpleNamespace(start_logits=first, end_logits=last), batch)
    plain = [
        torch.nn.functional.cross_entropy(x, y) for x, y in ((first, labels[:, 0]), (last, labels[:, 1]))
    ]
    torch.testing.assert_close(losses.mean(), (plain[0] + plain[1]) / 2)
    wider = [torch.cat([x, torch.full((3, 4), 9.0)], dim=1) for x in (first, last)]
    batch["attention_mask"] = torch.cat(
        [batch["attention_mask"], torch.zeros(3, 4, dtype=torch.int64)], dim=1
    )
    again = squad().losses(SimpleNamespace(start_logits=wider[0], end_logits=wider[1]), batch)
    torch.testing.assert_close(again, losses)


class Reader(torch.nn.Module):
    """Sees the answer: its logits are high on the tokens d and e, and on padding."""

    def forward(self, input_ids: torch.Tensor, **_: Any) -> SimpleNamespace:
        noise = torch.sin(input_ids * 1.7)
        start, end = noise + 5 * (input_ids == 7), noise + 5 * (input_ids == 8)
        return SimpleNamespace(
            start_logits=start + 20 * (input_ids == 0), end_logits=end + 20 * (input_ids == 0)
        )


class TestScores:
    def evaluate(self, task: Squad, sources: Sources, batch_size: int, world: int = 1) -> dict[str, float]:
        tokenizer = tiny_tokenizer(WORDS)
        found = task.load(tokenizer, sources).evaluation["validation"]
        predictions: dict[int, Any] = {}
        for rank in range(world):
            collate = lambda examples, width: task.collate(examples, tokenizer, width)  # noqa: E731
            for batch in EvalLoader(found.examples, collate, batch_size, Share(rank, world)):
                predictions |= zip(
                    batch["index"].tolist(), task.predict(Reader(), batch, tokenizer), strict=True
                )
        return found.score(predictions)

    def test_the_right_answer_from_whichever_window(self, tmp_path: Path) -> None:
        wrong = {**ROW, "answers": {"text": ["k"], "answer_start": [20]}}
        scores = self.evaluate(squad(), mirror(tmp_path, ROW, wrong), 1)
        assert scores == {"exact_match": 50.0, "f1": 50.0}

    def test_batches_and_processes_change_nothing(self, tmp_path: Path) -> None:
        rows = [{**ROW, "question": q} for q in ("e f", "a", "k l a")]
        rows += [{**rows[0], "context": "a d e", "answers": {"text": ["d"], "answer_start": [2]}}]
        sources = mirror(tmp_path, *rows)
        one = self.evaluate(squad(n_best=3), sources, 1)
        assert (
            one
            == self.evaluate(squad(n_best=3), sources, 8)
            == self.evaluate(squad(n_best=3), sources, 2, world=3)
        )
        assert one["exact_match"] == 75.0

    def test_questions_without_an_answer(self, tmp_path: Path) -> None:
        none = {"question": "a", "context": "a b c", "answers": {"text": [], "answer_start": []}}
        sources = mirror(tmp_path, ROW, none)
        never, always = (
            self.evaluate(squad(unanswerable=True, null_threshold=t), sources, 2) for t in (1e9, -1e9)
        )
        assert (never["has_answer/f1"], never["no_answer/f1"]) == (100.0, 0.0)
        assert (always["has_answer/f1"], always["no_answer/f1"]) == (0.0, 100.0)
        assert never["best_f1"] == 100.0
