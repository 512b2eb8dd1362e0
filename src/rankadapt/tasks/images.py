"""Classification of images: CIFAR-100, Food-101, Flowers-102, RESISC45, and others of their shape.

Every image is resized to the model's square and normalised as its ``preprocessor_config.json`` says; there is
no augmentation, so that an example is the same whenever it is drawn.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from annotated_types import Ge, Gt, Len, MinLen
from torch import Tensor, nn
from torch.nn import functional as F

from rankadapt.errors import DataError, ModelError, Problem
from rankadapt.evaluation.classification import classification
from rankadapt.rows import Rows
from rankadapt.sources import Sources
from rankadapt.tasks.base import Task
from rankadapt.tasks.examples import EvaluationSet, TaskData
from rankadapt.tasks.picture_store import Picture, PictureExamples, stored_pictures
from rankadapt.tasks.pixels import Pixels, decoded, pixels_of
from rankadapt.tasks.tokens import EVALUATION_SUBSET_SEED, SKIP

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Colour = Annotated[list[Annotated[float, Ge(0)]], Len(3, 3)]


@dataclass(kw_only=True)
class ImageTask(Task):
    """One class per image. A family says where its rows are.

    Args:
        image: the column with the encoded images (bytes, or a struct with ``bytes``, as ``datasets`` has it).
        label: the column with the class numbers.
        num_labels: how many classes there are.
        labels: their names in the order of their numbers; if given, they must be the data's.
        size: pixels on either side; None for the model's own.
        mean, std: of red, green and blue, where a full channel is 1; None for the model's own.
        bad_rows: a row that cannot be used is an error that names it (``refuse``), or is left out and counted
            (``skip``).
    """

    auto_model: ClassVar[str] = "AutoModelForImageClassification"

    primary: str = "accuracy"
    image: str = "image"
    label: str = "label"
    num_labels: Annotated[int, Ge(2)]
    labels: list[str] | None = None
    size: Annotated[int, Gt(0)] | None = None
    mean: Colour | None = None
    std: Annotated[list[Annotated[float, Gt(0)]], Len(3, 3)] | None = None
    bad_rows: Literal["refuse", "skip"] = "refuse"

    def __post_init__(self) -> None:
        if self.labels is not None and len(self.labels) != self.num_labels:
            raise ValueError(f"labels: {len(self.labels)} names for num_labels = {self.num_labels}")
        if self.primary.rpartition("/")[2] != "accuracy":
            raise ValueError(f"primary = {self.primary!r}: images have the metric accuracy")

    @abstractmethod
    def train_rows(self, sources: Sources) -> Rows:
        """The training split."""

    @abstractmethod
    def evaluation_rows(self, sources: Sources) -> dict[str, Rows]:
        """The evaluation splits, by the name of their results; the first one chooses the best step."""

    def processor(self, folder: str | Path) -> Pixels:
        return pixels_of(folder, {"size": self.size, "mean": self.mean, "std": self.std})

    def head_kwargs(self) -> dict[str, Any]:
        kwargs: dict[str, Any] = {
            "num_labels": self.num_labels,
            "problem_type": "single_label_classification",
        }
        if self.labels is not None:
            kwargs["id2label"] = dict(enumerate(self.labels))
            kwargs["label2id"] = {label: number for number, label in enumerate(self.labels)}
        return kwargs

    def join(self, model: PreTrainedModel, processor: Pixels) -> None:
        """Refuse a model for images of another size: there is no token to agree on."""
        size = getattr(model.config, "image_size", None)
        sides = set(size) if isinstance(size, list | tuple) else {size}
        if size is not None and sides != {processor.size}:
            reason = f"{model.config.model_type} has learned the positions of images of size {size}"
            raise ModelError(
                Problem("task.size", processor.size, reason, f"task.size={size}, or another model")
            )

    def load(self, processor: Pixels, sources: Sources, seed: int = 0) -> TaskData:
        """All splits, each image decoded once to see that it can be; copied to the cache, still encoded."""
        splits = {"train": self.train_rows(sources), **self.evaluated(self.evaluation_rows(sources))}
        for rows in splits.values():
            self._check(rows)
        prints = {name: rows.fingerprint() for name, rows in splits.items()}
        made = {
            name: self._pictures(rows, name == "train", seed, prints[name], sources, processor)
            for name, rows in splits.items()
        }
        train = made.pop("train")
        if not len(train):
            raise DataError(Problem(splits["train"].where, None, "no row of it can be used"))
        return TaskData(train, {name: self._scored(examples) for name, examples in made.items()}, prints)

    def _check(self, rows: Rows) -> None:
        rows.refuse_unusable([self.image, self.label], "correct task.image or task.label")
        names = rows.class_names(self.label)
        if names is not None and len(names) != self.num_labels:
            reason = f"the data's classes are {len(names)}"
            raise DataError(Problem(f"task.num_labels ({rows.where})", self.num_labels, reason))
        if names is not None and self.labels not in (None, names):
            reason = f"the data's classes are {names}, in this order"
            raise DataError(Problem(f"task.labels ({rows.where})", self.labels, reason))

    def _pictures(
        self, rows: Rows, training: bool, seed: int, data: str, sources: Sources, pixels: Pixels
    ) -> PictureExamples:
        size = self.max_train_examples if training else self.max_eval_examples
        seed = seed if training else EVALUATION_SUBSET_SEED
        key = {
            "data": data,
            "rows": None if size is None or size >= len(rows) else [size, seed],
            "columns": [self.image, self.label],
            "num_labels": self.num_labels,
            "bad_rows": self.bad_rows,
        }
        return stored_pictures(sources.cache, key, lambda: self._parsed(rows, size, seed), pixels)

    def _parsed(self, rows: Rows, size: int | None, seed: int) -> Iterator[tuple[int, Picture | None]]:
        for row, values in rows.chosen(size, seed):
            try:
                yield row, self._parse(values, rows.place(row))
            except DataError:
                if self.bad_rows == "refuse":
                    raise
                yield row, None

    def _parse(self, row: Mapping[str, Any], place: str) -> Picture:
        label, image = row[self.label], row[self.image]
        if isinstance(label, bool) or not isinstance(label, int) or not 0 <= label < self.num_labels:
            reason = f"classes are 0 to {self.num_labels - 1}"
            raise DataError(Problem(f"{place}, column {self.label}", label, reason, SKIP))
        encoded = image.get("bytes") if isinstance(image, Mapping) else image
        where = f"{place}, column {self.image}"
        if not isinstance(encoded, bytes):
            raise DataError(Problem(where, None, "holds no image's bytes", SKIP))
        try:
            decoded(encoded)
        except ValueError as error:
            raise DataError(Problem(where, None, f"is not a whole image ({error})", SKIP)) from error
        return Picture(encoded, label)

    def collate(
        self, examples: Sequence[dict[str, Any]], processor: Pixels, pad_to: int
    ) -> dict[str, Tensor]:
        """``pixel_values`` (n, 3, S, S) float32, ``labels`` and ``index`` (n,); nothing is padded."""
        names = ("pixel_values", "labels", "index")
        return {name: torch.from_numpy(np.stack([e[name] for e in examples])) for name in names}

    def token_masks(self, batch: dict[str, Tensor]) -> tuple[Tensor, ...]:
        """None: every patch counts."""
        return ()

    def losses(self, outputs: Any, batch: dict[str, Tensor]) -> Tensor:
        """The cross entropy of each image."""
        return F.cross_entropy(outputs.logits.float(), batch["labels"], reduction="none")

    def predict(self, model: nn.Module, batch: dict[str, Tensor], processor: Pixels) -> list[int]:
        """The number of the likeliest class."""
        return model(**self.model_inputs(batch)).logits.argmax(-1).tolist()

    def _scored(self, examples: PictureExamples) -> EvaluationSet:
        def score(predictions: Mapping[int, int]) -> dict[str, float]:
            order = sorted(predictions)
            found = torch.tensor([predictions[i] for i in order], dtype=torch.int64)
            right = torch.from_numpy(examples.labels[order])
            return classification(["accuracy"], found, right, self.num_labels)

        return EvaluationSet(examples, score)


@dataclass(kw_only=True)
class Images(ImageTask):
    """Images of a data set on the hub.

    Args:
        dataset, config: the hub's repository and its configuration.
        train_split: the split that is trained on.
        evaluation: name in the results -> split; the first one chooses the best step.
    """

    dataset: str
    config: str = "default"
    train_split: str = "train"
    evaluation: Annotated[dict[str, str], MinLen(1)] = field(default_factory=lambda: {"test": "test"})

    def __post_init__(self) -> None:
        super().__post_init__()
        if "train" in self.evaluation:
            raise ValueError("evaluation: the name 'train' is taken by the training split")

    def train_rows(self, sources: Sources) -> Rows:
        return sources.dataset(self.dataset, self.config, self.train_split)

    def evaluation_rows(self, sources: Sources) -> dict[str, Rows]:
        return {
            name: sources.dataset(self.dataset, self.config, split) for name, split in self.evaluation.items()
        }
