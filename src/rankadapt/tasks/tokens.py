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
from torch import Tensor

from rankadapt.errors import DataError, ModelError, Problem
from rankadapt.rows import Rows
from rankadapt.sources import Sources
from rankadapt.tasks.base import NOT_FOR_THE_MODEL, Task
from rankadapt.tasks.examples import EvaluationSet, TaskData, TokenExamples
from rankadapt.tasks.store import Encoded, stored, tokenizer_fingerprint

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

EVALUATION_SUBSET_SEED = 0
TOKENISED_TOGETHER = 1000


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

    @abstractmethod
    def train_rows(self, sources: Sources) -> Rows:
        """The training split."""

    @abstractmethod
    def evaluation_rows(self, sources: Sources) -> dict[str, Rows]:
        """The evaluation splits, by the name of their results; the first one chooses the best step."""

    @abstractmethod
    def check(self, rows: Rows) -> None:
        """Raise a DataError if the split is not of this task's shape: no rows, a column that is missing."""

    @abstractmethod
    def parse(self, row: Mapping[str, Any], place: str) -> Any:
        """What a row means.

        Raises:
            DataError: it cannot be used; the problem's path starts with ``place``, its file and number.
        """

    @abstractmethod
    def encode(
        self, parsed: Sequence[Any], tokenizer: PreTrainedTokenizerBase, training: bool
    ) -> Iterable[Sequence[Encoded]]:
        """The examples of each parsed row: one, several or none."""

    @abstractmethod
    def scored(self, name: str, examples: TokenExamples, rows: Rows) -> EvaluationSet:
        """The evaluation set ``name``, with its metrics; :meth:`references` reads its rows once more."""

    def load(self, processor: Any, sources: Sources, seed: int = 0) -> TaskData:
        if not getattr(processor, "is_fast", False):
            reason = "a fast tokenizer (tokenizer.json) is needed, to count what is truncated"
            raise ModelError(Problem("tokenizer", type(processor).__name__, reason))
        rows = {"train": self.train_rows(sources), **self.evaluated(self.evaluation_rows(sources))}
        prints = {name: split.fingerprint() for name, split in rows.items()}
        for split in rows.values():
            self.check(split)
        made = {
            name: self._tokenised(split, prints[name], processor, sources, seed if name == "train" else None)
            for name, split in rows.items()
        }
        if not len(made["train"]):
            raise DataError(Problem(rows["train"].where, None, "no row of it can be used"))
        sets = {name: self.scored(name, made[name], rows[name]) for name in rows if name != "train"}
        return TaskData(made["train"], sets, prints)

    def references(self, rows: Rows) -> Iterator[tuple[int, Any]]:
        """(row number, parsed row) of all rows of an evaluation set but those that were skipped."""
        for row, values in rows.chosen(self.max_eval_examples, EVALUATION_SUBSET_SEED):
            parsed = self._parsed(values, rows, row)
            if parsed is not None:
                yield row, parsed

    def _tokenised(
        self, rows: Rows, data: str, tokenizer: Any, sources: Sources, train_seed: int | None
    ) -> TokenExamples:
        training = train_seed is not None
        size = self.max_train_examples if training else self.max_eval_examples
        chosen_by = EVALUATION_SUBSET_SEED if train_seed is None else train_seed
        settings = {k: v for k, v in dataclasses.asdict(self).items() if k not in self.no_tokens}
        key = {
            "data": data,
            "rows": None if size is None or size >= len(rows) else [size, chosen_by],
            "tokenizer": tokenizer_fingerprint(tokenizer),
            "task": f"{type(self).__module__}.{type(self).__qualname__}",
            "settings": settings,
            "training": training,
        }
        return stored(sources.cache, key, lambda: self._encoded(rows, size, chosen_by, tokenizer, training))

    def _encoded(
        self, rows: Rows, size: int | None, seed: int, tokenizer: Any, training: bool
    ) -> Iterator[tuple[int, Sequence[Encoded] | None]]:
        chosen = rows.chosen(size, seed)
        while piece := list(islice(chosen, TOKENISED_TOGETHER)):
            parsed = {row: self._parsed(values, rows, row) for row, values in piece}
            usable = {row: found for row, found in parsed.items() if found is not None}
            yield from ((row, None) for row in parsed.keys() - usable.keys())
            if usable:
                examples = self.encode(list(usable.values()), tokenizer, training)
                yield from zip(usable, examples, strict=True)

    def _parsed(self, values: Mapping[str, Any], rows: Rows, row: int) -> Any:
        """The parsed row; None if it cannot be used and may be skipped."""
        try:
            return self.parse(values, rows.place(row))
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
