"""What a task is: data, head, per-example loss, predictions and their metrics."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from annotated_types import Ge, Gt, Lt
from torch import Tensor, nn

from rankadapt.errors import Problem
from rankadapt.rows import Rows, parted
from rankadapt.sources import Sources
from rankadapt.tasks.examples import TaskData

if TYPE_CHECKING:
    from transformers import PreTrainedModel

NOT_FOR_THE_MODEL = ("labels", "index", "weight")
SELECTION_SEED = 0


@dataclass(kw_only=True)
class Task(ABC):
    """Data, head, loss and metrics of one task.

    Args:
        name: how results are filed, e.g. ``glue/rte``.
        primary: the metric by which the best step is chosen; larger is better. It is one of the first
            evaluation set, or, with a slash, ``<set>/<metric>`` or one of :meth:`overall`.
        batch_size: training examples per optimizer step.
        eval_batch_size: examples per evaluation batch; changes no result.
        max_train_examples: take this many rows, chosen by the run's seed; ``None`` for all.
        max_eval_examples: take this many rows of each evaluation set, the same for every seed.
        selection_share: choose the best step on this share of the first evaluation set, which then is a set
            of its own, ``selection``; what is reported of the rest has had no part in the choice.
    """

    auto_model: ClassVar[str] = "AutoModelForSequenceClassification"

    name: str
    primary: str
    batch_size: Annotated[int, Gt(0)]
    eval_batch_size: Annotated[int, Gt(0)] = 64
    max_train_examples: Annotated[int, Gt(0)] | None = None
    max_eval_examples: Annotated[int, Gt(0)] | None = None
    selection_share: Annotated[float, Ge(0), Lt(1)] = 0.0

    def processor(self, folder: str | Path) -> Any:
        """What turns raw examples into the model's inputs, from the model's ``folder`` or name."""
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(folder)
        if tokenizer.pad_token is None:  # LLaMA: padding is masked, any token will do
            tokenizer.pad_token = tokenizer.eos_token
        return tokenizer

    def problems(self, architecture: str, attention: str | None) -> list[Problem]:
        """What the task cannot do with a model type of ``transformers`` and its ``attention`` (None: the
        model's own choice)."""
        return []

    @property
    def packs(self) -> bool:
        """Whether several examples share a row of tokens."""
        return False

    def head_kwargs(self) -> dict[str, Any]:
        """Keyword arguments for ``from_pretrained`` of the class named by :attr:`auto_model`."""
        return {}

    @abstractmethod
    def load(self, processor: Any, sources: Sources, seed: int = 0) -> TaskData:
        """Reads, checks and prepares all splits; the same arguments give the same data.

        Raises:
            DataError: a split is missing or damaged, or holds what the task cannot read.
        """

    @abstractmethod
    def collate(self, examples: Sequence[dict[str, Any]], processor: Any, pad_to: int) -> dict[str, Tensor]:
        """A batch: the model's inputs, ``labels`` and ``index`` (n,).

        ``pad_to`` is at least the longest example's length.
        """

    @abstractmethod
    def losses(self, outputs: Any, batch: dict[str, Tensor]) -> Tensor:
        """(n,) the loss of each example in float32: the mean over its targets, where it has several."""

    @abstractmethod
    def predict(self, model: nn.Module, batch: dict[str, Tensor], processor: Any) -> Sequence[Any]:
        """A prediction for each example of an evaluation batch: plain Python values, in order."""

    def overall(self, scores: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
        """Metrics over all evaluation sets, from the metrics of each; named with a slash."""
        return {}

    def evaluated(self, rows: Mapping[str, Rows]) -> dict[str, Rows]:
        """The evaluation splits, with the one for the selection first, if there is to be one."""
        if not self.selection_share:
            return dict(rows)
        first, *_ = rows
        selection, rest = parted(rows[first], self.selection_share, SELECTION_SEED)
        return {"selection": selection, **rows, first: rest}

    def join(self, model: PreTrainedModel, processor: Any) -> None:
        """Let model and processor agree on special tokens, in place, before the first batch is made."""
        if getattr(model.config, "pad_token_id", 0) is None:  # decoders that classify look for the last token
            model.config.pad_token_id = processor.pad_token_id  # before the padding

    def model_inputs(self, batch: dict[str, Tensor]) -> dict[str, Any]:
        """The part of a batch that the model's ``forward`` takes."""
        return {name: value for name, value in batch.items() if name not in NOT_FOR_THE_MODEL}

    def token_masks(self, batch: dict[str, Tensor]) -> tuple[Tensor, ...]:
        """1 for every token that is not padding, for each shape that the tokens of a batch come in."""
        return tuple(batch[name] for name in ("attention_mask",) if name in batch)
