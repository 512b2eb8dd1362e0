"""The update itself: effective rank, utilisation and sparsity, from the files that a run left."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd
import pytest
import torch

from rankadapt.analysis.effective_rank import (
    effective_rank,
    effective_ranks,
    singular_values,
    utilisation_difference,
)
from rankadapt.analysis.run_files import RecordError, open_run
from rankadapt.analysis.sparsity import near_zero, sparsity_by_block, update_sparsity
from tests.composed import run_small


def literal_effective_rank(update: torch.Tensor) -> float:
    """Eq. 21 on the whole matrix."""
    values = torch.linalg.svd(update.double()).S.tolist()
    shares = [value / sum(values) for value in values]
    return math.exp(-sum(p * math.log(p) for p in shares if p > 0))


def literal_sparsity(update: torch.Tensor, epsilon: float) -> float:
    """Eq. 1, one entry at a time."""
    count = sum(abs(entry) < epsilon for row in update.tolist() for entry in row)
    return math.log(count / (epsilon * update.shape[0] * update.shape[1]))


@pytest.mark.parametrize(("rank", "d_in", "d_out"), [(3, 9, 7), (1, 5, 8), (8, 6, 20), (12, 6, 8)])
def test_effective_rank_is_that_of_the_product(rank: int, d_in: int, d_out: int) -> None:
    generator = torch.Generator().manual_seed(rank)
    a, b = torch.randn(rank, d_in, generator=generator), torch.randn(d_out, rank, generator=generator)
    found = effective_rank(singular_values(a, b))
    assert found == pytest.approx(literal_effective_rank(b.double() @ a.double()), rel=1e-9)
    assert 1 <= found <= min(rank, d_in, d_out)


def test_effective_rank_at_its_ends() -> None:
    assert effective_rank(torch.ones(5)) == pytest.approx(5)
    assert effective_rank(torch.tensor([3.0, 0.0, 0.0])) == pytest.approx(1)
    assert effective_rank(torch.zeros(4)) == 0
    assert effective_rank(torch.tensor([1.0, 1.0]) * 1e-30) == pytest.approx(2)


def test_a_module_without_directions_uses_none() -> None:
    factors = {"a": (torch.eye(2, 4), torch.eye(3, 2))}
    found = effective_ranks(factors, {"b": 0, "a": 4})
    assert list(found.index) == ["b", "a"]
    assert found.loc["a"].tolist() == pytest.approx([4, 2, 0.5])
    assert found.loc["b", "effective"] == 0
    assert math.isnan(found.loc["b", "utilisation"])
    assert effective_ranks(factors, {})["nominal"].tolist() == [2]
    other = pd.DataFrame({"utilisation": {"c": 1.0, "a": 0.75}})
    assert utilisation_difference(found, other).to_dict() == {"a": pytest.approx(-0.25)}


@pytest.mark.parametrize("epsilon", [0.5, 0.1, 1e-3])
def test_sparsity_is_eq_1(epsilon: float) -> None:
    generator = torch.Generator().manual_seed(0)
    draw = {"m.layer.0.q": (6, 5), "m.layer.0.v": (4, 9), "m.layer.1.q": (7, 3)}
    factors = {
        name: (torch.randn(2, d_in, generator=generator), torch.randn(d_out, 2, generator=generator) / 3)
        for name, (d_out, d_in) in draw.items()
    }
    factors["m.layer.1.q"][1][::2] = 0
    found = update_sparsity(factors, epsilon)
    for name, (a, b) in factors.items():
        product = b @ a
        if found.loc[name, "near_zero"]:
            assert found.loc[name, "sparsity"] == pytest.approx(literal_sparsity(product, epsilon))
        else:
            assert found.loc[name, "sparsity"] == -math.inf
            assert not (product.abs() < epsilon).any()
    blocks = sparsity_by_block(found, epsilon)
    together = torch.cat([(factors[n][1] @ factors[n][0]).flatten() for n in list(draw)[:2]])
    if blocks.loc[0, "near_zero"]:
        assert blocks.loc[0, "sparsity"] == pytest.approx(literal_sparsity(together[None], epsilon))


def test_near_zero_is_by_size_not_by_sign() -> None:
    assert near_zero(torch.tensor([[1.0]]), torch.tensor([[-5.0], [0.01], [-0.01], [5.0]]), 0.1) == 2


def test_many_rows_are_counted_in_pieces() -> None:
    b = torch.zeros(2500, 1)
    b[1024] = 1
    assert near_zero(torch.ones(1, 2), b, 0.5) == 2 * 2499


@pytest.mark.parametrize("method", ["hebira", "lora", "adalora", "triadaptlora", "pissa"])
def test_the_update_of_a_run_is_read_whatever_its_form(method: str, tmp_path: Path) -> None:
    run_small(tmp_path, method, "trainer.max_steps=10", "evaluation.every_n_steps=null")
    run = open_run(tmp_path)
    ranks, factors = run.final_ranks(), run.factors()
    twice = 2 if method == "pissa" else 1  # the part that was taken out of the weight is in it
    assert {name: a.shape[0] for name, (a, _) in factors.items()} == {
        name: twice * rank for name, rank in ranks.items() if rank
    }
    found = effective_ranks(factors, ranks)
    assert list(found.index) == list(ranks) == list(run.trace().module.unique())
    assert found["effective"].gt(0).all()
    assert found["effective"].le(twice * found["nominal"] + 1e-9).all()
    a, b = factors["bert.encoder.layer.1.intermediate.dense"]
    assert (b.shape[0], a.shape[1]) == (64, 32)
    literal = literal_effective_rank(b.double() @ a.double())
    assert found.loc["bert.encoder.layer.1.intermediate.dense", "effective"] == pytest.approx(literal)


def test_what_a_run_did_not_leave_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=r"results\.json: cannot be read"):
        open_run(tmp_path)
    run_small(tmp_path, "dora", "trainer.max_steps=2", "evaluation.every_n_steps=null", "logger=none")
    run = open_run(str(tmp_path))
    assert run.label == "dora on demo/entailment (tiny_bert, seed 1)"
    with pytest.raises(RecordError, match=r"(?s)adapter_model\.safetensors: is not there.*DoRA"):
        run.factors()
    with pytest.raises(RecordError, match=r"(?s)metrics\.csv: is not there.*logger=csv"):
        run.metrics()
    (tmp_path / "ranks.parquet").write_bytes(b"no parquet")
    with pytest.raises(RecordError, match=r"ranks\.parquet: cannot be read"):
        run.trace()


def test_an_adaptation_without_ranks_has_no_course_of_them(tmp_path: Path) -> None:
    run_small(tmp_path, "bitfit", "trainer.max_steps=2", "evaluation.every_n_steps=null")
    run = open_run(tmp_path)
    assert run.final_ranks() == {}
    with pytest.raises(RecordError, match="has no ranks"):
        run.trace()
