"""Loaders: every example once, whatever the number of processes and micro-batches."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rankadapt.tasks.examples import TokenExamples
from rankadapt.training.loader import EvalLoader, Share, TrainLoader

torch.set_num_threads(1)

sizes = st.tuples(
    st.integers(1, 60), st.integers(1, 16), st.integers(1, 3), st.integers(1, 3), st.integers(0, 3)
)
"""Examples, batch size, processes, micro-batches, seed."""


def examples(count: int, seed: int = 0, weights: np.ndarray | None = None) -> TokenExamples:
    lengths = np.random.default_rng(seed).integers(1, 30, count)
    rows = [[i] * n for i, n in enumerate(lengths)]
    return TokenExamples.of({"input_ids": rows}, np.arange(count), weights=weights)


def collate(picked: list[dict[str, Any]], pad_to: int) -> dict[str, Any]:
    assert all(len(example["input_ids"]) <= pad_to for example in picked)
    return {"labels": torch.tensor([int(example["labels"]) for example in picked]), "width": pad_to}


def loader(
    count: int, batch: int, steps: int, share: Share, seed: int = 0, weights: np.ndarray | None = None
) -> TrainLoader:
    return TrainLoader(examples(count, weights=weights), collate, batch, steps, share, seed)


@settings(max_examples=60, deadline=None)
@given(sizes)
def test_an_epoch_has_every_example_once(size: tuple[int, ...]) -> None:
    count, batch, world, accumulate, seed = size
    steps = -(-count // batch)
    seen: list[int] = []
    for rank in range(world):
        made = loader(count, batch, steps, Share(rank, world, accumulate), seed)
        batches = list(made)
        assert len(batches) == len(made) == steps * accumulate
        seen += [int(i) for b in batches if b["share"] for i in b["labels"]]
    assert sorted(seen) == list(range(count))


@settings(max_examples=60, deadline=None)
@given(sizes)
def test_shares_give_the_mean_over_the_global_batch(size: tuple[int, ...]) -> None:
    """The host averages over micro-batches and processes; micro-batches may be of different size."""
    count, batch, world, accumulate, seed = size
    steps = -(-count // batch)
    whole = list(loader(count, batch, steps, Share(), seed))
    parts = [list(loader(count, batch, steps, Share(r, world, accumulate), seed)) for r in range(world)]
    for step in range(steps):
        micros = [parts[r][step * accumulate + m] for r in range(world) for m in range(accumulate)]
        mean = sum(float(m["labels"].double().mean()) * m["share"] for m in micros) / len(micros)
        assert mean == pytest.approx(float(whole[step]["labels"].double().mean()))
        assert {m["width"] for m in micros} == {whole[step]["width"]}
        assert whole[step]["share"] == 1


@settings(max_examples=40, deadline=None)
@given(sizes)
def test_weighted_shares_give_the_weighted_mean_over_the_global_batch(size: tuple[int, ...]) -> None:
    """What counts tokens: the mean over all tokens of the global batch, however they are dealt out."""
    count, batch, world, accumulate, seed = size
    steps = -(-count // batch)
    weights = np.random.default_rng(seed).integers(1, 50, count).astype(float)
    whole = loader(count, batch, steps, Share(), seed, weights)
    parts = [
        list(loader(count, batch, steps, Share(r, world, accumulate), seed, weights)) for r in range(world)
    ]
    for step in range(steps):
        micros = [parts[r][step * accumulate + m] for r in range(world) for m in range(accumulate)]
        means = [float((m["labels"] * m["weight"]).sum() / m["weight"].sum()) for m in micros]
        everyone = whole.global_batch(step)
        found = sum(mean * m["share"] for mean, m in zip(means, micros, strict=True)) / len(micros)
        assert found == pytest.approx(np.average(everyone, weights=weights[everyone]))


@settings(max_examples=30, deadline=None)
@given(sizes, st.integers(0, 40))
def test_to_resume_is_to_set_a_counter(size: tuple[int, ...], consumed: int) -> None:
    count, batch, world, accumulate, seed = size
    share = Share(world - 1, world, accumulate)
    whole = list(loader(count, batch, 14, share, seed))
    first, second = loader(count, batch, 14, share, seed), loader(count, batch, 14, share, seed)
    iterator = iter(first)
    for _ in range(min(consumed, len(whole))):
        next(iterator)
    second.load_state_dict(first.state_dict())
    rest = list(second)
    assert [b["labels"].tolist() for b in rest] == [b["labels"].tolist() for b in whole[consumed:]]


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    made = loader(40, 8, 10, Share(), seed=1)
    first, second = ([i for s in range(e * 5, e * 5 + 5) for i in made.global_batch(s)] for e in (0, 1))
    other = loader(40, 8, 10, Share(), seed=2)
    assert first != second
    assert first != [i for s in range(5) for i in other.global_batch(s)]
    assert sorted(first) == sorted(second) == list(range(40))


def test_grouping_by_length_saves_padding() -> None:
    made = loader(1000, 16, 63, Share())
    lengths = made.examples.lengths

    def padded(batches: list[np.ndarray]) -> int:
        return sum(int(lengths[b].max()) * len(b) for b in batches)

    grouped = padded([made.global_batch(step) for step in range(63)])
    order = np.random.default_rng(0).permutation(1000)
    shuffled = padded([order[i : i + 16] for i in range(0, 1000, 16)])
    assert grouped < 0.65 * shuffled
    assert grouped < 1.1 * int(lengths.sum())


def test_grouping_by_length_does_not_order_the_steps_by_length() -> None:
    made = loader(1000, 16, 63, Share())
    widths = np.array([made.examples.lengths[made.global_batch(s)].max() for s in range(62)])
    assert abs(np.corrcoef(np.arange(62), widths)[0, 1]) < 0.4


@settings(max_examples=60, deadline=None)
@given(sizes)
def test_evaluation_has_every_example_once(size: tuple[int, ...]) -> None:
    count, batch, world, _, _ = size
    seen: list[int] = []
    for rank in range(world):
        made = EvalLoader(examples(count), collate, batch, Share(rank, world))
        batches = list(made)
        assert len(batches) == len(made)
        seen += [int(i) for b in batches for i in b["labels"]]
    assert sorted(seen) == list(range(count))
