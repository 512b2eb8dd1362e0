"""When ranks change."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rankadapt.control import Schedule
from rankadapt.errors import ConfigError

# GLUE training set sizes, HeBiRA Table 19 (batch size 32: epochs, t_i, delta_t, t_f), and the number of
# adjustments that follows
TABLE_19 = {
    "mnli": (392702, 7, 3000, 1000, 65000, 17),
    "sst2": (67349, 24, 1000, 1000, 25000, 24),
    "cola": (8551, 35, 700, 100, 7000, 16),
    "qqp": (363846, 9, 5000, 1000, 80000, 17),
    "qnli": (104743, 5, 1000, 500, 10000, 10),
    "rte": (2490, 50, 300, 100, 2600, 10),
    "mrpc": (3668, 30, 600, 150, 1100, 11),
    "stsb": (5749, 25, 800, 200, 1500, 11),
}


@pytest.mark.parametrize("task", TABLE_19)
def test_events_of_the_papers_table(task: str) -> None:
    examples, epochs, t_i, delta_t, t_f, count = TABLE_19[task]
    total = math.ceil(examples / 32) * epochs
    table = Schedule(t_i=t_i, delta_t=delta_t, t_f=t_f).over(total)
    assert len(table.events()) == count
    assert table.events()[0] == t_i + delta_t
    assert total - t_f - delta_t < table.events()[-1] <= total - t_f


@given(
    total=st.integers(1, 300), t_i=st.integers(0, 100), delta_t=st.integers(1, 60), t_f=st.integers(0, 100)
)
def test_events_are_those_of_a_literal_count(total: int, t_i: int, delta_t: int, t_f: int) -> None:
    expected = [
        step
        for step in range(1, total + 1)
        if step > t_i and step <= total - t_f and (step - t_i) % delta_t == 0
    ]
    schedule = Schedule(t_i=t_i, delta_t=delta_t, t_f=t_f)
    if not expected:
        with pytest.raises(ConfigError):
            schedule.over(total)
        return
    table = schedule.over(total)
    assert list(table.events()) == expected
    assert [step for step in range(total + 2) if table.fires(step)] == expected


def test_last_step_may_fire_without_a_final_phase() -> None:
    assert list(Schedule(t_i=0, delta_t=5, t_f=0).over(10).events()) == [5, 10]


@pytest.mark.parametrize(
    ("share", "total", "steps"),
    [(0.1, 1000, 100), (0.29, 100, 29), (0.57, 100, 57), (0.0, 100, 0), (0.25, 4, 1)],
)
def test_shares_of_the_run(share: float, total: int, steps: int) -> None:
    """To the nearest step: 0.29 * 100 is 28.999999999999996 to the machine, and 29 to the user."""
    assert Schedule(t_i=share, delta_t=1, t_f=0).over(total).t_i == steps
    assert Schedule(t_i=0, delta_t=1, t_f=share).over(total).t_f == steps


def test_share_as_interval_is_at_least_one_step() -> None:
    assert Schedule(t_i=0, delta_t=0.1, t_f=0).over(100).delta_t == 10
    assert Schedule(t_i=0, delta_t=0.001, t_f=0).over(100).delta_t == 1


def test_steps_given_as_floats() -> None:
    table = Schedule(t_i=20.0, delta_t=10.0, t_f=30.0).over(100)
    assert list(table.events()) == [30, 40, 50, 60, 70]


@pytest.mark.parametrize(("t_i", "t_f"), [(60, 40), (90, 90), (100, 0), (0, 100)])
def test_phases_that_fill_the_run_are_refused(t_i: int, t_f: int) -> None:
    with pytest.raises(ConfigError) as caught:
        Schedule(t_i=t_i, delta_t=1, t_f=t_f).over(100)
    (problem,) = caught.value.problems
    assert problem.path == "schedule"
    assert problem.value == {"t_i": t_i, "t_f": t_f}
    assert f"t_i + t_f = {t_i + t_f}" in str(caught.value)
    assert "100" in problem.reason
    assert "trainer.max_steps" in problem.remedy


def test_an_interval_that_is_too_long_is_refused_with_the_longest_that_fits() -> None:
    with pytest.raises(ConfigError) as caught:
        Schedule(t_i=20, delta_t=51, t_f=30).over(100)
    (problem,) = caught.value.problems
    assert (problem.path, problem.value) == ("schedule.delta_t", 51)
    assert "choose schedule.delta_t <= 50" in str(caught.value)
    assert len(Schedule(t_i=20, delta_t=50, t_f=30).over(100).events()) == 1
