"""A course of ranks whose directions have names: what the rows of ``ranks.parquet`` count, and what they do
not tell."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pandas as pd


@dataclass
class Direction:
    """One direction: its ``module``, the steps at which it came and went (None: alive at the end)."""

    module: str
    came: int
    went: int | None = None
    score: float = 0.0


@dataclass
class Simulated:
    """``trace`` as a run writes it; ``directions``, all there ever were; ``end``, the last step;
    ``scored``: (step, module) -> the scores that an event was decided on."""

    trace: pd.DataFrame
    directions: list[Direction]
    end: int
    scored: dict[tuple[int, str], list[float]] = field(default_factory=dict)

    def alive(self, module: str, step: int) -> int:
        """How many directions of ``module`` are alive right after ``step``."""
        return sum(d.module == module and d.came <= step < (d.went or self.end + 1) for d in self.directions)


def simulate(
    seed: int = 0, modules: int = 5, rank: int = 4, events: int = 6, revive: bool = False
) -> Simulated:
    """Random prunings and births at irregular steps; ``revive``: births that the file does not count."""
    draw = random.Random(seed)
    names = [f"m.layer.{i // 2}.{('query', 'output.dense')[i % 2]}" for i in range(modules)]
    made = Simulated(pd.DataFrame(), [Direction(n, 0) for n in names for _ in range(rank)], 0)
    rows = [(0, n, rank, None, None, 0, 0) for n in names]
    for _ in range(events):
        made.end += draw.randint(1, 7)
        rows += [_event(made, name, draw, revive) for name in names]
    made.end += draw.randint(1, 7)
    rows += [(made.end, n, made.alive(n, made.end), None, None, 0, 0) for n in names]
    columns = ["step", "module", "rank", "score_min", "score_mean", "born", "pruned"]
    made.trace = pd.DataFrame(rows, columns=columns).astype({"score_min": float, "score_mean": float})
    return made


def _event(made: Simulated, name: str, draw: random.Random, revive: bool) -> tuple[object, ...]:
    living = [d for d in made.directions if d.module == name and d.went is None]
    for direction in living:
        direction.score = draw.random() * 10.0 ** -draw.randint(0, 3)
    scores = made.scored[made.end, name] = [d.score for d in living]
    pruned = draw.sample(living, draw.randint(0, len(living)))
    for direction in pruned:
        direction.went = made.end
    came = draw.randint(0, 3)
    made.directions += [Direction(name, made.end) for _ in range(came)]
    low, mean = (min(scores), sum(scores) / len(scores)) if scores else (float("inf"), 0.0)
    rank = len(living) - len(pruned) + came
    return (made.end, name, rank, low, mean, 0 if revive else came, len(pruned))
