"""Pruning of entries of A: against a literal version, with ranks that move, and over a resume."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from rankadapt.adapters import Adapters, slots
from rankadapt.adapters.reading import Reading
from rankadapt.adapters.sparsity import Sparsity, least_important
from rankadapt.boards import Change
from rankadapt.control import Controller
from rankadapt.errors import ConfigError
from rankadapt.policies import Static
from rankadapt.runs.session import build_session
from tests import tiny
from tests.composed import run_small, small
from tests.contract.test_methods import trained
from tests.contract.test_resume import end_of, same, stop_after


def literal(A: Tensor, norms: Tensor, share: float) -> Tensor:
    """Row by row, entry by entry."""
    goes = torch.zeros(A.shape, dtype=torch.bool)
    for module, rows in enumerate(A.tolist()):
        for slot, row in enumerate(rows):
            scores = [abs(a) * float(norms[module, j]) for j, a in enumerate(row)]
            order = sorted(range(len(row)), key=lambda j: (scores[j], j))
            for j in order[: int(share * len(row))]:
                goes[module, slot, j] = True
    return goes


@pytest.mark.parametrize("share", [0.1, 0.5, 0.74])
def test_the_least_important_entries_of_each_row_go(share: float) -> None:
    torch.manual_seed(0)
    A, norms = torch.randn(3, 4, 7, dtype=torch.double), torch.rand(3, 7, dtype=torch.double)
    A[1, 2] = 0  # ties go to the first
    assert torch.equal(least_important(A, norms, share), literal(A, norms, share))


class Steps:
    """An MLP that trains on random inputs under AdamW, with ``sparsity``."""

    def __init__(self, sparsity: Sparsity, depth: int = 3) -> None:
        self.model = tiny.mlp(depth=depth, slots=4, rank=3)
        self.adapters = Adapters(self.model)
        self.controller = Controller(self.adapters, Static(), sparsity=sparsity)
        self.controller.start(1000)
        parameters = tiny.slot_parameters(self.model)
        self.optimizer = torch.optim.AdamW(parameters, lr=0.05, weight_decay=0.1)
        self.inputs: list[Tensor] = []
        self.taken = 0

    def take(self) -> None:
        self.taken += 1
        generator = torch.Generator().manual_seed(self.taken)
        x = torch.randn(5, 6, generator=generator) * torch.arange(1, 7)
        self.inputs.append(x)
        self.optimizer.zero_grad()
        self.model(x).square().sum().backward()
        self.controller.observe()
        self.optimizer.step()
        self.controller.adjust(self.taken, self.optimizer)

    def zeros(self, row: int = 0) -> Tensor:
        layer = self.adapters.layers[row]
        return layer.A.detach()[: layer.rank] == 0


def smoothed(inputs: list[Tensor], beta: float) -> Tensor:
    """(d_in,): the norms of the features over the tokens of each step, smoothed from the first on."""
    kept = None
    for x in inputs:
        norms = torch.tensor([sum(v * v for v in column) / len(column) for column in x.t().tolist()]).sqrt()
        kept = norms if kept is None else beta * kept + (1 - beta) * norms
    assert kept is not None
    return kept


def test_norms_are_those_of_the_inputs_and_decide_at_their_time() -> None:
    sparsity = Sparsity(every=4, share=0.5)
    run = Steps(sparsity)
    for _ in range(3):
        run.take()
    assert not run.zeros().any()
    probe = run.adapters.layers[0].A.detach().clone()
    run.take()
    norms = smoothed(run.inputs, 0.9)
    torch.testing.assert_close(sparsity.state_dict()["norms.0"][0], norms)
    pruned = run.zeros()
    assert (pruned.sum(1) == 3).all()
    assert not torch.equal(run.adapters.layers[0].A.detach(), probe)
    A = run.adapters.layers[0].A.detach()[None, :3]
    again = literal(A.where(A != 0, 0), norms[None], 0.5)[0]
    assert torch.equal(pruned, again)  # the zeros are the least important half
    for row in range(3):
        assert (run.zeros(row).sum(1) == run.adapters.layers[row].in_features // 2).all()


def test_what_goes_is_the_least_important_before_it_went() -> None:
    sparsity = Sparsity(every=2, share=0.4)
    run = Steps(sparsity)
    run.take()
    seen: dict[str, Tensor] = {}
    prune = sparsity.prune

    def looked_at(adapters: Adapters, optimizer: Any, step: int) -> None:
        seen["A"] = torch.stack([adapters.layers[row].A.detach().clone() for row in (0, 2)])
        prune(adapters, optimizer, step)

    sparsity.prune = looked_at  # type: ignore[method-assign]
    run.take()
    (stack, _) = run.adapters.stacks("A")
    expected = seen["A"].masked_fill(literal(seen["A"], sparsity.state_dict()["norms.0"], 0.4), 0)
    assert stack.rows.tolist() == [0, 2]
    assert torch.equal(stack.values, expected)


def test_what_was_pruned_grows_again_until_the_next_time() -> None:
    run = Steps(Sparsity(every=3))
    for _ in range(3):
        run.take()
    assert run.zeros().any()
    run.take()
    assert not run.zeros().any()
    for _ in range(2):
        run.take()
    assert (run.zeros().sum(1) == 3).all()


def test_or_stays_at_zero_for_good_with_ranks_that_move() -> None:
    run = Steps(Sparsity(every=3, regrow=False))
    for _ in range(3):
        run.take()
    held = [run.zeros(row) for row in range(3)]
    for _ in range(5):
        run.take()
    assert all(torch.equal(run.zeros(row), held[row]) for row in range(3))
    pruned = torch.zeros(3, 4, dtype=torch.bool)
    pruned[0, 0] = True
    change = Change(pruned, torch.tensor([2, 0, 0]))
    slots.apply(run.adapters, change, run.optimizer, "new", seed=1)
    run.take()  # step 9: a pruning
    run.take()
    moved = run.zeros(0)
    assert torch.equal(moved[:2], held[0][1:])  # they moved with their rows
    assert (moved[2:].sum(1) == 3).all()  # and the new ones were pruned in their turn
    tiny.assert_dead_are_zero(run.model, run.optimizer)


def test_a_scorer_of_inputs_and_sparsity_see_the_same() -> None:
    """The sums of a step are taken once."""
    run = Steps(Sparsity(every=2))
    reading = Reading(run.adapters)
    run.model(torch.ones(5, 6)).sum().backward()
    first, again = reading.input_energy(), reading.input_energy()
    assert first[0].values[0].tolist() == [1] * 6
    assert all(a.values is b.values for a, b in zip(first, again, strict=True))


def test_the_inputs_are_still_read_when_the_scorer_is_done() -> None:
    """After the last event no scorer looks, but A is pruned to the end."""
    made = build_session(small("hebira", "sparsity=rows", "sparsity.every=12"))
    trained(made, 12)
    assert made.controller.timetable is not None
    assert made.controller.timetable.last < 12
    layer = made.adapters.layers[0]
    assert ((layer.A[: layer.rank] == 0).sum(1) == layer.in_features // 2).all()
    assert layer.probes()[0] is None
    assert layer.probes()[1] is not None


def test_a_run_too_short_to_prune_is_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"sparsity\.every = 13.*nothing would be pruned in a run of 12 steps"
    ):
        Controller(Adapters(tiny.mlp()), Static(), sparsity=Sparsity(every=13)).start(12)


@pytest.mark.parametrize("regrow", ["true", "false"])
def test_stopped_between_two_prunings_and_resumed(
    regrow: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = [
        "sparsity=rows",
        "sparsity.every=4",
        f"sparsity.regrow={regrow}",
        "trainer.log_every_n_steps=1",
    ]
    run_small(tmp_path / "whole", "hebira", *options)
    with monkeypatch.context() as patched:
        stop_after(patched, 6)
        run_small(tmp_path / "parts", "hebira", *options)
    run_small(tmp_path / "parts", "hebira", *options, "resume=true")
    same(end_of(tmp_path / "parts"), end_of(tmp_path / "whole"))


@pytest.mark.parametrize(
    ("method", "reason"),
    [("full", "Full has no slots, so no A"), ("lora_fa", "prunes A, which form.frozen keeps")],
)
def test_there_must_be_an_a_that_trains(method: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        small(method, "sparsity=rows")
