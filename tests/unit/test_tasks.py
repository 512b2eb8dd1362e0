"""Tasks: what they read and refuse, how they tokenise, pad, lose and measure."""

from __future__ import annotations

import re
import subprocess
import sys
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from pydantic import TypeAdapter, ValidationError
from scipy import stats
from sklearn import metrics as sk
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.tree import DecisionTreeClassifier
from tiny_tokenizer import tiny_tokenizer, write_split

from rankadapt.errors import DataError, ModelError
from rankadapt.sources import Sources
from rankadapt.tasks.entailment import Entailment
from rankadapt.tasks.glue import Glue
from rankadapt.tasks.metrics import MetricSet
from rankadapt.tasks.pairs import pairs

ROOT = Path(__file__).resolve().parents[2]
REAL_MIRROR = ROOT.parent / "shared" / "hub"
needs_real_mirror = pytest.mark.skipif(not REAL_MIRROR.is_dir(), reason=f"no mirror at {REAL_MIRROR}")
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
        assert data.truncated == {"train": 1, "validation": 1}

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
            return data.train.index.tolist(), data.evaluation["validation"].index.tolist()

        assert chosen(0) == chosen(0)
        assert chosen(0)[0] != chosen(1)[0]
        assert chosen(0)[1] == chosen(1)[1]
        assert chosen(0, size=5)[0] == chosen(0)[0][:5]
        assert len(set(chosen(0)[0])) == 10
        assert chosen(0, size=1000)[0] == list(range(60))

    @pytest.mark.parametrize(
        ("column", "value", "said"),
        [
            ("label", [0, 7, 0], r"train, column label, row 1 = 7\.0: classes are 0 to 1; 1 of 3 rows"),
            ("label", [0, 1, -1], r"row 2 = -1\.0:.*\n.*test splits have no labels"),
            ("label", [0, 0.5, 1], r"row 1 = 0\.5"),
            ("label", [0, None, 1], r"row 1 = nan"),
            ("label", ["x", "y", "z"], r"column label: holds no numbers"),
            ("sentence2", ["a", None, "b"], r"rte/train, column sentence2, row 1: is not a text"),
        ],
    )
    def test_a_bad_value_is_named(self, tmp_path: Path, column: str, value: list, said: str) -> None:
        sources = mirror_with(tmp_path, {**ROWS, column: value})
        with pytest.raises(DataError, match=said):
            rte().load(tiny_tokenizer(), sources, seed=0)

    @pytest.mark.parametrize("value", [5.1, -0.1, float("nan"), float("inf")])
    def test_a_bad_target_is_named(self, tmp_path: Path, value: float) -> None:
        sources = mirror_with(tmp_path, {**ROWS, "label": [0.0, 5.0, value]})
        with pytest.raises(DataError, match=rf"row 2 = {value}: targets are 0 to 5"):
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

        file = write_split(tmp_path, "train", ROWS)
        classes = ClassLabel(names=["not_entailment", "entailment"])
        Dataset.from_dict(ROWS).cast_column("label", classes).to_parquet(file)
        with pytest.raises(DataError, match=r"task\.labels .*the data's classes are \['not_entail"):
            rte().load(tiny_tokenizer(), Sources(tmp_path), seed=0)


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


def measure(names: list[str], logits: np.ndarray, labels: np.ndarray, batch: int = 7) -> dict[str, float]:
    task = MetricSet(names, logits.shape[1])  # type: ignore[arg-type]
    for start in range(0, len(labels), batch):
        rows = slice(start, start + batch)
        index = torch.arange(len(labels))[rows]
        outputs = SimpleNamespace(logits=torch.tensor(logits[rows]))
        task.update(outputs, {"labels": torch.tensor(labels[rows]), "index": index})
    return task.compute()


