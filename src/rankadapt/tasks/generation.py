"""What tasks whose answers are texts have in common: templates, the loss over target tokens, generation.

The loss of a step is the mean over all target tokens of its global batch: examples weigh as many tokens as
they have, whatever the processes and micro-batches that they are dealt to.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from string import Formatter
from typing import Annotated, Any, ClassVar, NamedTuple

from annotated_types import Gt, MinLen
from pydantic import ConfigDict
from torch import Tensor, nn
from torch.nn import functional as F

from rankadapt.errors import DataError, Problem
from rankadapt.rows import JoinedRows, Rows, SomeRows
from rankadapt.sources import Sources
from rankadapt.tasks.decoding import STRICT, Decoding, generate
from rankadapt.tasks.examples import EvaluationSet, TokenExamples
from rankadapt.tasks.tokens import SKIP, Part, TokenTask

IGNORED = -100
"""The label of a token that is no target."""


@dataclass(kw_only=True)
class TextSplit:
    """A split on the hub, and how its rows become texts.

    Attributes:
        dataset, config, split: where it is; several configurations are joined in their order.
        first: only so many rows from its start; None for all.
        prompt: what the model is given; ``{column}`` stands for a column, a list for one line per entry.
        target: what it should answer. An evaluation set needs none, unless its score compares with it.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    dataset: str
    config: str | list[str]
    split: str
    prompt: str
    target: str = ""
    first: Annotated[int, Gt(0)] | None = None

    def rows(self, sources: Sources) -> Rows:
        """The split's rows."""
        configs = [self.config] if isinstance(self.config, str) else self.config
        parts = [sources.dataset(self.dataset, config, self.split) for config in configs]
        whole = parts[0] if len(parts) == 1 else JoinedRows(parts)
        if self.first is None or self.first >= len(whole):
            return whole
        return SomeRows(whole, range(self.first))

    def columns(self) -> list[str]:
        """The columns that the templates name."""
        found = [
            name for text in (self.prompt, self.target) for _, name, _, _ in Formatter().parse(text) if name
        ]
        return list(dict.fromkeys(found))


class Exchange(NamedTuple):
    """A prompt, its target (empty where there is none), and the row with all its columns."""

    prompt: str
    target: str
    row: Mapping[str, Any]


@dataclass(kw_only=True)
class GenerationTask(TokenTask):
    """A task whose answers are generated.

    Args:
        train: what is learned.
        evaluation: name of the results -> what is answered; the first one chooses the best step.
        decoding: how answers are generated.
    """

    no_tokens = TokenTask.no_tokens | {"decoding"}

    train: TextSplit
    evaluation: Annotated[Mapping[str, TextSplit], MinLen(1)]
    decoding: Decoding = field(default_factory=lambda: Decoding(max_new_tokens=64))

    def train_rows(self, sources: Sources) -> Rows:
        return self.train.rows(sources)

    def evaluation_rows(self, sources: Sources) -> dict[str, Rows]:
        return {name: found.rows(sources) for name, found in self.evaluation.items()}

    def split(self, name: str) -> TextSplit:
        """What is under ``name``: ``train`` or an evaluation set."""
        return self.train if name == "train" else self.evaluation[name]

    def check(self, rows: Rows, split: str) -> None:
        wanted = dict.fromkeys([*self.split(split).columns(), *self.scored_columns(split)])
        rows.refuse_unusable(list(wanted), "correct the templates of the task, or give its data set")

    def scored_columns(self, split: str) -> list[str]:
        """The columns of an evaluation set that its score reads."""
        return []

    def parse(self, row: Mapping[str, Any], place: str, split: str) -> Exchange:
        found = self.split(split)
        values = {name: _text(row[name], f"{place}, column {name}") for name in found.columns()}
        prompt, target = found.prompt.format_map(values), found.target.format_map(values)
        if not prompt.strip() or (found.target and not target.strip()):
            empty = "the prompt" if not prompt.strip() else "the target"
            raise DataError(Problem(place, None, f"{empty} is empty", SKIP))
        return Exchange(prompt, target, row)

    @abstractmethod
    def prompts(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """The part of an evaluation batch that ``generate`` takes."""

    @abstractmethod
    def end(self, tokenizer: Any) -> int | None:
        """The token that ends an answer; None for the model's own."""

    @abstractmethod
    def reference(self, split: str, asked: Exchange) -> str:
        """What an answer is compared with, or the name of it."""

    @abstractmethod
    def verdicts(
        self, split: str, answers: Sequence[Sequence[str]], asked: Sequence[Exchange]
    ) -> list[dict[str, Any]]:
        """What is to be said of the answers (one or several each) to each of what was asked, as plain values:
        all that the metrics need."""

    @abstractmethod
    def metrics(self, verdicts: Sequence[Mapping[str, Any]]) -> dict[str, float]:
        """The metrics of an evaluation set, from its verdicts."""

    def predict(self, model: nn.Module, batch: dict[str, Tensor], processor: Any) -> list[list[str]]:
        seeds = batch["index"].tolist()
        return generate(model, self.prompts(batch), self.decoding, processor, self.end(processor), seeds)

    def scored(self, part: Part, examples: TokenExamples) -> EvaluationSet:
        asked = dict(self.references(part))
        rows = [int(row) for row in examples.rows]

        def judge(predictions: Mapping[int, Sequence[str]]) -> dict[int, dict[str, Any]]:
            order = sorted(predictions)
            exchanges = [asked[rows[i]] for i in order]
            verdicts = self.verdicts(part.split, [predictions[i] for i in order], exchanges)
            return {
                i: {
                    "row": part.rows.place(rows[i]),
                    "prompt": exchange.prompt,
                    "generated": list(predictions[i]),
                    "reference": self.reference(part.split, exchange),
                    "verdict": verdict,
                }
                for i, exchange, verdict in zip(order, exchanges, verdicts, strict=True)
            }

        def score(judged: Mapping[int, Mapping[str, Any]]) -> dict[str, float]:
            return self.metrics([line["verdict"] for line in judged.values()])

        return EvaluationSet(examples, score, judge=judge)


def token_losses(logits: Tensor, labels: Tensor) -> Tensor:
    """(n,) the mean cross entropy over each example's targets, in float32.

    Args:
        logits: (n, T, V), each for the label at its own place.
        labels: (n, T), :data:`IGNORED` where there is no target.
    """
    losses = F.cross_entropy(logits.float().transpose(1, 2), labels, ignore_index=IGNORED, reduction="none")
    return losses.sum(1) / (labels != IGNORED).sum(1)


def _text(value: Any, where: str) -> str:
    if isinstance(value, list) and all(isinstance(entry, str) for entry in value):
        return "\n".join(value)
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        return str(value).replace("\r\n", "\n")  # MBPP's lines end in both ways
    raise DataError(Problem(where, value, "is not a text", SKIP))
