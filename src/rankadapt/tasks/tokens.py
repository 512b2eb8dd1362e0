"""What all tasks on text have in common: rows are checked one by one, tokenised, kept, padded."""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from annotated_types import Gt
from torch import Tensor, nn

from rankadapt.errors import DataError, ModelError, Problem
from rankadapt.rows import Rows
from rankadapt.sources import Sources
from rankadapt.tasks.base import NOT_FOR_THE_MODEL, Task
from rankadapt.tasks.examples import EvaluationSet, TaskData, TokenExamples
from rankadapt.tasks.store import Encoded, stored, tokenizer_fingerprint

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

EVALUATION_SUBSET_SEED = 0
TOKENISED_TOGETHER = 1000


@dataclass(frozen=True)
class Part:
    """What is tokenised under one ``name``: ``rows`` of ``split``, which is ``train`` or an evaluation split.
    Only the part for the selection has another name than its split."""

    name: str
    split: str
    rows: Rows


@dataclass(kw_only=True)
class TokenTask(Task):
    """A task on text.

    A family says where its rows are (:meth:`train_rows`, :meth:`evaluation_rows`), what a row means
    (:meth:`parse`, which refuses what it cannot mean), what the model sees of it (:meth:`encode`), and how
    predictions are scored (:meth:`scored`).

    Args:
        max_length: tokens per example; what is longer is cut.
        bad_rows: a row that cannot be used is an error that names it (``refuse``), or is left out and counted
            (``skip``).
    """

    no_tokens: ClassVar[frozenset[str]] = frozenset(
        {"name", "primary", "batch_size", "eval_batch_size"}
        | {"max_train_examples", "max_eval_examples", "selection_share"}
    )
    """Settings that no token depends on; a family adds its own. The others name what is kept."""

    max_length: Annotated[int, Gt(3)]
    bad_rows: Literal["refuse", "skip"] = "refuse"

    def join(self, model: PreTrainedModel, processor: Any) -> None:
        super().join(model, processor)
        most = positions(model)
        if most is not None and self.max_length > most:
            reason = f"{model.config.model_type} has learned {most} positions"
            raise ModelError(Problem("task.max_length", self.max_length, reason, f"at most {most}"))

    @abstractmethod
    def train_rows(self, sources: Sources) -> Rows:
        """The training split."""

    @abstractmethod
    def evaluation_rows(self, sources: Sources) -> dict[str, Rows]:
        """The evaluation splits, by the name of their results; the first one chooses the best step."""

    @abstractmethod
    def check(self, rows: Rows, split: str) -> None:
        """Raise a DataError if ``split`` is not of this task's shape: no rows, a column that is missing."""

    @abstractmethod
    def parse(self, row: Mapping[str, Any], place: str, split: str) -> Any:
        """What a row of ``split`` means: ``train``, or the name of an evaluation set.

        Raises:
            DataError: it cannot be used; the problem's path starts with ``place``, its file and number.
        """

    @abstractmethod
    def encode(
        self, parsed: Sequence[Any], tokenizer: PreTrainedTokenizerBase, split: str
    ) -> Iterable[Sequence[Encoded] | str]:
        """The examples of each parsed row: one, several or none; or why its tokens cannot be used."""

    @abstractmethod
    def scored(self, part: Part, examples: TokenExamples) -> EvaluationSet:
        """An evaluation set with its metrics; :meth:`references` reads its rows once more."""

    def load(self, processor: Any, sources: Sources, seed: int = 0) -> TaskData:
        if not getattr(processor, "is_fast", False):
            reason = "a fast tokenizer (tokenizer.json) is needed, to count what is truncated"
            raise ModelError(Problem("tokenizer", type(processor).__name__, reason))
        parts = self._parts(sources)
        prints = {part.name: part.rows.fingerprint() for part in parts}
        for part in parts:
            self.check(part.rows, part.split)
        made = {
            part.name: self._tokenised(part, prints[part.name], processor, sources, seed) for part in parts
        }
        train, *evaluation = parts
        if not len(made[train.name]):
            raise DataError(Problem(train.rows.where, None, "no row of it can be used"))
        sets = {part.name: self.scored(part, made[part.name]) for part in evaluation}
        return TaskData(made[train.name], sets, prints)

    def _parts(self, sources: Sources) -> list[Part]:
        evaluation = self.evaluation_rows(sources)
        first = next(iter(evaluation))
        return [Part("train", "train", self.train_rows(sources))] + [
            Part(name, first if name == "selection" else name, rows)
            for name, rows in self.evaluated(evaluation).items()
        ]

    def references(self, part: Part) -> Iterator[tuple[int, Any]]:
        """(row number, parsed row) of all rows of an evaluation set but those that were skipped."""
        for row, values in part.rows.chosen(self.max_eval_examples, EVALUATION_SUBSET_SEED):
            parsed = self._parsed(values, part, row)
            if parsed is not None:
                yield row, parsed

    def _tokenised(
        self, part: Part, data: str, tokenizer: Any, sources: Sources, train_seed: int
    ) -> TokenExamples:
        training = part.split == "train"
        size = self.max_train_examples if training else self.max_eval_examples
        seed = train_seed if training else EVALUATION_SUBSET_SEED
        settings = {k: v for k, v in dataclasses.asdict(self).items() if k not in self.no_tokens}
        key = {
            "data": data,
            "rows": None if size is None or size >= len(part.rows) else [size, seed],
            "tokenizer": tokenizer_fingerprint(tokenizer),
            "task": f"{type(self).__module__}.{type(self).__qualname__}",
            "settings": settings,
            "split": part.split,
        }
        return stored(sources.cache, key, lambda: self._encoded(part, size, seed, tokenizer))

    def _encoded(
        self, part: Part, size: int | None, seed: int, tokenizer: Any
    ) -> Iterator[tuple[int, Sequence[Encoded] | None]]:
        chosen = part.rows.chosen(size, seed)
        while piece := list(islice(chosen, TOKENISED_TOGETHER)):
            parsed = {row: self._parsed(values, part, row) for row, values in piece}
            usable = {row: found for row, found in parsed.items() if found is not None}
            yield from ((row, None) for row in parsed.keys() - usable.keys())
            encoded = self.encode(list(usable.values()), tokenizer, part.split) if usable else ()
            for row, examples in zip(usable, encoded, strict=True):
                if isinstance(examples, str) and self.bad_rows == "refuse":
                    raise DataError(Problem(part.rows.place(row), None, examples, SKIP))
                yield row, None if isinstance(examples, str) else examples

    def _parsed(self, values: Mapping[str, Any], part: Part, row: int) -> Any:
        """The parsed row; None if it cannot be used and may be skipped."""
        try:
            return self.parse(values, part.rows.place(row), part.split)
        except DataError:
            if self.bad_rows == "refuse":
                raise
            return None

    def collate(self, examples: Sequence[dict[str, Any]], processor: Any, pad_to: int) -> dict[str, Tensor]:
        fill = {"input_ids": processor.pad_token_id, "token_type_ids": processor.pad_token_type_id}
        names = [name for name in examples[0] if name not in NOT_FOR_THE_MODEL]
        left = processor.padding_side == "left"
        batch = {name: padded([e[name] for e in examples], pad_to, fill[name], left) for name in names}
        ones = [np.ones(len(example["input_ids"]), dtype=np.int64) for example in examples]
        batch["attention_mask"] = padded(ones, pad_to, 0, left)
        for name in ("labels", "index"):
            batch[name] = torch.as_tensor(np.array([example[name] for example in examples]))
        return batch


