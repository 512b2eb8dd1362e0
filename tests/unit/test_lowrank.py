"""The one autograd node that every additive form goes through."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from rankadapt.adapters import BEA, AdapterOptions, Adapters, Reading, inject
from rankadapt.adapters.lowrank import LowRankLinear, lowrank_linear_reference
from rankadapt.scorers import Hebbian
from tests.tiny import BERT_TARGETS, batch, bert, fill, layers_of, mlp

D_IN, D_OUT, R = 5, 4, 3


def tensors(
    dtype: torch.dtype, shape: tuple[int, ...] = (2, 3), r: int = R, seed: int = 0
) -> dict[str, Tensor]:
    """Inputs of the node; rows from ``r`` on are zero, as dead slots are."""
    g = torch.Generator().manual_seed(seed)
    made = {
        "x": torch.randn(*shape, D_IN, generator=g, dtype=dtype),
        "branch": torch.randn(*shape, D_IN, generator=g, dtype=dtype),
        "weight": torch.randn(D_OUT, D_IN, generator=g, dtype=dtype),
        "bias": torch.randn(D_OUT, generator=g, dtype=dtype),
        "A": torch.randn(R, D_IN, generator=g, dtype=dtype),
        "P": torch.randn(R, D_OUT, generator=g, dtype=dtype),
    }
    made["A"][r:], made["P"][r:] = 0, 0
    return made


@pytest.mark.parametrize("r", [0, 1, 2, R])
@pytest.mark.parametrize("own_branch", [False, True])
@pytest.mark.parametrize("has_bias", [False, True])
def test_gradcheck(r: int, own_branch: bool, has_bias: bool) -> None:
    t = tensors(torch.float64, r=r)
    leaves = (
        [t["x"], t["A"], t["P"]] + ([t["branch"]] if own_branch else []) + ([t["bias"]] if has_bias else [])
    )

    def node(x: Tensor, A: Tensor, P: Tensor, *rest: Tensor) -> Tensor:
        rest_ = list(rest)
        branch = rest_.pop(0) if own_branch else None
        bias = rest_.pop(0) if has_bias else None
        return LowRankLinear.apply(x, branch, t["weight"], bias, A, P, None, None, r)

    assert torch.autograd.gradcheck(node, [leaf.requires_grad_(True) for leaf in leaves])


@pytest.mark.parametrize("r", [0, 2, R])
@pytest.mark.parametrize("own_branch", [False, True])
@pytest.mark.parametrize("shape", [(6,), (2, 3), (2, 2, 2), ()])
def test_equals_reference(r: int, own_branch: bool, shape: tuple[int, ...]) -> None:
    outs, grads = [], []
    for fused in (True, False):
        t = tensors(torch.float32, shape, r)
        names = ["x", "bias", "A", "P"] + (["branch"] if own_branch else [])
        for name in names:
            t[name].requires_grad_(True)
        branch = t["branch"] if own_branch else None
        if fused:
            y = LowRankLinear.apply(t["x"], branch, t["weight"], t["bias"], t["A"], t["P"], None, None, r)
        else:
            y = lowrank_linear_reference(t["x"], branch, t["weight"], t["bias"], t["A"], t["P"])
        y.square().sum().backward()
        outs.append(y)
        grads.append({name: t[name].grad for name in names})
    torch.testing.assert_close(*outs)
    torch.testing.assert_close(*grads)


def test_strided_input() -> None:
    t = tensors(torch.float32, (3, 2))
    x = t["x"].transpose(0, 1)
    ours = LowRankLinear.apply(x, None, t["weight"], t["bias"], t["A"], t["P"], None, None, R)
    torch.testing.assert_close(
        ours, lowrank_linear_reference(x, None, t["weight"], t["bias"], t["A"], t["P"])
    )


def test_input_without_gradient_gets_none_and_factors_get_theirs() -> None:
    t = tensors(torch.float32)
    A, P = t["A"].requires_grad_(True), t["P"].requires_grad_(True)
    LowRankLinear.apply(t["x"], None, t["weight"], None, A, P, None, None, R).sum().backward()
    assert t["x"].grad is None
    u = t["x"].reshape(-1, D_IN) @ A.detach().t()
    torch.testing.assert_close(P.grad, u.sum(0)[:, None].expand(R, D_OUT))


def test_dead_rows_get_a_gradient_of_exactly_zero() -> None:
    t = tensors(torch.float32)  # rows below r are not zero here: they must not even be read
    A, P = t["A"].requires_grad_(True), t["P"].requires_grad_(True)
    y = LowRankLinear.apply(t["x"], None, t["weight"], None, A, P, None, None, 1)
    y.square().sum().backward()
    torch.testing.assert_close(y, t["x"] @ t["weight"].t() + (t["x"] @ A[:1].t()) @ P[:1])
    assert A.grad is not None
    assert A.grad[0].any()
    assert not A.grad[1:].any()
    assert not P.grad[1:].any()


def literal_energy(inputs: list[Tensor], A: Tensor, weights: list[Tensor] | None = None) -> Tensor:
    """``sum over tokens of w (x . A_i)^2``, one number at a time."""
    total = torch.zeros(len(A), dtype=torch.float64)
    for call, x in enumerate(inputs):
        rows = x.reshape(-1, x.shape[-1]).tolist()
        token_weights = weights[call].reshape(-1).tolist() if weights else [1.0] * len(rows)
        for row, w in zip(rows, token_weights, strict=True):
            for i, a in enumerate(A.tolist()):
                total[i] += w * sum(p * q for p, q in zip(row, a, strict=True)) ** 2
    return total.float()


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("fused", [False, True])
def test_probe_sums_squares_over_calls_and_micro_batches(weighted: bool, fused: bool) -> None:
    model = mlp(depth=1, slots=4, rank=3, options=AdapterOptions(fused=fused))
    (layer,) = layers_of(model)
    adapters = Adapters(model)
    adapters.watch()
    inputs = [torch.randn(2, 3, 6, generator=torch.Generator().manual_seed(i)) for i in range(4)]
    weights = [torch.rand(2, 3, generator=torch.Generator().manual_seed(9 + i)) for i in range(2)]
    for micro in range(2):  # each micro-batch calls the layer twice, as DeBERTa does
        adapters.tokens.values = (weights[micro],) if weighted else ()
        (layer(inputs[2 * micro]).sum() + layer(inputs[2 * micro + 1]).square().sum()).backward()
    expected = literal_energy(inputs, layer.A, [weights[i // 2] for i in range(4)] if weighted else None)
    assert expected[3] == 0
    assert (expected[:3] > 0).all()
    torch.testing.assert_close(adapters.take_energies()[0], expected, rtol=1e-5, atol=0)
    assert not adapters.take_energies().any(), "energies must be forgotten once taken"


def test_probe_does_not_see_the_scale_of_the_loss() -> None:
    energies = []
    for scale in (1.0, 1024.0):
        model = mlp(depth=2)
        adapters = Adapters(model)
        adapters.watch()
        (model(torch.ones(3, 6)).sum() * scale).backward()
        energies.append(adapters.take_energies())
    assert energies[0].any()
    assert torch.equal(*energies)


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointed_pass_counts_once(reentrant: bool) -> None:
    energies, gradients = [], []
    for recompute in (False, True):
        model = mlp(depth=2)
        adapters = Adapters(model)
        adapters.watch()
        x = torch.randn(5, 6, generator=torch.Generator().manual_seed(0)).requires_grad_(True)
        y = checkpoint(model, x, use_reentrant=reentrant) if recompute else model(x)
        y.square().sum().backward()
        energies.append(adapters.take_energies())
        gradients.append(adapters.layers[0].A.grad)
    assert energies[0].any()
    torch.testing.assert_close(*energies)
    torch.testing.assert_close(*gradients)


def test_no_grad_pass_counts_nothing() -> None:
    model = mlp()
    adapters = Adapters(model)
    adapters.watch()
    model.eval()
    with torch.no_grad():
        model(torch.ones(3, 6))
    with torch.inference_mode():
        model(torch.ones(3, 6))
    model(torch.ones(3, 6))  # a forward pass whose backward pass never comes
    assert not adapters.take_energies().any()


def test_unwatched_layers_keep_no_energy() -> None:
    model = mlp()
    model(torch.ones(3, 6)).sum().backward()
    assert not Adapters(model).take_energies().any()


def test_bf16_autocast_scores_are_close_to_fp32() -> None:
    boards = []
    for autocast in (False, True):
        model = bert()
        fill(inject(model, BERT_TARGETS, BEA(), 3, 4))
        adapters, scorer = Adapters(model), Hebbian()
        adapters.watch()
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            loss = model(**batch()).loss
        loss.backward()
        assert adapters.layers[0].A.grad.dtype == torch.float32
        reading = Reading(adapters)
        scorer.update(reading)
        boards.append((reading.activation(), scorer.scores()))
    (alpha, scores), (alpha_bf16, scores_bf16) = boards
    assert alpha_bf16.dtype == torch.float32
    assert (alpha > 0).sum() == 3 * len(alpha)
    # bf16 rounds to 0.4 %; what matters is the error of the board, not of its smallest entry
    assert torch.dist(alpha_bf16, alpha) < 0.01 * alpha.norm()
    assert torch.dist(scores_bf16, scores) < 0.05 * scores.norm()
    assert not torch.equal(alpha, alpha_bf16), "autocast did not take part"


def test_trainable_base_still_counts_energy() -> None:
    """A base weight that is trained takes the way of plain autograd; its score must not be zero."""
    model = mlp(depth=1)
    (layer,) = layers_of(model)
    layer.base.requires_grad_(True)
    adapters = Adapters(model)
    adapters.watch()
    x = torch.randn(3, 6)
    model(x).sum().backward()
    torch.testing.assert_close(adapters.take_energies()[0], literal_energy([x], layer.A), rtol=1e-5, atol=0)
    assert layer.base.weight.grad is not None
