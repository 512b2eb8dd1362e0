"""Packing: nothing is lost, nothing leaks, and every loss is what it is without."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoConfig, AutoModelForCausalLM

from rankadapt.errors import ConfigError
from rankadapt.tasks.math import Mathematics, Problems
from rankadapt.tasks.packing import bins, packed
from rankadapt.training.validation import parse
from tests.composed import composed

WORDS = 60


def mathematics(**changes: object) -> Mathematics:
    where = {"dataset": "x/y", "config": "main", "prompt": "{question}"}
    options = {
        "name": "math/x",
        "primary": "accuracy",
        "batch_size": 4,
        "max_length": 64,
        "train": Problems(**where, split="train", target="{answer}"),  # type: ignore[arg-type]
        "evaluation": {"x": Problems(**where, split="test")},  # type: ignore[arg-type]
    }
    return Mathematics(**{**options, **changes})  # type: ignore[arg-type]


def tiny_llama(attention: str = "sdpa", heads: int = 2) -> torch.nn.Module:
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        "llama", vocab_size=WORDS, hidden_size=16, intermediate_size=32, num_hidden_layers=2,
        num_attention_heads=heads, num_key_value_heads=1, initializer_range=0.5,
    )  # fmt: skip
    return AutoModelForCausalLM.from_config(config, attn_implementation=attention).eval()


def some_examples(seed: int = 0, count: int = 7) -> list[dict]:
    rng = np.random.default_rng(seed)
    examples = []
    for index in range(count):
        length = int(rng.integers(4, 20))
        ids = rng.integers(3, WORDS, length).astype(np.int32)
        targets = ids.copy()
        targets[: rng.integers(1, length)] = -100
        examples.append({"index": index, "input_ids": ids, "targets": targets})
    return examples


def packing(*overrides: str) -> dict[str, Any]:
    return composed("task=math/gsm8k", "model=tiny_llama", "task.packing=true", *overrides)


VIRTUAL = ["form.task_type=CAUSAL_LM", "trainer.gradient_checkpointing=false"]
PROMPT = ["form.config._target_=peft.PromptTuningConfig", "+form.config.num_virtual_tokens=4"]
PROMPT += ["~form.config.r", "~form.config.alpha"]
REFUSED = {
    "another architecture": (["model.architecture=mistral"], "tested for llama alone, not for mistral"),
    "another attention": (
        ["model.attention=flash_attention_2"],
        "tested for sdpa and eager alone, not for flash_attention_2",
    ),
    "prefix": ([*VIRTUAL, "method=prefix"], "virtual tokens before a row"),
    "prompt": ([*VIRTUAL, "method=peft", *PROMPT], "virtual tokens before a row"),
}
"""What is chosen, and what is said of it."""


@pytest.mark.parametrize(("overrides", "why"), REFUSED.values(), ids=REFUSED)
def test_packing_is_refused_where_no_test_shows_that_nothing_leaks(overrides: list[str], why: str) -> None:
    with pytest.raises(ConfigError, match=rf"(?s)task\.packing = True: .*{why}.*task\.packing=false"):
        parse(packing(*overrides))
    parse(packing(*overrides, "task.packing=false"))


@pytest.mark.parametrize("overrides", [[], ["model.attention=eager"], ["model.attention=null"]])
def test_packing_is_allowed_where_tests_show_it(overrides: list[str]) -> None:
    assert parse(packing("method=lora", *overrides)).task.packs


def test_an_architecture_that_the_configuration_does_not_name_is_refused_when_the_model_is_there() -> None:
    parse(packing("method=lora", "model.architecture=null"))
    size = {"n_embd": 16, "n_layer": 1, "n_head": 2, "vocab_size": WORDS}
    gpt2 = AutoModelForCausalLM.from_config(AutoConfig.for_model("gpt2", **size))
    with pytest.raises(ConfigError, match="not for gpt2"):
        mathematics(packing=True).join(gpt2, Padding())
    mathematics(packing=False).join(gpt2, Padding())
    mathematics(packing=True).join(tiny_llama(), Padding())  # type: ignore[arg-type]


def test_a_prefix_would_leak() -> None:
    """Why it is refused: with past key values an example's logits depend on the one before it."""
    peft = pytest.importorskip("peft")
    config = peft.PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3)
    model = peft.get_peft_model(tiny_llama(), config).eval()
    changed = []
    for first in ([5, 6, 7], [8, 9, 10]):
        ids = [np.array(first), np.array([20, 21, 22])]
        batch = packed(ids, ids, 6)
        with torch.no_grad():
            inputs = {name: batch[name] for name in ("input_ids", "position_ids")}
            changed.append(model(**inputs, use_cache=False).logits[0, 3:])
    assert not torch.allclose(changed[0], changed[1], atol=1e-3)