def positions(model: nn.Module) -> int | None:
    """How many tokens a model can place that has learned an embedding per position; None for any number."""
    for name, module in model.named_modules():
        if isinstance(module, nn.Embedding) and "position" in name.rpartition(".")[2]:
            behind = getattr(
                module, "offset", None
            )  # BART's first positions are unused, RoBERTa's its padding
            if behind is None:
                behind = 0 if module.padding_idx is None else module.padding_idx + 1
            return module.num_embeddings - int(behind)
    return None


def padded(rows: Sequence[np.ndarray], width: int, fill: int, left: bool = False) -> Tensor:
    """(n, width) int64: the rows, filled up behind (or, with ``left``, in front)."""
    whole = np.full((len(rows), width), fill, dtype=np.int64)
    for line, row in zip(whole, rows, strict=True):
        line[slice(width - len(row), None) if left else slice(len(row))] = row
    return torch.from_numpy(whole)


def text_of(row: Mapping[str, Any], column: str, place: str, empty: bool = True) -> str:
    """The text in ``column``.

    Raises:
        DataError: it is no text, or an empty one where ``empty`` is False.
    """
    value = row[column]
    if not isinstance(value, str):
        raise DataError(Problem(f"{place}, column {column}", value, "is not a text", SKIP))
    if not empty and not value.strip():
        raise DataError(Problem(f"{place}, column {column}", value, "is empty", SKIP))
    return value


SKIP = "mend the row, or leave such rows out: task.bad_rows=skip"
