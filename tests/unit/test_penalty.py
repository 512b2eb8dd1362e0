"""The orthogonality penalty's closed form against autograd."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rankadapt.adapters import BA, BEA, Adapters, inject
from rankadapt.adapters.penalty import Orthogonality
from tests.tiny import bert, fill, layers_of, mlp

RANKS = [3, 1, 4, 2]
KINDS: list[tuple[bool, Any]] = [(True, "sum"), (False, "mean"), (True, "mean"), (False, "sum")]
each_kind = pytest.mark.parametrize(("squared", "reduction"), KINDS)


def literal(adapters: Adapters, penalty: Orthogonality, width: Callable[[Any], int]) -> Tensor:
    """The penalty for autograd, module by module."""
    terms = []
    for name in ("A", "B"):
        for layer in adapters.layers:
            rows = getattr(layer, name)[: width(layer)]
            off = rows @ rows.t() - torch.eye(len(rows), dtype=rows.dtype)
            terms.append(off.square().sum() if penalty.squared else torch.linalg.matrix_norm(off))
    total = torch.stack(terms)
    return penalty.weight * (total.sum() if penalty.reduction == "sum" else total.mean())


def gradients(adapters: Adapters) -> list[Tensor]:
    return [getattr(layer, name).grad for name in ("A", "B") for layer in adapters.layers]


def forget(adapters: Adapters) -> None:
    for layer in adapters.layers:
        for parameter in layer.slot_parameters().values():
            parameter.grad = None


def compare(adapters: Adapters, penalty: Orthogonality, width: Callable[[Any], int]) -> None:
    forget(adapters)
    expected = literal(adapters, penalty, width)
    expected.backward()
    by_autograd = gradients(adapters)
    forget(adapters)
    value = penalty.add_gradients(adapters)
    tolerance = 1e-6 if value.dtype == torch.float32 else 1e-12
    torch.testing.assert_close(value, expected.detach(), rtol=tolerance, atol=0)
    assert value.shape == ()
    for one, other in zip(gradients(adapters), by_autograd, strict=True):
        assert one.dtype == other.dtype
        assert other.abs().max() > 1e-4
        assert (one - other).abs().max() <= tolerance * other.abs().max()


@each_kind
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("form", [BEA(), BA()], ids=["bea", "ba"])
def test_closed_form_equals_autograd(squared: bool, reduction: Any, dtype: Any, form: Any) -> None:
    adapters = Adapters(mlp(depth=4, slots=5, rank=RANKS, form=form).to(dtype))
    compare(adapters, Orthogonality(weight=0.3, squared=squared, reduction=reduction), lambda m: m.rank)


@each_kind
def test_on_a_transformer(squared: bool, reduction: Any) -> None:
    model = inject(bert(), ["*.query", "*.value", "*.intermediate.dense", "*.output.dense"], BEA(), 4, 8)
    adapters = Adapters(fill(model))
    compare(adapters, Orthogonality(weight=0.1, squared=squared, reduction=reduction), lambda m: m.rank)


@each_kind
def test_it_adds_to_what_is_there_and_dead_rows_get_none(squared: bool, reduction: Any) -> None:
    penalty = Orthogonality(weight=0.3, squared=squared, reduction=reduction)
    adapters = Adapters(mlp(depth=4, slots=5, rank=RANKS))
    penalty.add_gradients(adapters)
    alone = [g.clone() for g in gradients(adapters)]
    cores = [layer.e.grad for layer in adapters.layers]
    assert cores == [None] * 4
    for g in gradients(adapters):
        g.fill_(1.0)
    penalty.add_gradients(adapters)
    for one, both, layer in zip(alone, gradients(adapters), adapters.layers * 2, strict=True):
        torch.testing.assert_close(both, one + 1)
        assert not one[layer.rank :].any()
        assert one[: layer.rank].any()


def test_dead_rows_that_hold_something_neither_count_nor_get_a_gradient() -> None:
    penalty = Orthogonality(weight=0.3)
    adapters = Adapters(mlp(depth=4, slots=5, rank=RANKS))
    value = penalty.add_gradients(adapters)
    expected = [g.clone() for g in gradients(adapters)]
    with torch.no_grad():
        for layer in adapters.layers:
            layer.A[layer.rank :] = 3.0
            layer.B[layer.rank :] = -2.0
    forget(adapters)
    assert torch.equal(penalty.add_gradients(adapters), value)
    for one, other in zip(gradients(adapters), expected, strict=True):
        assert torch.equal(one, other)


def test_a_module_without_directions_costs_nothing() -> None:
    adapters = Adapters(mlp(depth=3, slots=5, rank=[2, 2, 2]))
    penalty = Orthogonality(weight=0.3, squared=False)
    penalty.add_gradients(adapters)
    for layer in adapters.layers[:2]:
        with torch.no_grad():
            for parameter in layer.slot_parameters().values():
                parameter.zero_()
            layer.live.fill_(False)
        layer.refresh()
    compare_last, _ = literal(Adapters(adapters.layers[2]), penalty, lambda m: m.rank), forget(adapters)
    torch.testing.assert_close(penalty.add_gradients(adapters), compare_last.detach())
    assert not any(g is not None and g.any() for m in adapters.layers[:2] for g in (m.A.grad, m.B.grad))


def test_slots_that_train_besides_the_live_ones_count() -> None:
    """``width`` says how many leading slots take part, where a layer has it."""
    adapters = Adapters(mlp(depth=4, slots=5, rank=RANKS))
    widths = {id(layer): 3 + index % 3 for index, layer in enumerate(adapters.layers)}
    with torch.no_grad():
        for layer in adapters.layers:
            nn.init.normal_(layer.A)
            nn.init.normal_(layer.B)
    wide = [_wide(layer, widths[id(layer)]) for layer in adapters.layers]
    compare(adapters, Orthogonality(weight=0.3, squared=False, reduction="mean"), lambda m: widths[id(m)])
    assert [layer.width for layer in wide] == list(widths.values())


def _wide(layer: Any, width: int) -> Any:
    """``layer`` with that width, whatever its class says of it."""
    layer.__class__ = type("Wide", (type(layer),), {"width": property(lambda self: width)})
    return layer


def test_it_follows_ranks_that_move() -> None:
    penalty = Orthogonality(weight=0.3)
    adapters = Adapters(mlp(depth=4, slots=5, rank=RANKS))
    penalty.add_gradients(adapters)
    for layer in adapters.layers:
        with torch.no_grad():
            for parameter in layer.slot_parameters().values():
                parameter[2:] = 0.0
            layer.live[2:] = False
        layer.refresh()
    compare(adapters, penalty, lambda m: m.rank)


@each_kind
def test_orthonormal_factors_have_no_penalty_and_no_gradient(squared: bool, reduction: Any) -> None:
    """The bare norm has no derivative where it is zero."""
    adapters = Adapters(mlp(depth=2, slots=4, rank=4))
    with torch.no_grad():
        for layer in adapters.layers:
            layer.A.copy_(torch.eye(*layer.A.shape))
            layer.B.copy_(torch.eye(*layer.B.shape))
    value = Orthogonality(weight=0.3, squared=squared, reduction=reduction).add_gradients(adapters)
    assert value.item() == 0
    assert not any(g.any() for g in gradients(adapters))


def test_frozen_factors_count_but_get_no_gradient() -> None:
    adapters = Adapters(mlp(depth=2))
    both = Orthogonality().add_gradients(adapters)
    forget(adapters)
    for layer in adapters.layers:
        layer.A.requires_grad_(False)
    assert torch.equal(Orthogonality().add_gradients(adapters), both)
    assert all(layer.A.grad is None and layer.B.grad is not None for layer in adapters.layers)


def test_autocast_does_not_make_it_coarse() -> None:
    adapters = Adapters(mlp(depth=2))
    value = Orthogonality().add_gradients(adapters)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(Orthogonality().add_gradients(adapters), value)


def test_half_precision_factors_are_multiplied_in_float32() -> None:
    adapters = Adapters(mlp(depth=2).to(torch.bfloat16))
    value = Orthogonality().add_gradients(adapters)
    assert value.dtype == torch.float32
    assert {g.dtype for g in gradients(adapters)} == {torch.bfloat16}
    exact = Orthogonality().add_gradients(Adapters(mlp(depth=2).to(torch.bfloat16).float()))
    torch.testing.assert_close(value, exact)


class Tower(nn.Module):
    """36 linear layers, as wide as those of a small transformer."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(384, 1536 if i % 3 == 2 else 384) for i in range(36))


@pytest.mark.slow
@each_kind
def test_it_is_cheaper_than_autograd(squared: bool, reduction: Any) -> None:
    model = inject(Tower(), ["layers.*"], BEA(), 16, 16)
    adapters = Adapters(fill(model))
    assert len(layers_of(model)) == 36
    penalty = Orthogonality(weight=0.1, squared=squared, reduction=reduction)

    def median(work: Callable[[], object]) -> float:
        seconds = []
        for _ in range(20):
            start = time.perf_counter()
            work()
            seconds.append(time.perf_counter() - start)
        return statistics.median(seconds[3:])

    tries = []
    for _ in range(3):
        tries.append(
            (
                median(lambda: penalty.add_gradients(adapters)),
                median(lambda: literal(adapters, penalty, lambda m: 16).backward()),
            )
        )
        if tries[-1][0] < tries[-1][1]:
            return
    raise AssertionError(f"closed form against autograd, in seconds: {tries}")
