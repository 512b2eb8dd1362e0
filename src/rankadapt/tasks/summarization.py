"""Summaries by an encoder and a decoder (BART, T5), scored by ROUGE."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
from annotated_types import Gt
from torch import Tensor

from rankadapt.errors import ConfigError, Problem
from rankadapt.evaluation.rouge import means, rouge_of_each
from rankadapt.tasks.generation import IGNORED, Exchange, GenerationTask, token_losses
from rankadapt.tasks.store import Encoded
from rankadapt.tasks.tokens import padded

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(kw_only=True)
class Summarization(GenerationTask):
    """A text in, a shorter one out.

    Args:
        max_length: tokens of the text; what is longer is cut.
        max_target_length: tokens of the summary that is learned; what is longer is cut.
        sentences: how sentences are found for ROUGE-Lsum.
    """

    auto_model: ClassVar[str] = "AutoModelForSeq2SeqLM"
    no_tokens = GenerationTask.no_tokens | {"sentences"}

    max_target_length: Annotated[int, Gt(1)]
    sentences: Literal["pysbd", "newline"] = "pysbd"

    def join(self, model: PreTrainedModel, processor: Any) -> None:
        super().join(model, processor)
        start = getattr(model.config, "decoder_start_token_id", None)
        if start is None:
            reason = "names no decoder_start_token_id: it has no decoder to start"
            raise ConfigError(
                Problem("model", model.config.model_type, reason, "model=bart_large or t5_small")
            )
        processor.decoder_start_token_id = start

    def encode(
        self, parsed: Sequence[Exchange], tokenizer: PreTrainedTokenizerBase, split: str
    ) -> Iterable[Sequence[Encoded] | str]:
        texts = tokenizer([row.prompt for row in parsed], truncation=True, max_length=self.max_length)
        targets = tokenizer(
            text_target=[row.target for row in parsed], truncation=True, max_length=self.max_target_length
        )
        for i in range(len(parsed)):
            fields = {"input_ids": texts["input_ids"][i]}
            cut = bool(texts.encodings[i].overflowing)
            if split != "train":
                yield [Encoded(fields, truncated=cut)]
                continue
            ids = targets["input_ids"][i]
            cut |= bool(targets.encodings[i].overflowing)
            yield [Encoded({**fields, "targets": ids}, weight=len(ids), truncated=cut)]

    def collate(self, examples: Sequence[dict[str, Any]], processor: Any, pad_to: int) -> dict[str, Tensor]:
        plain = [{k: v for k, v in e.items() if k != "targets"} | {"labels": 0} for e in examples]
        batch = super().collate(plain, processor, pad_to)
        if "targets" not in examples[0]:
            return batch
        targets = [e["targets"] for e in examples]
        width = max(map(len, targets))
        width += width == pad_to  # the masks of encoder and decoder are told apart by their shapes
        shifted = [np.concatenate([[processor.decoder_start_token_id], t[:-1]]) for t in targets]
        ones = [np.ones(len(t), dtype=np.int64) for t in targets]
        batch["decoder_input_ids"] = padded(shifted, width, processor.pad_token_id)
        batch["decoder_attention_mask"] = padded(ones, width, 0)
        batch["labels"] = padded(targets, width, IGNORED)
        return batch

    def token_masks(self, batch: dict[str, Tensor]) -> tuple[Tensor, ...]:
        return batch["attention_mask"], batch["decoder_attention_mask"]

    def losses(self, outputs: Any, batch: dict[str, Tensor]) -> Tensor:
        """The mean cross entropy over the summary's tokens."""
        return token_losses(outputs.logits, batch["labels"])

    def prompts(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name: batch[name] for name in ("input_ids", "attention_mask")}

    def end(self, tokenizer: Any) -> int | None:
        return None

    def reference(self, split: str, asked: Exchange) -> str:
        return asked.target

    def verdicts(
        self, split: str, answers: Sequence[Sequence[str]], asked: Sequence[Exchange]
    ) -> list[dict[str, Any]]:
        """ROUGE-1, -2, -L and -Lsum of each summary in percent."""
        texts, right = [a[0].strip() for a in answers], [row.target for row in asked]
        return rouge_of_each(texts, right, split=self.sentences)

    def metrics(self, verdicts: Sequence[Mapping[str, Any]]) -> dict[str, float]:
        """Their means."""
        return means(verdicts)
