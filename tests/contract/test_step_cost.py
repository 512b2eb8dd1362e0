"""What a step without a rank change costs: as many operations whatever the number of modules, and no wait."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from rankadapt.runs.session import build_session
from tests.composed import METHODS, small
from tests.contract.test_methods import trained

VIEWS = {"alias", "as_strided", "detach", "expand", "select", "slice", "t", "unbind", "unsqueeze", "view"}
"""They do nothing on a device."""
WAITS = {"_local_scalar_dense", "nonzero", "is_nonzero", "equal"}
"""The host needs their result."""
ALLOWED = {
    "increlora": {"gt", "mm", "mul", "mul_", "where"},  # its dense gradients: all at once is much memory
}


class Counting(TorchDispatchMode):
    """Counts operations by name."""

    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._schema.name.partition("::")[2]
        if name not in VIEWS:
            self.found[name] += 1
        return func(*args, **(kwargs or {}))


def operations(method: str, layers: int) -> dict[int, Counter[str]]:
    """What the controller does in each step of twelve that is quiet, for a BERT of so many blocks: without an
    event, nor right after one, when what it has changed is worked out once."""
    config = small(method)
    assert config.model.config is not None
    config.model.config["num_hidden_layers"] = layers
    if config.schedule is not None:
        config.schedule.delta_t, config.schedule.t_f = 4, 4
    if config.sparsity is not None:
        config.sparsity.every = 12
    made = build_session(config)
    controller, steps = made.controller, {step: Counting() for step in range(1, 13)}
    observe, adjust = controller.observe, controller.adjust

    def counted_observe() -> None:
        with steps[controller.taken + 1]:
            observe()

    def counted_adjust(step: int, optimizer: Any) -> Any:
        with steps[step]:
            return adjust(step, optimizer)

    controller.observe, controller.adjust = counted_observe, counted_adjust  # type: ignore[method-assign]
    trained(made, 12)
    events = set(controller.timetable.events()) if controller.timetable else set()
    return {step: steps[step].found for step in range(2, 12) if not {step, step - 1} & events}


@pytest.mark.parametrize("method", sorted(set(METHODS) - {"lalora"}))  # which decides anew at every step
def test_no_loop_over_modules_and_no_wait(method: str) -> None:
    few, many = operations(method, 2), operations(method, 3)
    assert len(few) > 3
    for step in few:
        more = {name for name in few[step] | many[step] if many[step][name] > few[step][name]}
        assert more <= ALLOWED.get(method, set()), step
        assert not WAITS & set(many[step]), step


def test_the_count_counts() -> None:
    with Counting() as counting:
        total = torch.ones(3).view(3, 1).sum()
        assert float(total) == 3
    assert counting.found["sum"] == 1
    assert WAITS & set(counting.found)
    assert "view" not in counting.found
