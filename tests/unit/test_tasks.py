"""Tasks: what they read and refuse, how they tokenise, pad, lose and measure."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from tiny_tokenizer import tiny_tokenizer, write_split

from rankadapt.errors import DataError, ModelError
from rankadapt.sources import Sources
from rankadapt.tasks.glue import Glue

ROWS = {"sentence1": ["a b c", "d", "e f"], "sentence2": ["a", "h g f e", "b"], "label": [0, 1, 0]}


def rte(**changes: Any) -> Glue:
    options: dict[str, Any] = {
        "name": "glue/rte",
        "config": "rte",
        "text": ["sentence1", "sentence2"],
        "labels": ["entailment", "not_entailment"],
        "metrics": ["accuracy"],
        "primary": "accuracy",
        "batch_size": 2,
        "max_length": 16,
    }
    return Glue(**{**options, **changes})


def stsb(**changes: Any) -> Glue:
    regression = {"labels": None, "metrics": ["pearson", "spearman"], "primary": "pearson"}
    return rte(**regression, target_range=[0.0, 5.0], **changes)


def mirror_with(folder: Path, train: dict[str, list] = ROWS, validation: dict[str, list] = ROWS) -> Sources:
    write_split(folder, "train", train)
    write_split(folder, "validation", validation)
    return Sources(folder)


class TestLoad:
    def test_tokens_labels_and_lengths(self, tmp_path: Path) -> None:
        data = rte().load(tiny_tokenizer(), mirror_with(tmp_path), seed=0)
        assert list(data.evaluation) == ["validation"]
        assert data.train.lengths.tolist() == [7, 8, 6]
        example = data.train[1]
        assert example["input_ids"].tolist() == [2, 7, 3, 11, 10, 9, 8, 3]
        assert example["token_type_ids"].tolist() == [0, 0, 0, 1, 1, 1, 1, 1]
        assert (example["labels"], example["index"]) == (1, 1)
        assert data.fingerprint["train"] == data.fingerprint["validation"]

    def test_one_text(self, tmp_path: Path) -> None:
        data = rte(text=["sentence2"]).load(tiny_tokenizer(), mirror_with(tmp_path), seed=0)
        assert data.train.lengths.tolist() == [3, 6, 3]

    def test_truncation_is_counted(self, tmp_path: Path) -> None:
        data = rte(max_length=7).load(tiny_tokenizer(), mirror_with(tmp_path), seed=0)
        assert data.train.lengths.tolist() == [7, 7, 6]
        assert {name: split.truncated for name, split in data.splits.items()} == {"train": 1, "validation": 1}

    def test_a_slow_tokenizer_is_refused(self, tmp_path: Path) -> None:
        slow = SimpleNamespace(is_fast=False)
        with pytest.raises(ModelError, match="fast tokenizer"):
            rte().load(slow, mirror_with(tmp_path), seed=0)  # type: ignore[arg-type]

    def test_a_training_subset_follows_the_seed(self, tmp_path: Path) -> None:
        many = {name: values * 20 for name, values in ROWS.items()}
        sources = mirror_with(tmp_path, many, many)

        def chosen(seed: int, size: int = 10) -> tuple[list[int], list[int]]:
            task = rte(max_train_examples=size, max_eval_examples=7)
            data = task.load(tiny_tokenizer(), sources, seed)
            return data.train.rows.tolist(), data.evaluation["validation"].examples.rows.tolist()

        assert chosen(0) == chosen(0)
        assert chosen(0)[0] != chosen(1)[0]
        assert chosen(0)[1] == chosen(1)[1]
        assert set(chosen(0, size=5)[0]) < set(chosen(0)[0])
        assert len(set(chosen(0)[0])) == 10
        assert chosen(0, size=1000)[0] == list(range(60))

    @pytest.mark.parametrize(
        ("column", "value", "said"),
        [
            (
                "label",
                [0, 7, 0],
                r"train-00000-of-00001\.parquet, row 1, column label = 7: classes are 0 to 1",
            ),
            ("label", [0, 1, -1], r"row 2, column label = -1:.*\n.*test splits have no labels"),
            ("label", [0, 0.5, 1], r"row 1, column label = 0\.5"),
            ("label", [0, None, 1], r"row 1, column label: is not a number"),
            ("label", ["x", "y", "z"], r"row 0, column label = 'x': is not a number"),
            ("sentence2", ["a", None, "b"], r"row 1, column sentence2: is not a text"),
        ],
    )
    def test_a_bad_value_is_named(self, tmp_path: Path, column: str, value: list, said: str) -> None:
        sources = mirror_with(tmp_path, {**ROWS, column: value})
        with pytest.raises(DataError, match=said):
            rte().load(tiny_tokenizer(), sources, seed=0)

    @pytest.mark.parametrize("value", [5.1, -0.1, float("nan"), float("inf")])
    def test_a_bad_target_is_named(self, tmp_path: Path, value: float) -> None:
        sources = mirror_with(tmp_path, {**ROWS, "label": [0.0, 5.0, value]})
        with pytest.raises(DataError, match=rf"row 2, column label = {value}: targets are 0 to 5"):
            stsb().load(tiny_tokenizer(), sources, seed=0)

    def test_a_missing_column_is_named(self, tmp_path: Path) -> None:
        sources = mirror_with(tmp_path)
        with pytest.raises(DataError, match="has no column premise; it has sentence1"):
            rte(text=["premise", "sentence2"]).load(tiny_tokenizer(), sources, seed=0)

    def test_an_empty_split_is_refused(self, tmp_path: Path) -> None:
        sources = mirror_with(tmp_path, validation={name: [] for name in ROWS})
        with pytest.raises(DataError, match=r"rte/validation: the split is empty"):
            rte().load(tiny_tokenizer(), sources, seed=0)

    def test_labels_in_another_order_are_refused(self, tmp_path: Path) -> None:
        from datasets import ClassLabel, Dataset

        sources, file = mirror_with(tmp_path), write_split(tmp_path, "train", ROWS)
        classes = ClassLabel(names=["not_entailment", "entailment"])
        Dataset.from_dict(ROWS).cast_column("label", classes).to_parquet(file)
        with pytest.raises(DataError, match=r"task\.labels .*the data's classes are \['not_entail"):
            rte().load(tiny_tokenizer(), sources, seed=0)

    def test_a_bad_row_may_be_left_out_and_is_counted(self, tmp_path: Path) -> None:
        sources = mirror_with(tmp_path, {**ROWS, "label": [0, 7, 0]})
        data = rte(bad_rows="skip").load(tiny_tokenizer(), sources, seed=0)
        assert data.train.rows.tolist() == [0, 2]
        assert {name: split.skipped for name, split in data.splits.items()} == {"train": 1, "validation": 0}
        again = rte(bad_rows="skip").load(tiny_tokenizer(), sources, seed=0)
        assert again.train.skipped == 1

    def test_no_row_that_can_be_used(self, tmp_path: Path) -> None:
        sources = mirror_with(tmp_path, {**ROWS, "label": [7, 7, 7]})
        with pytest.raises(DataError, match="rte/train: no row of it can be used"):
            rte(bad_rows="skip").load(tiny_tokenizer(), sources, seed=0)

    def test_a_selection_split_is_apart_from_what_is_reported(self, tmp_path: Path) -> None:
        many = {name: values * 20 for name, values in ROWS.items()}
        many["sentence2"] = [f"{'a ' * n}b" for n in range(60)]
        task = rte(selection_share=0.5, max_length=100)
        data = task.load(tiny_tokenizer(), mirror_with(tmp_path, many, many), seed=0)
        assert list(data.evaluation) == ["selection", "validation"]
        assert [len(found) for found in data.evaluation.values()] == [30, 30]
        lengths = [n for found in data.evaluation.values() for n in found.examples.lengths]
        assert sorted(lengths) == sorted(data.train.lengths.tolist())


class TestBatch:
    def batch(self, tmp_path: Path, side: str = "right", task: Glue | None = None) -> dict[str, torch.Tensor]:
        tokenizer = tiny_tokenizer(padding_side=side)
        task = task or rte()
        examples = task.load(tokenizer, mirror_with(tmp_path), seed=0).train
        return task.collate([examples[0], examples[1]], tokenizer, pad_to=10)

    def test_pads_to_the_given_length(self, tmp_path: Path) -> None:
        batch = self.batch(tmp_path)
        assert batch["input_ids"].tolist()[0] == [2, 4, 5, 6, 3, 4, 3, 0, 0, 0]
        assert batch["attention_mask"].sum(1).tolist() == [7, 8]
        assert batch["attention_mask"][0].tolist() == [1] * 7 + [0] * 3
        assert batch["token_type_ids"].shape == (2, 10)
        assert {batch[name].dtype for name in batch} == {torch.int64}
        assert batch["labels"].tolist() == batch["index"].tolist() == [0, 1]

    def test_pads_on_the_tokenizers_side(self, tmp_path: Path) -> None:
        batch = self.batch(tmp_path, side="left")
        assert batch["input_ids"].tolist()[0] == [0, 0, 0, 2, 4, 5, 6, 3, 4, 3]
        assert batch["attention_mask"][0].tolist() == [0] * 3 + [1] * 7

    def test_targets_of_a_regression_are_floats(self, tmp_path: Path) -> None:
        assert self.batch(tmp_path, task=stsb())["labels"].dtype == torch.float32

    def test_the_model_gets_no_labels(self, tmp_path: Path) -> None:
        inputs = rte().model_inputs(self.batch(tmp_path))
        assert set(inputs) == {"input_ids", "token_type_ids", "attention_mask"}


class TestLosses:
    def test_cross_entropy_of_each_example(self) -> None:
        logits, labels = torch.randn(5, 2), torch.tensor([0, 1, 1, 0, 1])
        losses = rte().losses(SimpleNamespace(logits=logits), {"labels": labels})
        torch.testing.assert_close(losses, -logits.log_softmax(1)[torch.arange(5), labels])

    def test_squared_error_of_each_example(self) -> None:
        outputs = SimpleNamespace(logits=torch.tensor([[1.0], [2.0]], dtype=torch.bfloat16))
        losses = stsb().losses(outputs, {"labels": torch.tensor([0.0, 2.5])})
        assert losses.dtype == torch.float32
        assert losses.tolist() == [1.0, 0.25]


class TestOptions:
    @pytest.mark.parametrize(
        "changes",
        [
            {"primary": "f1"},
            {"metrics": ["pearson"], "primary": "pearson"},
            {"labels": None},
            {"labels": ["a", "b", "c"], "metrics": ["f1"], "primary": "f1"},
            {"metrics": ["bleu"], "primary": "bleu"},
            {"text": []},
            {"batch_size": 0},
            {"evaluation": {"train": "train"}},
        ],
    )
    def test_nonsense_is_refused(self, changes: dict[str, Any]) -> None:
        options = {**vars(rte()), **changes}
        with pytest.raises(ValidationError):
            TypeAdapter(Glue).validate_python(options)

    def test_head_of_a_classification(self) -> None:
        head = rte().head_kwargs()
        assert head["num_labels"] == 2
        assert head["id2label"] == {0: "entailment", 1: "not_entailment"}
        assert head["label2id"] == {"entailment": 0, "not_entailment": 1}

    def test_head_of_a_regression(self) -> None:
        assert stsb().head_kwargs() == {"num_labels": 1, "problem_type": "regression"}
