"""From start and end logits to the answer's text, over the overlapping windows of a long context.

    window:   [CLS] question [SEP] piece of the context [SEP]      L tokens
    (a)       n_best starts x n_best ends -> the n best spans, inside the context, not too long
    (b)       the best span of all windows -> its characters; the null answer where it wins

Source: Devlin et al. 2019, section 4.2-4.3 (score ``s_i + e_j``; null answer where ``s_null - s_best > τ``),
with the search of the public BERT and transformers scripts: only the n_best highest starts and the n_best
highest ends are paired. As in the latter, a token may answer from any window that it lies in (no "maximum
context"). Where scores are equal, the earlier token and the earlier window win.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

from torch import Tensor


@dataclass(frozen=True)
class Candidates:
    """The best spans of W windows, best first: ``start``, ``end`` (W, n) token numbers, both included;
    ``score`` (W, n), -inf where a window has fewer; ``null`` (W,), the score of the null answer."""

    start: Tensor
    end: Tensor
    score: Tensor
    null: Tensor


@dataclass(frozen=True)
class Answer:
    """``text``, empty for the null answer; ``score`` of the best span that is not empty (-inf: there is
    none); ``null_difference``: the null answer's score less ``score``."""

    text: str
    score: float
    null_difference: float


def candidates(
    start: Tensor, end: Tensor, context: Tensor, n_best: int = 20, max_tokens: int = 30, null_token: int = 0
) -> Candidates:
    """(a): the ``n_best`` best spans of each window.

    Args:
        start, end: (W, L) logits.
        context: (W, L) bool, True on tokens that an answer may consist of.
        n_best: highest starts and ends that are paired, and spans that are returned.
        max_tokens: longest answer.
        null_token: token whose start and end are the null answer: [CLS].
    """
    starts, i = _highest(start.float(), n_best)
    ends, j = _highest(end.float(), n_best)
    score = starts.unsqueeze(2) + ends.unsqueeze(1)  # (W, n, n)
    length = j.unsqueeze(1) - i.unsqueeze(2) + 1
    inside = context.gather(1, i).unsqueeze(2) & context.gather(1, j).unsqueeze(1)
    score = score.masked_fill(~(inside & (length >= 1) & (length <= max_tokens)), -inf).flatten(1)
    best, pair = _highest(score, n_best)
    width = i.shape[1]
    null = start[:, null_token].float() + end[:, null_token].float()
    return Candidates(i.gather(1, pair // width), j.gather(1, pair % width), best, null)


def best_answer(context: str, spans: Candidates, offsets: Tensor, threshold: float | None = None) -> Answer:
    """(b): the answer of one example from its W windows.

    Args:
        context: the whole context.
        spans: of :func:`candidates`, the windows of this example.
        offsets: (W, L, 2) first character and the one after the last, of each token in ``context``.
        threshold: the null answer is given where ``null_difference`` is above this; None: never (v1.1),
            unless there is no span at all. The null score of an example is the lowest of its windows.
    """
    first = offsets[..., 0].gather(1, spans.start)
    last = offsets[..., 1].gather(1, spans.end)
    usable = (spans.score > -inf) & (last > first)
    score = spans.score.masked_fill(~usable, -inf).flatten()
    best = int(score.argmax())  # the first of equals
    top, null = float(score[best]), float(spans.null.min())
    if top == -inf:
        return Answer("", -inf, inf)
    text = context[int(first.flatten()[best]) : int(last.flatten()[best])]
    if not text or (threshold is not None and null - top > threshold):
        text = ""
    return Answer(text, top, null - top)


def best_answers(
    contexts: Sequence[str],
    example: Tensor,
    spans: Candidates,
    offsets: Tensor,
    threshold: float | None = None,
) -> list[Answer]:
    """:func:`best_answer` of every example; ``example`` (W,) says whose window each is, as a position in
    ``contexts``. An example without a window has the null answer."""
    windows: list[list[int]] = [[] for _ in contexts]
    for window, owner in enumerate(example.tolist()):
        windows[owner].append(window)
    found = []
    for context, own in zip(contexts, windows, strict=True):
        part = Candidates(spans.start[own], spans.end[own], spans.score[own], spans.null[own])
        none = Answer("", -inf, inf)
        found.append(best_answer(context, part, offsets[own], threshold) if own else none)
    return found


def _highest(values: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """(values, positions) of the n highest per row; a stable sort, so that the first of equals comes
    first."""
    ordered, position = values.sort(dim=1, descending=True, stable=True)
    return ordered[:, :n], position[:, :n]
