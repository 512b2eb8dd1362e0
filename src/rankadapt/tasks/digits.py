"""The handwritten digits that come with scikit-learn: a task with images, without a download."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from annotated_types import Gt, Lt

from rankadapt.errors import DataError, Problem
from rankadapt.rows import Rows, TableRows, parted
from rankadapt.sources import Sources
from rankadapt.tasks.images import ImageTask

SPLIT_SEED = 0
FULL = 16


@dataclass(kw_only=True)
class Digits(ImageTask):
    """1797 grey images of 8 x 8 pixels, some 180 of each digit (UCI, Alpaydin and Kaynak 1998).

    Args:
        eval_share: evaluated on; drawn once, the same for every seed. The others are trained on.
    """

    num_labels: int = 10
    eval_share: Annotated[float, Gt(0), Lt(1)] = 0.2

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.num_labels != 10:
            raise ValueError(f"num_labels = {self.num_labels}: there are 10 digits")

    def train_rows(self, sources: Sources) -> Rows:
        return parted(self._rows(), self.eval_share, SPLIT_SEED)[1]

    def evaluation_rows(self, sources: Sources) -> dict[str, Rows]:
        return {"test": parted(self._rows(), self.eval_share, SPLIT_SEED)[0]}

    def _rows(self) -> Rows:
        import pyarrow as pa

        try:
            from sklearn.datasets import load_digits
        except ImportError as error:
            reason = "needs scikit-learn, whose digits it reads"
            raise DataError(Problem(f"task {self.name}", None, reason, "pip install scikit-learn")) from error
        found = load_digits()
        columns = {self.image: [_png(image) for image in found.images], self.label: found.target.tolist()}
        return TableRows(pa.table(columns), "scikit-learn's digits")


def _png(image: np.ndarray) -> bytes:
    """(8, 8) shades from 0 to 16, as a file."""
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(np.round(image * (255 / FULL)).astype(np.uint8)).save(stream, format="png")
    return stream.getvalue()
