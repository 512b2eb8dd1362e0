"""``torch.compile``: one set of graphs, none added by rank events, and the numbers of the eager path."""

from __future__ import annotations

import pytest
import torch

from rankadapt.adapters import BA, BEA, Adapters, Form, inject
from rankadapt.control import Controller, Schedule
from rankadapt.policies import Bidirectional
from rankadapt.scorers import Hebbian
from tests import tiny

torch.set_num_threads(1)


class Counter:
    """A backend that traces forward and backward as the real one does, and counts its graphs."""

    def __init__(self) -> None:
        self.graphs = 0

    def __call__(self, graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> object:
        from torch._dynamo.backends.debugging import aot_eager

        self.graphs += 1
        return aot_eager(graph, inputs)


def run(form: Form, backend: Counter | None) -> tuple[list[float], list[int], list[int]]:
    """Losses and final ranks of ten steps with four events, and the graphs there were after each step."""
    model = inject(tiny.bert(), tiny.BERT_TARGETS, form, 3, 8, trainable=["classifier"])
    controller = Controller(Adapters(model), Bidirectional(k=3), Hebbian(), Schedule(t_i=2, delta_t=2, t_f=0))
    controller.start(10)
    if backend is not None:
        torch._dynamo.reset()
        model.compile(backend=backend)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    batch = tiny.batch()
    labels = batch.pop("labels")  # with labels, transformers changes its configuration in the first step
    losses, graphs = [], []
    for step in range(1, 11):
        loss = torch.nn.functional.cross_entropy(model(**batch).logits, labels)
        loss.backward()
        controller.observe()
        optimizer.step()
        controller.adjust(step, optimizer)
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
        graphs.append(backend.graphs if backend else 0)
    return losses, controller.adapters.ranks(), graphs


@pytest.mark.slow
@pytest.mark.parametrize("form", [BA(), BEA(std=0.3)], ids=["ba", "bea"])
def test_rank_events_compile_nothing_anew(form: Form) -> None:
    eager, ranks, _ = run(form, None)
    compiled, compiled_ranks, graphs = run(form, Counter())
    assert graphs[0] >= 1
    assert graphs[-1] == graphs[0]
    assert compiled_ranks == ranks
    assert ranks != [3] * len(ranks)
    torch.testing.assert_close(compiled, eager, atol=1e-5, rtol=1e-5)
