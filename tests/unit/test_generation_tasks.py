"""Tasks whose answers are texts: tokens, targets, what is refused, answers alike at every batch size."""

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
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM

from rankadapt.adapters import BEA, inject
from rankadapt.errors import DataError
from rankadapt.sources import Sources
from rankadapt.tasks.commonsense import Commonsense
from rankadapt.tasks.decoding import Decoding
from rankadapt.tasks.generation import TextSplit
from rankadapt.tasks.math import Mathematics
from rankadapt.tasks.summarization import Summarization
from rankadapt.training.loader import EvalLoader, Share

WORDS = "a b c d e f g h the answer is 1 2 3 answer1 answer2"
ROWS = [
    {"question": "a b", "answer": "the answer is 1", "list": ["x", "y"]},
    {"question": "c", "answer": "2 the answer is 2", "list": []},
    {"question": "d e f g h", "answer": "3", "list": []},
]


def mirror(folder: Path, rows: list[dict[str, Any]] = ROWS, config: str = "main") -> Sources:
    for split in ("train", "test"):
        file = folder / "datasets" / "x" / "y" / config / f"{split}-00000-of-00001.parquet"
        file.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist(rows), file)
    return Sources(folder, folder / "cache")


def options(**changes: Any) -> dict[str, Any]:
    where = {"dataset": "x/y", "config": "main", "prompt": "{question}"}
    return {
        "name": "some/task",
        "primary": "accuracy",
        "batch_size": 2,
        "max_length": 16,
        "train": {**where, "split": "train", "target": " {answer}"},
        "evaluation": {"test": {**where, "split": "test"}},
        "decoding": {"max_new_tokens": 6},
        **changes,
    }


def mathematics(**changes: Any) -> Mathematics:
    return TypeAdapter(Mathematics).validate_python(options(**changes))


def summaries(**changes: Any) -> Summarization:
    own = options(primary="rouge1", max_target_length=8)
    own["evaluation"]["test"]["target"] = "{answer}"
    return TypeAdapter(Summarization).validate_python({**own, **changes})


class TestTemplates:
    def test_columns_in_order_and_lists_by_line(self) -> None:
        split = TextSplit(dataset="x", config="y", split="z", prompt="{b} {a} {b} {{c}}", target="{d}")
        assert split.columns() == ["b", "a", "d"]

    def test_a_list_is_one_line_per_entry(self, tmp_path: Path) -> None:
        task = mathematics()
        exchange = (
            TypeAdapter(Mathematics)
            .validate_python(options(train={**options()["train"], "prompt": "{question}:\n{list}"}))
            .parse(ROWS[0], "row 0", "train")
        )
        assert exchange.prompt == "a b:\nx\ny"
        assert task.parse(ROWS[0], "row 0", "test").target == ""

    def test_a_typing_error_in_a_split_is_refused(self) -> None:
        with pytest.raises(ValidationError, match="promt"):
            mathematics(train={**options()["train"], "promt": "x"})

    def test_a_missing_column_is_named(self, tmp_path: Path) -> None:
        task = mathematics(evaluation={"test": {**options()["evaluation"]["test"], "answer": "solution"}})
        with pytest.raises(DataError, match="x/y, main/test: has no column solution; it has question"):
            task.load(tiny_tokenizer(WORDS), mirror(tmp_path))

    def test_several_configurations_are_joined_and_cut(self, tmp_path: Path) -> None:
        mirror(tmp_path, config="more")
        train = {**options()["train"], "config": ["main", "more"], "first": 5}
        data = mathematics(train=train).load(tiny_tokenizer(WORDS), mirror(tmp_path))
        assert len(data.train) == 5
        bad = [*ROWS[:2], {**ROWS[2], "question": " "}]
        mirror(tmp_path, bad, config="more")
        with pytest.raises(
            DataError, match=r"more/train-00000-of-00001\.parquet, row 2: the prompt is empty"
        ):
            mathematics(train={**train, "first": None}).load(tiny_tokenizer(WORDS), mirror(tmp_path))


