"""What becomes of slots that die and where new ones come from: aside, in place, in reserve, in triangles; new
directions that change nothing; and rotation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rankadapt.adapters import (
    BA,
    BEA,
    AdaptedLinear,
    AdapterOptions,
    Adapters,
    DoRA,
    Form,
    Tri,
    inject,
    merge_and_unload,
)
from rankadapt.adapters import slots as writer
from rankadapt.adapters.linear import RESERVE_CORE
from rankadapt.boards import Change, Moves
from rankadapt.export.peft import folded_factors
from tests.tiny import MLP, assert_dead_are_zero, fill, layers_of, slot_parameters

FORMS: dict[str, Callable[..., Form]] = {"ba": BA, "bea": BEA, "tri": Tri}
WIDTH, SLOTS, RANK = 8, 6, 3


def adapted(form: Form, storage: Any = "fresh", rank: int = RANK, filled: bool = True, **more: Any) -> MLP:
    torch.manual_seed(0)
    model = MLP(WIDTH, depth=2)
    combine = more.pop("combine", None)
    options = AdapterOptions(lora_alpha=4.0, **more)
    inject(model, ["layers.*"], form, rank, SLOTS, options, combine=combine, storage=storage)
    if filled:
        fill(model)
        for layer in layers_of(model):
            for name, parameter in layer.slot_parameters().items():
                parameter.data = form.trimmed(name, parameter.data)
    return model


def adamw(model: nn.Module) -> torch.optim.AdamW:
    return torch.optim.AdamW([p for p in slot_parameters(model) if p.requires_grad], 1e-2, weight_decay=0.1)


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int = 3) -> None:
    for step in range(steps):
        optimizer.zero_grad()
        x = torch.randn(16, WIDTH, generator=torch.Generator().manual_seed(step))
        (model(x) - x[:, :1].sin()).square().mean().backward()
        optimizer.step()


def inputs() -> Tensor:
    return torch.randn(5, WIDTH, generator=torch.Generator().manual_seed(9))


def change(
    model: nn.Module, optimizer: Any = None, pruned: Any = (), born: int = 0, revived: Any = None, **more: Any
) -> Moves:
    """Prune slots ``pruned`` of the first module and let ``born`` be born in it."""
    adapters = Adapters(model)

    def board(slots: Any) -> Tensor:
        marked = torch.zeros_like(adapters.live())
        marked[0, list(slots)] = True
        return marked

    births = torch.zeros(len(adapters), dtype=torch.long)
    births[0] = born
    decided = Change(board(pruned), births, None if revived is None else board(revived))
    return writer.apply(adapters, decided, optimizer, more.get("reset", "none"), more.get("seed", 1))


def rows(layer: AdaptedLinear, which: Any) -> dict[str, Tensor]:
    return {name: p.detach()[which].clone() for name, p in layer.slot_parameters().items()}


# aside


@pytest.mark.parametrize("name", ["ba", "bea"])
def test_aside_every_slot_is_drawn_at_injection_and_only_the_prefix_lives(name: str) -> None:
    form = FORMS[name]()
    layer = layers_of(adapted(form, "aside", filled=False))[0]
    full = layers_of(adapted(form, "fresh", rank=SLOTS, filled=False))[0]
    for key, parameter in layer.slot_parameters().items():
        waiting = getattr(layer, f"aside_{key}")
        assert not parameter[RANK:].any()
        assert not waiting[:RANK].any()
        assert torch.equal(parameter + waiting, getattr(full, key))
        assert f"aside_{key}" in layer.own_names()
    assert layer.width == RANK


@pytest.mark.parametrize("name", ["ba", "bea"])
@pytest.mark.parametrize("reset", ["none", "new", "changed", "all"])
def test_aside_a_truncated_direction_comes_back_bit_for_bit(name: str, reset: str) -> None:
    model = adapted(FORMS[name](), "aside")
    layer, optimizer = layers_of(model)[0], adamw(model)
    train(model, optimizer)
    before = rows(layer, slice(1, RANK))
    change(model, optimizer, pruned=[1, 2], reset=reset)
    assert layer.rank == 1
    assert_dead_are_zero(model, optimizer)
    train(model, optimizer, 4)
    for key, value in before.items():
        assert torch.equal(getattr(layer, f"aside_{key}")[1:RANK], value)
    assert_dead_are_zero(model, optimizer)
    survivor = rows(layer, 0)
    change(model, optimizer, born=2, reset=reset)
    after = rows(layer, slice(1, RANK))
    for key, value in before.items():
        assert torch.equal(after[key], value)
        assert torch.equal(rows(layer, 0)[key], survivor[key])
        assert not getattr(layer, f"aside_{key}")[:RANK].any()
    train(model, optimizer, 1)
    assert not torch.equal(rows(layer, slice(1, RANK))["A"], before["A"])


def test_aside_what_never_lived_comes_as_it_was_drawn() -> None:
    model = adapted(BA(), "aside", filled=False)
    layer = layers_of(model)[0]
    drawn = layer.aside_A.clone()
    change(model, born=2)
    assert torch.equal(layer.A[RANK:5], drawn[RANK:5])
    assert layer.A[RANK:5].any()
    assert torch.equal(layer.aside_A[5:], drawn[5:])


@pytest.mark.parametrize("reset", ["none", "new"])
def test_aside_a_returning_direction_has_no_momentum_of_its_own(reset: str) -> None:
    model = adapted(BA(), "aside")
    layer, optimizer = layers_of(model)[0], adamw(model)
    train(model, optimizer)
    change(model, optimizer, pruned=[2], reset=reset)
    change(model, optimizer, born=1, reset=reset)
    state = optimizer.state[layer.A]
    assert not state["exp_avg"][2].any()
    expected = state["exp_avg_sq"][:2].mean(0) if reset == "new" else torch.zeros(WIDTH)
    assert torch.equal(state["exp_avg_sq"][2], expected)


def test_aside_survives_a_checkpoint() -> None:
    model = adapted(BEA(), "aside")
    change(model, pruned=[2])
    other = adapted(BEA(), "aside", filled=False)
    other.load_state_dict(model.state_dict())
    for one in (model, other):
        change(one, born=1)
    assert torch.equal(model(inputs()), other(inputs()))


# in place


def test_in_place_dead_cores_are_zero_right_after_the_event_and_may_regrow() -> None:
    model = adapted(BEA(std=0.3), "in_place", rank=SLOTS)
    layer, optimizer = layers_of(model)[0], adamw(model)
    train(model, optimizer)
    kept, state = rows(layer, slice(None)), {k: v.clone() for k, v in optimizer.state[layer.e].items()}
    moves = change(model, optimizer, pruned=[0, 4])
    assert layer.live.tolist() == [False, True, True, True, False, True]
    assert (layer.rank, layer.width) == (4, SLOTS)
    assert moves.source[0].tolist() == list(range(SLOTS))
    dead = ~layer.live
    assert not layer.e[dead].any()
    assert torch.equal(layer.e[layer.live], kept["e"][layer.live])
    assert torch.equal(layer.A, kept["A"])
    assert torch.equal(layer.B, kept["B"])
    assert all(torch.equal(optimizer.state[layer.e][k], v) for k, v in state.items())
    train(model, optimizer, 2)
    assert layer.e[dead].all()
    regrown = layer.e.detach().clone()
    change(model, optimizer, pruned=[1], revived=[0])
    assert layer.live.tolist() == [True, False, True, True, False, True]
    assert layer.e[0] == regrown[0]
    assert not layer.e[[1, 4]].any()
    train(model, optimizer, 1)
    writer.hold(Adapters(model))
    assert not layer.e[[1, 4]].any()
    assert layer.e[[0, 2, 3, 5]].all()


@pytest.mark.parametrize("name", ["ba", "bea"])
def test_in_place_holding_acts_on_every_module_and_form(name: str) -> None:
    model = adapted(FORMS[name](), "in_place", rank=SLOTS)
    change(model, pruned=[5])
    for layer in layers_of(model):
        layer.slot_parameters()[layer.form.outgoing].data.fill_(1.0)
    writer.hold(Adapters(model))
    first, second = (layer.slot_parameters()[layer.form.outgoing] for layer in layers_of(model))
    assert not first[5].any()
    assert (first[:5] == 1).all()
    assert (second == 1).all()


def test_in_place_a_folded_adapter_has_only_live_directions() -> None:
    model = adapted(BEA(), "in_place", rank=SLOTS, scaling="initial")
    change(model, pruned=[0, 3])
    factors = folded_factors(model)
    assert factors is not None
    A, B = factors["layers.0"]
    layer = layers_of(model)[0]
    assert torch.equal(A, layer.A[[1, 2, 4, 5]])
    torch.testing.assert_close(B @ A, layer.delta(), rtol=0, atol=1e-6)
    expected = model(inputs())
    torch.testing.assert_close(merge_and_unload(model)(inputs()), expected, rtol=1e-5, atol=1e-6)


def test_in_place_survives_a_checkpoint() -> None:
    model = adapted(BEA(), "in_place", rank=SLOTS)
    change(model, pruned=[0, 3])
    other = adapted(BEA(), "in_place", rank=SLOTS, filled=False)
    other.load_state_dict(model.state_dict())
    assert [layer.rank for layer in layers_of(other)] == [4, SLOTS]
    assert torch.equal(other(inputs()), model(inputs()))


# in reserve


def in_reserve(rank: int = 1, reserve: int = 2) -> tuple[MLP, AdaptedLinear, torch.optim.AdamW]:
    model = adapted(BEA(reserve=reserve, std=0.3), rank=rank, filled=False)
    with torch.no_grad():
        for layer in layers_of(model):
            layer.e[:rank] = 0.5
    return model, layers_of(model)[0], adamw(model)


def test_a_reserve_takes_part_with_a_core_that_does_not_train() -> None:
    model, layer, optimizer = in_reserve()
    assert (layer.rank, layer.width) == (1, 3)
    assert torch.equal(layer.ahead, torch.tensor([0, 1, 1, 0, 0, 0]) * RESERVE_CORE)
    core = torch.tensor([0.5, RESERVE_CORE, RESERVE_CORE, 0, 0, 0])
    expected = layer.scale * (layer.B.t() * core) @ layer.A
    torch.testing.assert_close(layer.delta(), expected.detach(), rtol=1e-5, atol=1e-9)
    before = rows(layer, slice(1, 3))
    train(model, optimizer)
    after = rows(layer, slice(1, 3))
    assert not torch.equal(after["A"], before["A"])
    assert not torch.equal(after["B"], before["B"])
    assert not layer.e[1:].any()
    assert not layer.A[3:].any()
    assert (layer.ahead[1:3] == RESERVE_CORE).all()


def test_promotion_keeps_a_and_b_and_draws_a_new_reserve() -> None:
    model, layer, optimizer = in_reserve()
    train(model, optimizer)
    before = rows(layer, slice(None))
    change(model, optimizer, born=2, reset="new")
    assert (layer.rank, layer.width) == (3, 5)
    for key in ("A", "B"):
        assert torch.equal(getattr(layer, key)[:3], before[key][:3])
        assert getattr(layer, key)[3:5].all()
        assert not getattr(layer, key)[5:].any()
    assert torch.equal(layer.e[:3], torch.tensor([float(before["e"][0]), RESERVE_CORE, RESERVE_CORE]))
    assert torch.equal(layer.ahead, torch.tensor([0, 0, 0, 1, 1, 0]) * RESERVE_CORE)
    core = torch.cat([layer.e[:3], torch.tensor([RESERVE_CORE, RESERVE_CORE, 0])])
    torch.testing.assert_close(layer.up(), layer.scale * layer.B * core[:, None], rtol=1e-6, atol=0)
    behind = layer.e[3:5].detach().clone()
    train(model, optimizer, 1)
    assert (layer.e[1:3] != RESERVE_CORE).all()
    torch.testing.assert_close(layer.e[3:5], behind, rtol=2e-3, atol=0, msg="more than weight decay")


def test_growth_by_less_than_the_reserve_promotes_its_first() -> None:
    model, layer, optimizer = in_reserve()
    train(model, optimizer)
    before = rows(layer, slice(None))
    change(model, optimizer, born=1, reset="new")
    assert torch.equal(layer.A[:3], before["A"][:3])
    assert layer.A[3].all()
    assert torch.equal(layer.ahead, torch.tensor([0, 0, 1, 1, 0, 0]) * RESERVE_CORE)
    other = adapted(BEA(reserve=2, std=0.3), rank=1, filled=False)
    other.load_state_dict(model.state_dict())
    assert torch.equal(other(inputs()), model(inputs()))


def test_a_form_with_a_reserve_refuses_to_prune() -> None:
    model, _, optimizer = in_reserve(rank=2)
    with pytest.raises(RuntimeError, match="only grows"):
        change(model, optimizer, pruned=[0])


def test_reserves_that_are_dropped_are_gone() -> None:
    model, layer, optimizer = in_reserve()
    train(model, optimizer)
    live = rows(layer, slice(0, 1))
    writer.drop_reserves(Adapters(model), optimizer)
    assert not Adapters(model).reserves
    assert layer.width == layer.rank == 1
    assert not layer.ahead.any()
    assert all(torch.equal(rows(layer, slice(0, 1))[k], v) for k, v in live.items())
    train(model, optimizer, 2)
    assert_dead_are_zero(model, optimizer)
    factors = folded_factors(model)
    assert factors is not None
    assert factors["layers.0"][0].shape[0] == 1


def test_export_leaves_reserves_out() -> None:
    model, layer, optimizer = in_reserve()
    train(model, optimizer)
    factors = folded_factors(model)
    assert factors is not None
    A, B = factors["layers.0"]
    assert A.shape[0] == 1
    torch.testing.assert_close(B @ A, layer.up()[:1].t() @ layer.A[:1], rtol=0, atol=1e-7)


# triangles


def blocks(layer: AdaptedLinear, rank: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """A (r, d_in), B (d_out, r), L and U (r, r) as in the paper: U upper triangular."""
    A, B, L, U = (layer.slot_parameters()[k].detach()[:rank] for k in ("A", "B", "L", "U"))
    return A, B.t(), L[:, :rank], U[:, :rank].t()


def test_growth_keeps_triangles_and_old_entries() -> None:
    """TriAdaptLoRA Eq. 6-9: A and L get rows, B and U get columns; the update is B (L + U) A."""
    model = adapted(Tri(new_std=0.5), rank=2, scaling="current")
    layer, optimizer = layers_of(model)[0], adamw(model)
    train(model, optimizer)
    A, B, L, U = (t.clone() for t in blocks(layer, 2))
    change(model, optimizer, born=2, reset="new")
    new = rows(layer, slice(2, 4))
    grown_A, grown_B = torch.cat([A, new["A"]]), torch.cat([B, new["B"].t()], 1)
    grown_L, grown_U = torch.zeros(4, 4), torch.zeros(4, 4)
    grown_L[:2, :2], grown_U[:2, :2] = L, U
    for i in (2, 3):
        grown_L[i, : i + 1] = new["L"][i - 2, : i + 1]
        grown_U[: i + 1, i] = new["U"][i - 2, : i + 1]
    for mine, expected in zip(blocks(layer, 4), (grown_A, grown_B, grown_L, grown_U), strict=True):
        assert torch.equal(mine, expected)
    assert torch.equal(grown_L, grown_L.tril())
    assert torch.equal(grown_U, grown_U.triu())
    assert (grown_L.tril() != 0).sum() == (grown_U != 0).sum() == 10
    literal = 4.0 / 4 * grown_B @ (grown_L + grown_U) @ grown_A
    torch.testing.assert_close(layer.delta(), literal, rtol=1e-5, atol=1e-6)
    assert not layer.L[:, 4:].any()
    assert not layer.U[4:].any()
    assert layer.form.count(4, WIDTH, 9) == 4 * (WIDTH + 9) + 4 * 5
    train(model, optimizer, 3)
    assert torch.equal(layer.L, layer.L.tril())
    assert torch.equal(layer.U, layer.U.tril())
    assert_dead_are_zero(model, optimizer)


def test_pruning_removes_row_and_column() -> None:
    model = adapted(Tri(), rank=4)
    layer, optimizer = layers_of(model)[0], adamw(model)
    train(model, optimizer)
    A, B, L, U = (t.clone() for t in blocks(layer, 4))
    moment = optimizer.state[layer.L]["exp_avg"].clone()
    change(model, optimizer, pruned=[1])
    keep = [0, 2, 3]
    expected = (A[keep], B[:, keep], L[keep][:, keep], U[keep][:, keep])
    for mine, wanted in zip(blocks(layer, 3), expected, strict=True):
        assert torch.equal(mine, wanted)
    assert not layer.L[:, 3:].any()
    assert not layer.U[:, 3:].any()
    assert torch.equal(optimizer.state[layer.L]["exp_avg"][:3, :3], moment[keep][:, keep])
    literal = 4.0 / 3 * expected[1] @ (expected[2] + expected[3]) @ expected[0]
    torch.testing.assert_close(layer.delta(), literal, rtol=1e-5, atol=1e-6)
    assert_dead_are_zero(model, optimizer)


# new directions that change nothing


@pytest.mark.parametrize("scaling", ["current", "initial", "slots"])
@pytest.mark.parametrize("by", ["rank", "sqrt_rank", "one"])
@pytest.mark.parametrize("name", FORMS)
def test_a_preserving_birth_leaves_outputs_unchanged(name: str, by: Any, scaling: Any) -> None:
    form = FORMS[name](new_direction="preserving", new_std=0.5)
    model = adapted(form, scaling=scaling, scale_by=by, eps=1e-5)
    optimizer, layer = adamw(model), layers_of(model)[0]
    train(model, optimizer)
    expected = model(inputs())
    change(model, optimizer, born=2, reset="new")
    assert layer.rank == RANK + 2
    torch.testing.assert_close(model(inputs()), expected, rtol=0, atol=2e-6)
    change(model, optimizer, born=1, reset="changed")
    torch.testing.assert_close(model(inputs()), expected, rtol=0, atol=2e-6)
    train(model, optimizer, 3)
    for key, parameter in layer.slot_parameters().items():
        assert parameter[RANK : RANK + 3].any(), f"{key} is stuck at zero"


@pytest.mark.parametrize("name", FORMS)
def test_a_small_birth_does_change_them_where_the_method_says_so(name: str) -> None:
    model = adapted(FORMS[name](new_std=0.5), scaling="initial")
    expected = model(inputs())
    change(model, born=2)
    assert torch.allclose(model(inputs()), expected, atol=1e-6) == (name == "ba")


@pytest.mark.parametrize("name", FORMS)
def test_a_preserving_exchange_is_the_prune_alone(name: str) -> None:
    form = FORMS[name](new_direction="preserving", new_std=0.5)
    model, alone = adapted(form, scaling="current"), adapted(form, scaling="initial")
    change(model, pruned=[1], born=2)
    change(alone, pruned=[1])
    torch.testing.assert_close(model(inputs()), alone(inputs()), rtol=0, atol=2e-6)


def test_a_preserving_birth_under_dora_keeps_norms_and_outputs() -> None:
    model = adapted(BEA(new_direction="preserving"), combine=DoRA())
    expected = model(inputs())
    change(model, born=2)
    torch.testing.assert_close(model(inputs()), expected, rtol=0, atol=2e-6)


# rotation


@pytest.mark.parametrize("scaling", ["current", "initial"])
@pytest.mark.parametrize("name", ["ba", "bea"])
def test_rotation_leaves_the_update_and_cuts_with_the_least_error(name: str, scaling: Any) -> None:
    model = adapted(FORMS[name](), rank=5, scaling=scaling)
    optimizer, layer = adamw(model), layers_of(model)[0]
    train(model, optimizer)
    before, expected = layer.delta(), model(inputs())
    writer.rotate(Adapters(model), optimizer)
    torch.testing.assert_close(layer.delta(), before, rtol=0, atol=1e-5)
    torch.testing.assert_close(model(inputs()), expected, rtol=0, atol=1e-5)
    for parameter in layer.slot_parameters().values():
        assert not parameter[5:].any()
        assert not optimizer.state[parameter]["exp_avg"].any()
        assert optimizer.state[parameter]["step"] == 0
    S = torch.linalg.svdvals(before)
    sizes = layer.up().norm(dim=1) * layer.A.norm(dim=1)
    torch.testing.assert_close(sizes[:5], S[:5], rtol=1e-4, atol=1e-5)
    for rank in (4, 3, 2, 1):
        change(model, optimizer, pruned=[rank])
        factor = layer.scale / (4.0 / 5)
        error = (layer.delta() / factor - before).norm()
        torch.testing.assert_close(error, S[rank:].norm(), rtol=1e-4, atol=1e-5)


def test_rotation_of_modules_without_rank_and_with_dead_directions() -> None:
    model = adapted(BA(), rank=2)
    with torch.no_grad():
        layers_of(model)[0].B.zero_()
    change(model, pruned=[0, 1])
    writer.rotate(Adapters(model), None)
    assert all(p.isfinite().all() for p in slot_parameters(model))
    assert not layers_of(model)[0].delta().any()
