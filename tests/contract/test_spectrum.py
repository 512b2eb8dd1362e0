"""Effective rank while training: logged when asked for, equal to that of the exported update in the end."""

from __future__ import annotations

from pathlib import Path

import pytest

from rankadapt.analysis.effective_rank import effective_ranks
from rankadapt.analysis.logged import course
from rankadapt.analysis.run_files import open_run
from rankadapt.errors import ConfigError
from tests.composed import run_small


@pytest.mark.parametrize("method", ["hebira", "lora", "triadaptlora"])
def test_the_last_entry_is_that_of_the_exported_update(tmp_path: Path, method: str) -> None:
    run_small(tmp_path, method, "evaluation.spectrum_every_n_steps=4")
    run = open_run(tmp_path)
    expected = effective_ranks(run.factors(), run.final_ranks())
    for name, column in (("effective_rank", "effective"), ("utilisation", "utilisation")):
        logged = course(run.metrics(), f"spectrum/{name}")
        assert list(logged.index) == [4, 8, 12]
        assert logged[12] == pytest.approx(expected[column].mean(), rel=1e-5)
    assert logged.is_unique


def test_nothing_is_logged_unless_asked_for(tmp_path: Path) -> None:
    run_small(tmp_path, "hebira")
    assert course(open_run(tmp_path).metrics(), "spectrum/utilisation").empty


@pytest.mark.parametrize("method", ["dora", "bitfit"])
def test_an_update_without_a_spectrum_is_refused(tmp_path: Path, method: str) -> None:
    with pytest.raises(ConfigError, match="not a product of low-rank factors"):
        run_small(tmp_path, method, "evaluation.spectrum_every_n_steps=4")