class TestInstructionTokens:
    def test_the_prompt_is_no_target_and_the_end_is_one(self, tmp_path: Path) -> None:
        data = mathematics().load(tiny_tokenizer(WORDS), mirror(tmp_path))
        example = data.train[0]  # [CLS] a b the answer is 1 [SEP]
        assert example["input_ids"].tolist() == [2, 4, 5, 12, 13, 14, 15, 3]
        assert example["targets"].tolist() == [-100, -100, -100, 12, 13, 14, 15, 3]
        assert data.train.weights is not None
        assert data.train.weights.tolist() == [5, 6, 2]
        prompt = data.evaluation["test"].examples[0]
        assert prompt["input_ids"].tolist() == [2, 4, 5]

    def test_without_a_mask_all_but_the_start_is_a_target(self, tmp_path: Path) -> None:
        data = mathematics(mask_prompt=False).load(tiny_tokenizer(WORDS), mirror(tmp_path))
        assert data.train[0]["targets"].tolist() == [-100, 4, 5, 12, 13, 14, 15, 3]

    def test_long_targets_are_cut_and_long_prompts_refused_or_left_out(self, tmp_path: Path) -> None:
        sources = mirror(tmp_path)
        with pytest.raises(DataError, match="row 2: the prompt alone has 6 tokens"):
            mathematics(max_length=5).load(tiny_tokenizer(WORDS), sources)
        data = mathematics(max_length=5, bad_rows="skip").load(tiny_tokenizer(WORDS), sources)
        assert data.train.lengths.tolist() == [5, 5]
        assert (data.train.truncated, data.train.skipped) == (2, 1)
        prompts = data.evaluation["test"].examples
        assert prompts[2]["input_ids"].tolist() == [2, 8, 9, 10, 11]  # the start, and the end of the prompt
        assert prompts.truncated == 1

    def test_batches_are_padded_behind_for_training_and_in_front_for_answers(self, tmp_path: Path) -> None:
        tokenizer, task = tiny_tokenizer(WORDS), mathematics()
        data = task.load(tokenizer, mirror(tmp_path))
        train = task.collate([data.train[0], data.train[2]], tokenizer, 9)
        assert train["attention_mask"].sum(1).tolist() == [8, 8]
        assert train["attention_mask"][0].tolist() == [1] * 8 + [0]
        prompts = data.evaluation["test"].examples
        asked = task.collate([prompts[0], prompts[2]], tokenizer, 6)
        assert asked["input_ids"].tolist()[0] == [0, 0, 0, 2, 4, 5]


class TestSummaries:
    def test_the_decoder_starts_and_is_taught_the_next_token(self, tmp_path: Path) -> None:
        tokenizer, task = tiny_tokenizer(WORDS), summaries()
        tokenizer.decoder_start_token_id = 1
        data = task.load(tokenizer, mirror(tmp_path))
        batch = task.collate([data.train[0], data.train[2]], tokenizer, 7)
        assert batch["labels"].tolist() == [[2, 12, 13, 14, 15, 3], [2, 17, 3, -100, -100, -100]]
        assert batch["decoder_input_ids"].tolist()[1] == [1, 2, 17, 0, 0, 0]
        assert batch["decoder_attention_mask"].tolist()[1] == [1, 1, 1, 0, 0, 0]
        assert data.train.weights is not None
        assert data.train.weights.tolist() == [6, 7, 3]

    def test_the_masks_of_encoder_and_decoder_have_different_shapes(self, tmp_path: Path) -> None:
        tokenizer, task = tiny_tokenizer(WORDS), summaries()
        tokenizer.decoder_start_token_id = 1
        data = task.load(tokenizer, mirror(tmp_path))
        encoder, decoder = task.token_masks(task.collate([data.train[0]], tokenizer, 6))
        assert encoder.shape != decoder.shape
        assert (int(encoder.sum()), int(decoder.sum())) == (4, 6)


def causal_model() -> torch.nn.Module:
    torch.manual_seed(3)
    config = AutoConfig.for_model(
        "llama", vocab_size=20, hidden_size=16, intermediate_size=32, num_hidden_layers=2,
        num_attention_heads=2, initializer_range=0.6, pad_token_id=0, bos_token_id=2, eos_token_id=3,
    )  # fmt: skip
    return AutoModelForCausalLM.from_config(config).eval()


def seq2seq_model() -> torch.nn.Module:
    torch.manual_seed(3)
    config = AutoConfig.for_model(
        "bart", vocab_size=20, d_model=16, encoder_layers=2, decoder_layers=2, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=32, decoder_ffn_dim=32, init_std=0.6, pad_token_id=0,
        bos_token_id=2, eos_token_id=3, decoder_start_token_id=3, forced_eos_token_id=3,
    )  # fmt: skip
    return AutoModelForSeq2SeqLM.from_config(config).eval()


def adapted(model: torch.nn.Module) -> torch.nn.Module:
    inject(model, ["*.q_proj", "*.v_proj"], BEA(std=0.5), rank=2, slots=3)
    with torch.no_grad():
        for name, values in model.named_parameters():
            if name.endswith(".e"):
                values.copy_(torch.linspace(-1, 1, values.numel()).view_as(values))
    return model


def answers(
    task: Any, model: torch.nn.Module, sources: Sources, batch_size: int, world: int = 1
) -> dict[int, list[str]]:
    tokenizer = tiny_tokenizer(WORDS)
    found = task.load(tokenizer, sources).evaluation["test"]
    given: dict[int, list[str]] = {}
    for rank in range(world):
        for batch in EvalLoader(
            found.examples, lambda e, width: task.collate(e, tokenizer, width), batch_size, Share(rank, world)
        ):
            given |= zip(batch["index"].tolist(), task.predict(model, batch, tokenizer), strict=True)
    return dict(sorted(given.items()))


