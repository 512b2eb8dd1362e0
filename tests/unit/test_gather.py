"""Predictions of several processes: all of them everywhere, and what is costly done once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from rankadapt.training.gather import on_first, united

CODE = """
import sys, torch.distributed as dist
from rankadapt.training.gather import on_first, united
rank, store, count = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
everyone = {i: (i, f"text {i}") for i in range(8)}
mine = {i: everyone[i] for i in (range(count) if rank == 0 else range(count, 8))}
assert united(mine) == everyone
assert united({0: rank}) == {0: 0}
assert on_first(lambda: f"computed by {rank}") == "computed by 0"
try:
    on_first(lambda: [][rank])
except IndexError:
    dist.destroy_process_group()  # gloo's threads would now and then abort a process that leaves them
    sys.exit(7)
"""


def test_one_process_keeps_what_it_has() -> None:
    assert united({3: "a"}) == {3: "a"}
    assert on_first(lambda: 5) == 5
    with pytest.raises(ZeroDivisionError):
        on_first(lambda: 1 // 0)


@pytest.mark.slow
def test_unequal_shards_and_an_error_that_reaches_all(tmp_path: Path) -> None:
    for count in (5, 8):
        processes = [
            subprocess.Popen(
                [sys.executable, "-c", CODE, str(rank), str(tmp_path / f"s{count}"), str(count)],
                env={"PYTHONPATH": ":".join(sys.path)},
            )
            for rank in range(2)
        ]
        assert [process.wait(timeout=120) for process in processes] == [7, 7]