class TestMetrics:
    rng = np.random.default_rng(0)

    @pytest.mark.parametrize("classes", [2, 3])
    def test_classification_as_scikit_learn_has_it(self, classes: int) -> None:
        logits = self.rng.normal(size=(101, classes)).astype(np.float32)
        labels = self.rng.integers(classes, size=101)
        names = ["accuracy", "matthews_correlation"] + ["f1"] * (classes == 2)
        found = measure(names, logits, labels)
        guess = logits.argmax(1)
        assert found["accuracy"] == pytest.approx(sk.accuracy_score(labels, guess), abs=1e-6)
        assert found["matthews_correlation"] == pytest.approx(sk.matthews_corrcoef(labels, guess), abs=1e-6)
        if classes == 2:
            assert found["f1"] == pytest.approx(sk.f1_score(labels, guess), abs=1e-6)

    def test_regression_as_scipy_has_it(self) -> None:
        labels = (self.rng.integers(0, 26, size=101) / 5).astype(np.float32)  # with ties
        logits = (labels + self.rng.normal(size=101)).astype(np.float32)[:, None]
        found = measure(["pearson", "spearman"], logits, labels)
        assert found["pearson"] == pytest.approx(stats.pearsonr(logits[:, 0], labels)[0], abs=1e-6)
        assert found["spearman"] == pytest.approx(stats.spearmanr(logits[:, 0], labels)[0], abs=1e-6)

    def test_undefined_values_are_zero_and_lost_ones_nan(self) -> None:
        labels = np.array([0, 1, 1])
        same = np.ones((3, 2), dtype=np.float32)
        assert measure(["matthews_correlation", "f1"], same, labels) == {"matthews_correlation": 0, "f1": 0}
        targets = labels.astype(np.float32)
        assert measure(["pearson", "spearman"], same[:, :1], targets) == {"pearson": 0, "spearman": 0}
        assert np.isnan(measure(["pearson"], np.full((3, 1), np.nan), targets)["pearson"])

    def test_a_repeated_example_counts_once(self) -> None:
        task = MetricSet(["accuracy"], 2)
        logits = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
        batch = {"labels": torch.tensor([0, 0, 0]), "index": torch.tensor([5, 8, 8])}
        task.update(SimpleNamespace(logits=logits), batch)
        assert task.compute() == {"accuracy": 0.5}

    @pytest.mark.filterwarnings("ignore:The ``compute`` method")
    def test_reset_and_empty(self) -> None:
        task = MetricSet(["accuracy"], 2)
        batch = {"labels": torch.tensor([0]), "index": torch.tensor([0])}
        task.update(SimpleNamespace(logits=torch.tensor([[1.0, 0.0]])), batch)
        task.reset()
        assert np.isnan(task.compute()["accuracy"])
        assert not task.state_dict()

    @pytest.mark.slow
    def test_unequal_shards_give_what_one_process_gives(self, tmp_path: Path) -> None:
        code = """
import sys, torch, torch.distributed as dist
from types import SimpleNamespace
from rankadapt.tasks.metrics import MetricSet
rank, store, counts = int(sys.argv[1]), sys.argv[2], eval(sys.argv[3])
dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
torch.manual_seed(0)
logits, labels = torch.randn(8, 1), torch.randn(8)
def measure(rows):
    metric = MetricSet(["pearson", "spearman"], 1)
    if len(rows):
        metric.update(SimpleNamespace(logits=logits[rows]), {"labels": labels[rows], "index": rows})
    return metric
rows = torch.arange(8)
mine = rows[:counts] if rank == 0 else rows[counts:]
alone = measure(rows); alone.distributed_available_fn = lambda: False
assert measure(mine).compute() == alone.compute(), (measure(mine).compute(), alone.compute())
"""
        for count in (5, 8):
            processes = [
                subprocess.Popen(
                    [sys.executable, "-c", code, str(rank), str(tmp_path / f"s{count}"), str(count)],
                    env={"PYTHONPATH": ":".join(sys.path)},
                )
                for rank in range(2)
            ]
            assert [process.wait(timeout=120) for process in processes] == [0, 0]


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


GLUE_FILES = sorted((ROOT / "conf" / "task" / "glue").glob("*.yaml"))
PROTOCOL = {
    "adapter": {"lora_alpha", "dropout"},
    "model": {"classifier_dropout"},
    "optimizer": {"lr", "weight_decay", "warmup_steps"},
    "evaluation": {"every_n_steps"},
}