COMMONSENSE = {
    **options(),
    "evaluation": {"test": {**options()["evaluation"]["test"], "options": "openbookqa"}},
}


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize(
    ("task", "model"),
    [
        (mathematics, causal_model),
        (lambda **c: TypeAdapter(Commonsense).validate_python({**COMMONSENSE, **c}), causal_model),
        (summaries, seq2seq_model),
    ],
    ids=["mathematics", "commonsense", "summarization"],
)
def test_answers_are_the_same_at_every_batch_size(task: Any, model: Any, beams: int, tmp_path: Path) -> None:
    rows = [{**ROWS[0], "question": " ".join("abcdefgh"[:n])} for n in range(1, 9)]
    sources, made = mirror(tmp_path, rows), adapted(model())
    asked = task(decoding={"max_new_tokens": 7, "min_new_tokens": 5, "num_beams": beams})
    one = answers(asked, made, sources, 1)
    assert one == answers(asked, made, sources, 8) == answers(asked, made, sources, 3, world=2)
    assert len({text for (text,) in one.values()}) > 2


def test_samples_depend_on_no_other_prompt(tmp_path: Path) -> None:
    rows = [{**ROWS[0], "question": " ".join("abcdefgh"[:n])} for n in range(1, 6)]
    sources, model = mirror(tmp_path, rows), causal_model()
    asked = mathematics(decoding={"max_new_tokens": 5, "samples": 4, "temperature": 2.0})
    one, other = answers(asked, model, sources, 1), answers(asked, model, sources, 4)
    assert one == other
    assert all(len(given) == 4 for given in one.values())
    assert len(set(one[0])) > 1


class TestScores:
    def score(self, task: Any, sources: Sources, texts: list[str]) -> dict[str, float]:
        found = task.load(tiny_tokenizer(WORDS), sources).evaluation["test"]
        return found.score(found.judge({i: [text] for i, text in enumerate(texts)}))

    def test_numbers(self, tmp_path: Path) -> None:
        said = ["the answer is 1", "the answer is 3", "no idea"]
        assert self.score(mathematics(), mirror(tmp_path), said)["accuracy"] == pytest.approx(100 / 3)

    def test_what_is_kept_of_each_example(self, tmp_path: Path) -> None:
        """Also where rows were skipped: the row is that of the data, the example that of the set."""
        rows = [ROWS[0], {**ROWS[1], "question": " "}, ROWS[2]]
        found = mathematics(bad_rows="skip").load(tiny_tokenizer(WORDS), mirror(tmp_path, rows))
        judged = found.evaluation["test"].judge({1: ["so 4 it is"], 0: ["the answer is 1"]})
        assert list(judged) == [0, 1]
        assert judged[1].pop("row").endswith("test-00000-of-00001.parquet, row 2")
        assert judged[1] == {
            "prompt": "d e f g h",
            "generated": ["so 4 it is"],
            "reference": "3",
            "verdict": {"answer": "4", "right": False},
        }
        assert judged[0]["verdict"] == {"answer": "1", "right": True}

    def test_options(self, tmp_path: Path) -> None:
        rows = [{**ROWS[0], "answer": name} for name in ("answer1", "answer2")]
        task = TypeAdapter(Commonsense).validate_python(COMMONSENSE)
        scores = self.score(task, mirror(tmp_path, rows), ["the answer is answer1", "answer1"])
        assert scores == {"accuracy": 50.0, "unanswered": 0.0}

    def test_summaries(self, tmp_path: Path) -> None:
        scores = self.score(summaries(), mirror(tmp_path), [row["answer"] for row in ROWS])
        assert scores["rouge1"] == scores["rougeLsum"] == 100.0

    def test_the_mean_over_sets(self) -> None:
        scores = {"selection": {"accuracy": 0.0}, "x": {"accuracy": 10.0}, "y": {"accuracy": 30.0, "f1": 1.0}}
        assert mathematics().overall(scores) == {"average/accuracy": 20.0}
        assert mathematics().overall({"x": {"accuracy": 10.0}}) == {}
        assert summaries().overall(scores) == {}


def test_the_loss_of_a_summary_is_that_of_transformers(tmp_path: Path) -> None:
    tokenizer, task, model = tiny_tokenizer(WORDS), summaries(), seq2seq_model()
    task.join(model, tokenizer)  # type: ignore[arg-type]
    data = task.load(tokenizer, mirror(tmp_path))
    batch = task.collate([data.train[i] for i in range(3)], tokenizer, 7)
    outputs = model(**task.model_inputs(batch))
    weights = torch.tensor(data.train.weights)
    ours = (task.losses(outputs, batch) * weights).sum() / weights.sum()
    inputs = {k: batch[k] for k in ("input_ids", "attention_mask", "labels")}
    assert float(ours) == pytest.approx(float(model(**inputs).loss), rel=1e-5)


def test_a_model_without_a_decoder_is_refused() -> None:
    from rankadapt.errors import ConfigError

    config = SimpleNamespace(model_type="bert", pad_token_id=0)
    with pytest.raises(ConfigError, match="no decoder_start_token_id"):
        summaries().join(SimpleNamespace(config=config, named_modules=list), tiny_tokenizer())  # type: ignore[arg-type]


def test_decoding_is_checked() -> None:
    with pytest.raises(ValidationError):
        mathematics(decoding={"max_new_tokens": 0})
    assert mathematics().decoding == Decoding(max_new_tokens=6)
