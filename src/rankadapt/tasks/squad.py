"""Extractive question answering, as SQuAD 1.1 and 2.0 have it (Rajpurkar et al. 2016, 2018).

A context longer than the model is cut into windows that overlap by ``doc_stride`` tokens; each is an example.
In training a window without the (whole) answer points at its first token, [CLS], as does a question without
an answer; in evaluation the windows of a question are searched together (``evaluation/spans.py``).

Where this differs from the public scripts: padding can be no answer. Its logits take no part in the loss or
the search, so that neither depends on how far a batch is padded.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, NamedTuple

import numpy as np
import torch
from annotated_types import Ge, Gt
from torch import Tensor, nn
from torch.nn import functional as F

from rankadapt.errors import DataError, Problem
from rankadapt.evaluation.spans import Candidates, best_answers, candidates
from rankadapt.evaluation.squad import squad_v1, squad_v2
from rankadapt.rows import Rows
from rankadapt.sources import Sources
from rankadapt.tasks.examples import EvaluationSet, TokenExamples
from rankadapt.tasks.store import Encoded
from rankadapt.tasks.tokens import SKIP, Part, TokenTask, padded, text_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

COLUMNS = ["question", "context", "answers"]
OFFSETS = ("offset_start", "offset_end")
"""Of each token, the first character in the context and the one after the last; -1 outside the context."""
CLS = 0


class Question(NamedTuple):
    """A question on a context, and its right answers with the characters that they start at; none in v2 where
    there is no answer."""

    question: str
    context: str
    answers: tuple[str, ...]
    starts: tuple[int, ...]


class Window(NamedTuple):
    """What is predicted of a window: the null answer's score, and the best spans as (score, first character,
    character after the last)."""

    null: float
    spans: list[tuple[float, int, int]]


@dataclass(kw_only=True)
class Squad(TokenTask):
    """SQuAD, or any other data set on the hub with its columns.

    Args:
        dataset, config: the hub's repository and its configuration.
        unanswerable: whether there are questions without an answer (2.0).
        doc_stride: tokens that two windows of a context share.
        n_best: starts and ends that are paired, and spans that are kept of a window.
        max_answer_tokens: the longest answer.
        null_threshold: with ``unanswerable``, the null answer is given where its score is above the best
            span's by more than this.
    """

    auto_model: ClassVar[str] = "AutoModelForQuestionAnswering"
    no_tokens = TokenTask.no_tokens | {"n_best", "max_answer_tokens", "null_threshold"}

    dataset: str = "rajpurkar/squad"
    config: str = "plain_text"
    unanswerable: bool = False
    doc_stride: Annotated[int, Ge(0)] = 128
    n_best: Annotated[int, Gt(0)] = 20
    max_answer_tokens: Annotated[int, Gt(0)] = 30
    null_threshold: float = 0.0

    def __post_init__(self) -> None:
        if self.doc_stride >= self.max_length:
            raise ValueError(
                f"doc_stride = {self.doc_stride} must be below max_length = {self.max_length}: "
                "windows would not move on"
            )

    def processor(self, folder: str | Path) -> Any:
        tokenizer = super().processor(folder)
        tokenizer.padding_side = "right"  # the null answer is the first token
        return tokenizer

    def train_rows(self, sources: Sources) -> Rows:
        return sources.dataset(self.dataset, self.config, "train")

    def evaluation_rows(self, sources: Sources) -> dict[str, Rows]:
        return {"validation": sources.dataset(self.dataset, self.config, "validation")}

    def check(self, rows: Rows, split: str) -> None:
        rows.refuse_unusable(COLUMNS, "give a data set with SQuAD's columns: task.dataset")

    def parse(self, row: Mapping[str, Any], place: str, split: str) -> Question:
        question = text_of(row, "question", place, empty=False)
        context = text_of(row, "context", place, empty=False)
        answers = row["answers"] or {}
        texts, starts = tuple(answers.get("text") or ()), tuple(answers.get("answer_start") or ())
        where = f"{place}, column answers"
        if len(texts) != len(starts) or not (texts or self.unanswerable):
            reason = "has no answer" if not texts else f"has {len(texts)} answers and {len(starts)} starts"
            raise DataError(Problem(where, None, reason, SKIP))
        for text, start in zip(texts, starts, strict=True):
            if not text or context[start : start + len(text)] != text:
                found = context[start : start + len(text)]
                reason = f"the context has {found!r} at character {start}"
                raise DataError(Problem(where, text, reason, SKIP))
        return Question(question, context, texts, starts)

    def encode(
        self, parsed: Sequence[Question], tokenizer: PreTrainedTokenizerBase, split: str
    ) -> Iterable[Sequence[Encoded]]:
        batch = tokenizer(
            [row.question.strip() for row in parsed],
            [row.context for row in parsed],
            truncation="only_second",
            max_length=self.max_length,
            stride=self.doc_stride,
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
            return_attention_mask=False,
        )
        windows: list[list[Encoded]] = [[] for _ in parsed]
        for i, row in enumerate(batch["overflow_to_sample_mapping"]):
            inside = [part == 1 for part in batch.sequence_ids(i)]
            offsets = [
                pair if kept else (-1, -1)
                for pair, kept in zip(batch["offset_mapping"][i], inside, strict=True)
            ]
            fields = {name: batch[name][i] for name in ("input_ids", "token_type_ids") if name in batch}
            more = _positions(parsed[row], offsets) if split == "train" else _flat(offsets)
            windows[row].append(Encoded({**fields, **more}))
        return windows

    def collate(self, examples: Sequence[dict[str, Any]], processor: Any, pad_to: int) -> dict[str, Tensor]:
        plain = [
            {
                **{k: v for k, v in e.items() if k not in (*OFFSETS, "positions")},
                "labels": np.asarray(e.get("positions", (CLS, CLS)), dtype=np.int64),
            }
            for e in examples
        ]
        batch = super().collate(plain, processor, pad_to)
        if OFFSETS[0] in examples[0]:
            ends = [padded([e[name] for e in examples], pad_to, -1) for name in OFFSETS]
            batch["offsets"] = torch.stack(ends, dim=-1)
        return batch

    def model_inputs(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name: value for name, value in super().model_inputs(batch).items() if name != "offsets"}

    def losses(self, outputs: Any, batch: dict[str, Tensor]) -> Tensor:
        """The mean of the cross entropies of the answer's first and last token."""
        first, last = _ends(outputs, batch)
        labels = batch["labels"]
        starts = F.cross_entropy(first, labels[:, 0], reduction="none")
        return (starts + F.cross_entropy(last, labels[:, 1], reduction="none")) / 2

    def predict(self, model: nn.Module, batch: dict[str, Tensor], processor: Any) -> list[Window]:
        offsets = batch["offsets"]
        first, last = _ends(model(**self.model_inputs(batch)), batch)
        found = candidates(first, last, offsets[..., 0] >= 0, self.n_best, self.max_answer_tokens)
        starts, ends = offsets[..., 0].gather(1, found.start), offsets[..., 1].gather(1, found.end)
        lists = (found.null.tolist(), found.score.tolist(), starts.tolist(), ends.tolist())
        return [
            Window(null, [span for span in zip(*spans, strict=True) if span[0] > -inf])
            for null, *spans in zip(*lists, strict=True)
        ]

    def scored(self, part: Part, examples: TokenExamples) -> EvaluationSet:
        questions = dict(self.references(part))
        order = {row: position for position, row in enumerate(questions)}
        references = {str(row): question.answers for row, question in questions.items()}
        contexts = [question.context for question in questions.values()]
        whose = torch.tensor([order[int(row)] for row in examples.rows])

        def score(predictions: Mapping[int, Window]) -> dict[str, float]:
            spans, offsets = _gathered([predictions[i] for i in range(len(examples))], self.n_best)
            threshold = self.null_threshold if self.unanswerable else None
            answers = best_answers(contexts, whose, spans, offsets, threshold)
            texts = {key: answer.text for key, answer in zip(references, answers, strict=True)}
            if not self.unanswerable:
                return squad_v1(texts, references)
            null = {key: answer.null_difference for key, answer in zip(references, answers, strict=True)}
            return squad_v2(texts, {k: v or ("",) for k, v in references.items()}, null, threshold=inf)

        return EvaluationSet(examples, score, size=len(questions))


