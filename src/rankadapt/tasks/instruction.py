"""Prompts that a decoder (LLaMA) answers: mathematics, commonsense, and whatever has a check of its own.

    [start] prompt target [end]    the loss: over target and end (mask_prompt), or over all but start
    [padding] [start] prompt       for generation, which goes on at the end

Packing puts the examples of a micro-batch into fewer rows. Each keeps its own positions from 0 on, by which
transformers' attention keeps them apart: nothing leaks, and no loss changes. Where that is not tested, it is
refused (``packing.py``).
"""

from __future__ import annotations

from abc import ABC
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
import torch
from annotated_types import Gt
from torch import Tensor
from torch.nn import functional as F

from rankadapt.errors import ConfigError, Problem
from rankadapt.tasks.generation import IGNORED, Exchange, GenerationTask, token_losses
from rankadapt.tasks.packing import packed, packing_problems
from rankadapt.tasks.store import Encoded
from rankadapt.tasks.tokens import padded

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

INPUTS = ("input_ids", "attention_mask", "position_ids")


@dataclass(kw_only=True)
class Instruction(GenerationTask, ABC):
    """A prompt in, its continuation out.

    Args:
        max_length: tokens of prompt and target in training, of the prompt alone in evaluation. A target is
            cut at its end (a row with nothing left of it cannot be used), a prompt at its start.
        max_prompt_length: tokens of a prompt in evaluation, if they are others.
        mask_prompt: leave the prompt out of the loss.
        packing: put the examples of a micro-batch into rows of up to ``pack_length`` tokens.
    """

    auto_model: ClassVar[str] = "AutoModelForCausalLM"
    no_tokens = GenerationTask.no_tokens | {"packing", "pack_length"}

    max_prompt_length: Annotated[int, Gt(3)] | None = None
    mask_prompt: bool = True
    packing: bool = False
    pack_length: Annotated[int, Gt(0)] = 2048

    @property
    def packs(self) -> bool:
        return self.packing

    def problems(self, architecture: str, attention: str | None) -> list[Problem]:
        return list(packing_problems(architecture, attention)) if self.packing else []

    def join(self, model: PreTrainedModel, processor: Any) -> None:
        super().join(model, processor)
        if problems := self.problems(model.config.model_type, model.config._attn_implementation):
            raise ConfigError(problems)

    def encode(
        self, parsed: Sequence[Exchange], tokenizer: PreTrainedTokenizerBase, split: str
    ) -> Iterable[Sequence[Encoded] | str]:
        return (self._example(row, tokenizer, split) for row in parsed)

    def _example(self, row: Exchange, tokenizer: Any, split: str) -> Sequence[Encoded] | str:
        text = row.prompt + (row.target if split == "train" else "")
        whole = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        ids = [*start_of(tokenizer), *whole["input_ids"]]
        if split != "train":
            most, start = self.max_prompt_length or self.max_length, start_of(tokenizer)
            cut = len(ids) > most
            return [
                Encoded({"input_ids": [*start, *ids[len(start) - most :]] if cut else ids}, truncated=cut)
            ]
        given = len(start_of(tokenizer)) + sum(end <= len(row.prompt) for _, end in whole["offset_mapping"])
        ids = [*ids, self.end(tokenizer)][: self.max_length]
        labels = [IGNORED] * given + ids[given:] if self.mask_prompt else [IGNORED, *ids[1:]]
        targets = sum(label != IGNORED for label in labels)
        if given >= len(ids):
            return (
                f"the prompt alone has {given} tokens, so that nothing of its target fits in task.max_length"
            )
        cut = len(whole["input_ids"]) + len(start_of(tokenizer)) + 1 > self.max_length
        return [Encoded({"input_ids": ids, "targets": labels}, weight=targets, truncated=cut)]

    def collate(self, examples: Sequence[dict[str, Any]], processor: Any, pad_to: int) -> dict[str, Tensor]:
        index = torch.tensor([e["index"] for e in examples])
        ids = [e["input_ids"] for e in examples]
        if "targets" in examples[0] and self.packing:
            return {"index": index, **packed(ids, [e["targets"] for e in examples], self.pack_length)}
        left = "targets" not in examples[0]
        ones = [np.ones(len(row), dtype=np.int64) for row in ids]
        batch = {
            "index": index,
            "input_ids": padded(ids, pad_to, processor.pad_token_id, left),
            "attention_mask": padded(ones, pad_to, 0, left),
        }
        if not left:
            batch["labels"] = padded([e["targets"] for e in examples], pad_to, IGNORED)
        return batch

    def model_inputs(self, batch: dict[str, Tensor]) -> dict[str, Any]:
        # Without a cache, by which transformers would take packed rows for single texts.
        return {name: batch[name] for name in INPUTS if name in batch} | {"use_cache": False}

    def token_masks(self, batch: dict[str, Tensor]) -> tuple[Tensor, ...]:
        if "owners" in batch:
            return ((batch["owners"] >= 0).long(),)
        return (batch["attention_mask"],)

    def losses(self, outputs: Any, batch: dict[str, Tensor]) -> Tensor:
        """The mean cross entropy over the target's tokens, each read off the token before it."""
        labels = F.pad(batch["labels"][:, 1:], (0, 1), value=IGNORED)
        if "owners" not in batch:
            return token_losses(outputs.logits, labels)
        owners = F.pad(batch["owners"][:, 1:], (0, 1), value=-1)[labels != IGNORED]
        losses = F.cross_entropy(
            outputs.logits[labels != IGNORED].float(), labels[labels != IGNORED], reduction="none"
        )
        sums = losses.new_zeros(2, len(batch["index"]))
        sums = sums.index_add(1, owners, torch.stack([losses, torch.ones_like(losses)]))
        return sums[0] / sums[1]

    def prompts(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name: batch[name] for name in ("input_ids", "attention_mask")}

    def end(self, tokenizer: Any) -> int:
        return tokenizer.eos_token_id if tokenizer.eos_token_id is not None else tokenizer.sep_token_id

    def overall(self, scores: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
        """The mean over several evaluation sets, of the metrics that all of them have."""
        reported = [values for name, values in scores.items() if name != "selection"]
        if len(reported) < 2:
            return {}
        shared = set.intersection(*(set(values) for values in reported))
        return {f"average/{k}": sum(v[k] for v in reported) / len(reported) for k in sorted(shared)}


def start_of(tokenizer: Any) -> list[int]:
    """The token before every text, if there is one."""
    start = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.cls_token_id
    return [] if start is None else [start]