class TestYaml:
    def test_all_nine_are_there(self) -> None:
        names = "cola mnli mrpc qnli qqp rte sst2 stsb wnli"
        assert [file.stem for file in GLUE_FILES] == names.split()

    @pytest.mark.parametrize("file", GLUE_FILES, ids=lambda file: file.stem)
    def test_a_glue_file_is_a_task_and_its_protocol(self, file: Path) -> None:
        from omegaconf import OmegaConf

        text = file.read_text()
        assert text.startswith("# @package _global_\n")
        content: Any = OmegaConf.to_container(OmegaConf.create(yaml.safe_load(text)))
        assert content["task"].pop("_target_") == "rankadapt.tasks.glue.Glue"
        task = TypeAdapter(Glue).validate_python(content["task"])
        assert task.name == f"glue/{file.stem}"
        for node, keys in PROTOCOL.items():
            assert set(content[node]) == keys
        loaded: Any = OmegaConf.load(file)
        assert isinstance(loaded.optimizer.lr, float)
        assert loaded.trainer.max_epochs >= 5

    def test_the_demo_file(self) -> None:
        content = yaml.safe_load((ROOT / "conf" / "task" / "demo" / "entailment.yaml").read_text())
        content["task"].pop("_target_")
        assert TypeAdapter(Entailment).validate_python(content["task"]).train_size == 4000

    @needs_real_mirror
    @pytest.mark.parametrize("name", ["rte", "cola", "stsb", "wnli"])
    def test_on_the_real_data(self, name: str) -> None:
        content = yaml.safe_load((ROOT / "conf" / "task" / "glue" / f"{name}.yaml").read_text())
        content["task"].pop("_target_")
        task = TypeAdapter(Glue).validate_python({**content["task"], "max_train_examples": 8})
        data = task.load(tiny_tokenizer("the of and"), Sources(REAL_MIRROR), seed=0)
        assert len(data.train) == 8
        assert (
            len(data.evaluation["validation"]) == {"rte": 277, "cola": 1043, "stsb": 1500, "wnli": 71}[name]
        )


class TestEntailment:
    sample = list(islice(pairs(0), 4400))
    evaluation, train = sample[:400], sample[400:]

    def test_sizes_balance_and_determinism(self) -> None:
        task = Entailment(name="demo", primary="accuracy", batch_size=32, max_length=32)
        words = tiny_tokenizer("the")
        data, again = (task.load(words, Sources(), seed) for seed in (0, 1))
        assert (len(data.train), len(data.evaluation["validation"])) == (4000, 400)
        assert data.train.labels.mean() == data.evaluation["validation"].labels.mean() == 0.5
        assert data.fingerprint == again.fingerprint
        assert data.truncated == {"train": 0, "validation": 0}

    def test_no_pair_is_in_both_splits(self) -> None:
        texts = [(pair.premise, pair.hypothesis) for pair in self.sample]
        assert len(set(texts)) == len(texts)

    def test_it_is_short(self) -> None:
        longest = max(len(re.findall(r"\w+|[.,]", " ".join(pair[:2]))) for pair in self.sample)
        assert longest + 3 <= 32

    @pytest.mark.parametrize("seen", ["premise", "hypothesis", "both"])
    def test_bags_of_words_are_near_chance(self, seen: str) -> None:
        def texts(chosen: list) -> list[str]:
            if seen == "both":
                return [f"{pair.premise} {pair.hypothesis}" for pair in chosen]
            return [getattr(pair, seen) for pair in chosen]

        counts = CountVectorizer().fit(texts(self.train))
        model = LogisticRegression(max_iter=1000)
        model.fit(counts.transform(texts(self.train)), [pair.entails for pair in self.train])
        guess = model.predict(counts.transform(texts(self.evaluation)))
        assert np.mean(guess == [pair.entails for pair in self.evaluation]) < 0.65

    def test_overlap_and_length_are_near_chance(self) -> None:
        def features(chosen: list) -> np.ndarray:
            return np.array([overlap(pair.premise, pair.hypothesis) for pair in chosen])

        tree = DecisionTreeClassifier(max_depth=6, random_state=0)
        tree.fit(features(self.train), [pair.entails for pair in self.train])
        score = tree.score(features(self.evaluation), [pair.entails for pair in self.evaluation])
        assert score < 0.65


def overlap(premise: str, hypothesis: str) -> list[float]:
    first, second = (re.findall(r"\w+", text.lower()) for text in (premise, hypothesis))
    shared = sum(word in first for word in second)
    return [shared, len(second) - shared, len(first), len(second)]
