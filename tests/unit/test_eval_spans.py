"""Spans from logits, against the loops that they replace."""

from __future__ import annotations

from math import inf

import pytest
import torch
from torch import Tensor

from rankadapt.evaluation.spans import Answer, best_answer, best_answers, candidates


def literal_spans(
    start: list[float], end: list[float], context: list[bool], n_best: int, max_tokens: int
) -> list[tuple[float, int, int]]:
    """As the scripts of BERT and transformers search: pairs of the highest starts and ends."""
    starts = sorted(range(len(start)), key=lambda i: -start[i])[:n_best]
    ends = sorted(range(len(end)), key=lambda i: -end[i])[:n_best]
    found = [
        (start[i] + end[j], i, j)
        for i in starts
        for j in ends
        if context[i] and context[j] and i <= j < i + max_tokens
    ]
    return sorted(found, reverse=True)[:n_best]


def literal_answer(context: str, windows: list[tuple], null: float, threshold: float | None) -> str:
    """``windows``: (spans, offsets) of each."""
    texts = [
        (score, context[offsets[i][0] : offsets[j][1]])
        for spans, offsets in windows
        for score, i, j in spans
        if offsets[j][1] > offsets[i][0]
    ]
    if not texts:
        return ""
    score, text = max(texts, key=lambda pair: pair[0])
    return "" if threshold is not None and null - score > threshold else text


def example(seed: int, windows: int = 3, length: int = 40) -> tuple[str, Tensor, Tensor, Tensor, Tensor]:
    """(context, start, end, mask, offsets): tokens of 3 characters, windows 10 apart, 6 of question."""
    random = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, windows, length, generator=random)
    context = "".join(f"{i:02d} " for i in range(100))
    mask = torch.zeros(windows, length, dtype=torch.bool)
    mask[:, 6:-1] = True
    token = torch.arange(length) + 10 * torch.arange(windows).unsqueeze(1)
    offsets = torch.stack([3 * token, 3 * token + 2], dim=2) * mask.unsqueeze(2)
    return context, logits[0], logits[1], mask, offsets


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize(("n_best", "max_tokens"), [(20, 30), (5, 4), (1, 1), (100, 30)])
def test_candidates_are_those_of_the_loops(seed: int, n_best: int, max_tokens: int) -> None:
    _, start, end, mask, _ = example(seed)
    got = candidates(start, end, mask, n_best, max_tokens)
    for w in range(len(start)):
        expected = literal_spans(start[w].tolist(), end[w].tolist(), mask[w].tolist(), n_best, max_tokens)
        real = got.score[w] > -inf
        assert list(zip(got.start[w][real].tolist(), got.end[w][real].tolist(), strict=True)) == [
            (i, j) for _, i, j in expected
        ]
        torch.testing.assert_close(got.score[w][real], torch.tensor([s for s, _, _ in expected]))
    torch.testing.assert_close(got.null, start[:, 0] + end[:, 0])


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("threshold", [None, 0.0, -6.0])
def test_answers_are_those_of_the_loops(seed: int, threshold: float | None) -> None:
    context, start, end, mask, offsets = example(seed)
    spans = candidates(start, end, mask)
    windows = [
        (literal_spans(start[w].tolist(), end[w].tolist(), mask[w].tolist(), 20, 30), offsets[w].tolist())
        for w in range(len(start))
    ]
    null = min((start[:, 0] + end[:, 0]).tolist())
    got = best_answer(context, spans, offsets, threshold)
    assert got.text == literal_answer(context, windows, null, threshold)
    assert got.null_difference == pytest.approx(null - got.score, abs=1e-5)


def test_windows_of_many_examples_are_kept_apart() -> None:
    parts = [example(seed, windows=2) for seed in range(4)]
    order = torch.tensor([0, 4, 1, 5, 2, 6, 3, 7])  # the two windows of an example do not lie side by side
    owner = torch.arange(4).repeat_interleave(2)[order]
    start, end, mask, offsets = (torch.cat([part[k] for part in parts])[order] for k in range(1, 5))
    contexts = [part[0] for part in parts]
    got = best_answers([*contexts, "no window"], owner, candidates(start, end, mask), offsets)
    expected = [best_answer(p[0], candidates(p[1], p[2], p[3]), p[4]) for p in parts]
    assert got == [*expected, Answer("", -inf, inf)]


def test_a_window_without_context_gives_the_null_answer() -> None:
    context, start, end, mask, offsets = example(0, windows=1)
    spans = candidates(start, end, torch.zeros_like(mask))
    assert best_answer(context, spans, offsets) == Answer("", -inf, inf)


def test_ties_go_to_the_earlier_token() -> None:
    flat = torch.zeros(1, 12)
    spans = candidates(flat, flat, torch.ones(1, 12, dtype=torch.bool), n_best=3)
    assert (int(spans.start[0, 0]), int(spans.end[0, 0])) == (0, 0)


def test_half_precision_is_scored_in_single() -> None:
    _, start, end, mask, _ = example(3)
    spans = candidates(start.bfloat16(), end.bfloat16(), mask)
    assert spans.score.dtype == spans.null.dtype == torch.float32
