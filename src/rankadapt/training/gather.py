"""Plain Python values over all processes of a run; over one process, what was given."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch.distributed as dist

T = TypeVar("T")


def united(mine: Mapping[int, Any]) -> dict[int, Any]:
    """The entries of all processes; where several have one, that of the first process."""
    if not _several():
        return dict(mine)
    parts: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(parts, dict(mine))
    return {key: value for part in reversed(parts) for key, value in part.items()}


def on_first(compute: Callable[[], T]) -> T:
    """What ``compute`` gives on the first process, on all of them: what is costly is done once.

    Raises:
        Exception: whatever ``compute`` raised, on all of them.
    """
    if not _several():
        return compute()
    result: list[Any] = [None, None]
    if dist.get_rank() == 0:
        try:
            result[0] = compute()
        except Exception as error:  # the others wait for an answer: they get this one
            result[1] = error
    dist.broadcast_object_list(result, src=0)
    if result[1] is not None:
        raise result[1]
    return result[0]


def _several() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
