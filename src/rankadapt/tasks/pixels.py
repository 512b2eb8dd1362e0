"""From an encoded image to the numbers that a vision transformer reads."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rankadapt.errors import ModelError, Problem

if TYPE_CHECKING:
    from PIL.Image import Image

BILINEAR = 2
"""PIL's number for the filter, and transformers'."""

FILE = "preprocessor_config.json"


@dataclass(frozen=True)
class Pixels:
    """How an image becomes the model's input. Calling it with a file's bytes gives (3, size, size) float32.

    The same as transformers' image processor of ViT: turned upright, in RGB, resized to a square whatever its
    shape, divided by 255; then, in each channel, less ``mean`` and over ``std``. Nothing is random.

    Attributes:
        size: pixels on either side.
        mean, std: of red, green and blue, where a full channel is 1.
        resample: PIL's number of the filter.
    """

    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    resample: int = BILINEAR

    def __call__(self, encoded: bytes) -> np.ndarray:
        resized = decoded(encoded).resize((self.size, self.size), self.resample)
        channels = np.asarray(resized, dtype=np.float32).transpose(2, 0, 1) / 255
        mean, std = (np.array(v, dtype=np.float32)[:, None, None] for v in (self.mean, self.std))
        return np.ascontiguousarray((channels - mean) / std)


def decoded(encoded: bytes) -> Image:
    """The whole image of a file's bytes, upright and in RGB.

    Raises:
        ValueError: it cannot be read to its end.
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(io.BytesIO(encoded)) as image:
            image.load()
            return ImageOps.exif_transpose(image).convert("RGB")
    except Exception as error:  # PIL's decoders let out whatever they stumble over
        raise ValueError(str(error) or type(error).__name__) from error


def pixels_of(folder: str | Path, given: Mapping[str, Any]) -> Pixels:
    """What prepares images for the model in ``folder`` (or of that name on the hub).

    Args:
        given: ``size``, ``mean`` and ``std``; what is None is the model's own, from its
            ``preprocessor_config.json``.

    Raises:
        ModelError: neither says something, or the model wants its images otherwise.
    """
    found = _preprocessor(folder) if None in given.values() else {}
    own: dict[str, Any] = {
        "size": _side(found.get("size")),
        "mean": _three(found.get("image_mean"), 0.0, found),
        "std": _three(found.get("image_std"), 1.0, found),
    }
    said = {name: own[name] if value is None else value for name, value in given.items()}
    if missing := [name for name, value in said.items() if value is None]:
        reason = (
            f"there is no {FILE} that says it" if not found else f"{FILE} does not give a square and colours"
        )
        remedy = "e.g. task.size=224 'task.mean=[0.5,0.5,0.5]' 'task.std=[0.5,0.5,0.5]'"
        raise ModelError([Problem(f"task.{n} ({folder})", None, reason, remedy) for n in missing])
    return Pixels(said["size"], tuple(said["mean"]), tuple(said["std"]), int(found.get("resample", BILINEAR)))


def _preprocessor(folder: str | Path) -> Mapping[str, Any]:
    """The model's ``preprocessor_config.json`` (or that part of ``processor_config.json``); {} without."""
    from transformers.image_processing_base import ImageProcessingMixin

    try:
        return ImageProcessingMixin.get_image_processor_dict(folder)[0]
    except OSError:
        return {}


def _side(size: Any) -> int | None:
    """The side of the square to resize to; None where it is no square (``shortest_edge``, then a crop)."""
    if isinstance(size, Mapping):
        height, width = size.get("height"), size.get("width")
        return height if height == width else None
    return size


def _three(
    values: Sequence[float] | None, neutral: float, found: Mapping[str, Any]
) -> Sequence[float] | None:
    if found and not found.get("do_normalize", True):
        return (neutral,) * 3
    return values if values is not None and len(values) == 3 else None
