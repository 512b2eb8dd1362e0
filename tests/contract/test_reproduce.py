"""A study from its runs to its report, as a user starts it: twice at once, with records lost in between."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SMALL = [
    "model=tiny_bert", "task.train_size=64", "task.eval_size=32", "task.batch_size=8", "trainer.max_steps=12",
    "evaluation.at_start=false", "trainer.progress_bar=false", "trainer.threads=1",
]  # fmt: skip


def start(action: str, output: Path, *more: str) -> subprocess.Popen[str]:
    command = [
        sys.executable,
        str(ROOT / "scripts/reproduce.py"),
        action,
        "demo/first_look",
        *SMALL,
        "seed=1,2",
    ]
    return subprocess.Popen(
        [*command, f"paths.output={output}", *more],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=output,
    )  # fmt: skip


def reproduce(action: str, output: Path, *more: str) -> str:
    process = start(action, output, *more)
    text, _ = process.communicate(timeout=300)
    assert process.returncode == 0, text
    return text


def records(output: Path) -> list[Path]:
    return sorted(output.rglob("results.json"))


@pytest.mark.slow
def test_a_study_from_its_runs_to_its_report(tmp_path: Path) -> None:
    together = [start("run", tmp_path) for _ in range(2)]
    texts = [process.communicate(timeout=300)[0] for process in together]
    made = records(tmp_path)
    assert len(made) == 4, texts  # each run once: two seeds of two methods
    assert {json.loads(file.read_text())["status"] for file in made} == {"completed"}

    made[0].write_text('{"status": "comp')
    made[1].write_text(
        json.dumps(json.loads(made[1].read_text()) | {"status": "failed", "error": "a lost node"})
    )
    report = reproduce("report", tmp_path, "--width", "300")
    assert "2 completed" in " ".join(report.split())
    assert "a lost node" in report
    assert str(made[0]) in report

    text = reproduce("run", tmp_path)
    assert "2 of 4 runs are complete" in text
    assert records(tmp_path) == made  # both went on from their checkpoints
    assert {json.loads(file.read_text())["status"] for file in made} == {"completed"}

    report = reproduce("report", tmp_path, "--html", str(tmp_path / "page.html"))
    assert "4 completed" in " ".join(report.split())
    assert "HeBiRA beats LoRA, on entailment (accuracy): " in " ".join(report.split())
    assert "<table>" in (tmp_path / "page.html").read_text()


def test_one_run_of_many_is_refused(tmp_path: Path) -> None:
    command = [
        sys.executable,
        str(ROOT / "train.py"),
        "experiment=hebira/table10",
        f"paths.output={tmp_path}",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=tmp_path, check=False)
    assert done.returncode == 2
    assert "python train.py -m experiment=hebira/table10" in done.stderr