class Padding:
    pad_token_id = 0


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 30), min_size=1, max_size=20), st.integers(10, 40))
def test_every_example_is_in_one_row_and_rows_are_full_as_first_fit_makes_them(
    lengths: list[int], capacity: int
) -> None:
    rows = bins(lengths, capacity)
    assert sorted(i for row in rows for i in row) == list(range(len(lengths)))
    totals = [sum(lengths[i] for i in row) for row in rows]
    assert all(total <= capacity or len(row) == 1 for row, total in zip(rows, totals, strict=True))
    assert sum(2 * total <= capacity for total in totals) <= 1


def test_a_packed_row() -> None:
    batch = packed([np.array([5, 6, 7]), np.array([8, 9])], [np.array([-100, 6, 7]), np.array([-100, 9])], 6)
    assert batch["input_ids"].tolist() == [[5, 6, 7, 8, 9]]
    assert batch["position_ids"].tolist() == [[0, 1, 2, 0, 1]]
    assert batch["owners"].tolist() == [[0, 0, 0, 1, 1]]
    assert batch["labels"].tolist() == [[-100, 6, 7, -100, 9]]


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("capacity", [24, 40, 200])
def test_logits_and_losses_are_those_without_packing(attention: str, capacity: int) -> None:
    model, examples = tiny_llama(attention), some_examples()
    plain, packing = mathematics(), mathematics(packing=True, pack_length=capacity)
    one = plain.collate(examples, Padding(), max(len(e["input_ids"]) for e in examples))
    other = packing.collate(examples, Padding(), 0)
    assert other["input_ids"].shape[0] < one["input_ids"].shape[0]
    with torch.no_grad():
        alone, together = (model(**t.model_inputs(b)) for t, b in ((plain, one), (packing, other)))
    for i, example in enumerate(examples):
        logits = together.logits[other["owners"] == i]
        torch.testing.assert_close(logits, alone.logits[i, : len(example["input_ids"])], atol=2e-5, rtol=1e-4)
    torch.testing.assert_close(
        packing.losses(together, other), plain.losses(alone, one), atol=2e-5, rtol=1e-4
    )


def test_the_loss_of_an_example_is_the_mean_over_its_targets() -> None:
    """A literal loop over the targets of each example."""
    model, examples = tiny_llama(), some_examples(1)
    task = mathematics()
    batch = task.collate(examples, Padding(), 20)
    with torch.no_grad():
        outputs = model(**task.model_inputs(batch))
    for i, example in enumerate(examples):
        logs = outputs.logits[i].log_softmax(-1)
        wanted = [float(-logs[t - 1, label]) for t, label in enumerate(example["targets"]) if label != -100]
        assert float(task.losses(outputs, batch)[i]) == pytest.approx(np.mean(wanted), abs=1e-5)


def test_masks_count_tokens_and_no_padding() -> None:
    examples = some_examples()
    total = sum(len(e["input_ids"]) for e in examples)
    for task in (mathematics(), mathematics(packing=True, pack_length=40)):
        (mask,) = task.token_masks(task.collate(examples, Padding(), 20))
        assert int(mask.sum()) == total