def _ends(outputs: Any, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """(n, L) logits of the answer's first and last token, in float32, none at padding."""
    padding = batch["attention_mask"] == 0
    first, last = (logits.float() for logits in (outputs.start_logits, outputs.end_logits))
    return first.masked_fill(padding, -inf), last.masked_fill(padding, -inf)


def _positions(row: Question, offsets: Sequence[tuple[int, int]]) -> dict[str, list[int]]:
    """The first and the last token of the first answer; [CLS] where the window has not all of it."""
    if not row.answers:
        return {"positions": [CLS, CLS]}
    start, end = row.starts[0], row.starts[0] + len(row.answers[0])
    inside = [i for i, (first, last) in enumerate(offsets) if first >= 0 and first < end and last > start]
    tokens = [i for i, (first, _) in enumerate(offsets) if first >= 0]
    whole = inside and offsets[tokens[0]][0] <= start and offsets[tokens[-1]][1] >= end
    return {"positions": [inside[0], inside[-1]] if whole else [CLS, CLS]}


def _flat(offsets: Sequence[tuple[int, int]]) -> dict[str, list[int]]:
    starts, ends = zip(*offsets, strict=True)
    return dict(zip(OFFSETS, (list(starts), list(ends)), strict=True))


def _gathered(windows: Sequence[Window], n_best: int) -> tuple[Candidates, Tensor]:
    """The spans of all windows as tensors, and their characters: span ``i`` of a window is token ``i``."""
    filled = [[*w.spans, *[(-inf, 0, 0)] * (n_best - len(w.spans))] for w in windows]
    values = torch.tensor(filled, dtype=torch.float64).reshape(len(windows), -1, 3)
    number = torch.arange(values.shape[1]).expand(len(windows), -1)
    null = torch.tensor([w.null for w in windows], dtype=torch.float64)
    return Candidates(number, number, values[..., 0], null), values[..., 1:].long()
