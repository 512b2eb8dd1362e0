"""What tasks on one text or a pair of texts have in common: tokens, head, loss, metrics."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import numpy as np
import torch
from annotated_types import MinLen
from torch import Tensor, nn
from torch.nn import functional as F

from rankadapt.evaluation.classification import REGRESSION, MetricName, classification
from rankadapt.tasks.examples import EvaluationSet, TokenExamples
from rankadapt.tasks.store import Encoded
from rankadapt.tasks.tokens import Part, TokenTask

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class Labelled(NamedTuple):
    """One or two texts, and a class number (int) or a target (float)."""

    texts: tuple[str, ...]
    label: float


@dataclass(kw_only=True)
class TextTask(TokenTask):
    """Classification of, or regression on, one text or a pair of texts. ``parse`` gives :class:`Labelled`.

    Args:
        labels: the class names in the order of their numbers; ``None`` for regression.
        metrics: what is reported; ``primary`` is one of them.
    """

    no_tokens = TokenTask.no_tokens | {"metrics"}

    labels: Annotated[list[str], MinLen(2)] | None
    metrics: Annotated[list[MetricName], MinLen(1)]

    def __post_init__(self) -> None:
        wrong = [name for name in self.metrics if (name in REGRESSION) != (self.labels is None)]
        if wrong:
            kind = "regression" if self.labels is None else "classification"
            raise ValueError(f"metrics {wrong} do not measure {kind}")
        if "f1" in self.metrics and len(self.labels or []) != 2:
            raise ValueError("the metric f1 is that of class 1 of two, and needs two labels")
        if self.primary not in self.metrics:
            raise ValueError(f"primary = {self.primary!r} is not among metrics = {self.metrics}")

    def head_kwargs(self) -> dict[str, Any]:
        if self.labels is None:
            return {"num_labels": 1, "problem_type": "regression"}
        return {
            "num_labels": len(self.labels),
            "problem_type": "single_label_classification",
            "id2label": dict(enumerate(self.labels)),
            "label2id": {label: number for number, label in enumerate(self.labels)},
        }

    def encode(
        self, parsed: Sequence[Labelled], tokenizer: PreTrainedTokenizerBase, split: str
    ) -> Iterable[Sequence[Encoded]]:
        columns = [list(column) for column in zip(*(row.texts for row in parsed), strict=True)]
        batch = tokenizer(*columns, truncation=True, max_length=self.max_length, return_attention_mask=False)
        for i, row in enumerate(parsed):
            cut = bool(batch.encodings[i].overflowing)
            fields = {name: values[i] for name, values in batch.data.items()}
            yield [Encoded(fields, row.label, truncated=cut)]

    def losses(self, outputs: Any, batch: dict[str, Tensor]) -> Tensor:
        """Cross entropy, or the squared error for regression."""
        logits = outputs.logits.float()
        if self.labels is None:
            return (logits.squeeze(-1) - batch["labels"]).square()
        return F.cross_entropy(logits, batch["labels"], reduction="none")

    def predict(self, model: nn.Module, batch: dict[str, Tensor], processor: Any) -> Sequence[float]:
        """Class numbers, or the targets themselves."""
        logits = model(**self.model_inputs(batch)).logits
        return (logits.float().squeeze(-1) if self.labels is None else logits.argmax(-1)).tolist()

    def scored(self, part: Part, examples: TokenExamples) -> EvaluationSet:
        labels = torch.as_tensor(examples.labels if examples.labels is not None else np.zeros(0))

        def score(predictions: Mapping[int, float]) -> dict[str, float]:
            order = sorted(predictions)
            values = torch.tensor([predictions[i] for i in order], dtype=torch.float64)
            return classification(self.metrics, values, labels[order].double(), len(self.labels or [""]))

        return EvaluationSet(examples, score)
