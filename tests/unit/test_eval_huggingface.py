"""The metrics as ``evaluate`` sees them: offline, in batches, combined, from several processes."""

from __future__ import annotations

import gc
import socket
import threading
from pathlib import Path

import evaluate
import numpy as np
import pytest
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

from rankadapt.errors import ConfigError
from rankadapt.evaluation.huggingface import METRICS, metric

ANSWERS = {"text": ["Paris", "in Paris"], "answer_start": [0, 4]}
QUESTIONS = [{"id": "1", "answers": ANSWERS}, {"id": "2", "answers": {"text": [], "answer_start": []}}]
SAMPLES = {
    "accuracy": ([1, 0, 1, 1], [1, 1, 0, 1]),
    "f1": ([1, 0, 1, 1], [1, 1, 0, 1]),
    "matthews_correlation": ([1, 0, 1, 1], [1, 1, 0, 1]),
    "pearson": ([0.1, 0.4, 0.2], [1.0, 3.0, 1.5]),
    "spearman": ([0.1, 0.4, 0.2], [1.0, 3.0, 1.5]),
    "squad": ([{"id": "1", "prediction_text": "Paris!"}], QUESTIONS[:1]),
    "squad_v2": (
        [
            {"id": "1", "prediction_text": "Paris", "no_answer_probability": 0.1},
            {"id": "2", "prediction_text": "", "no_answer_probability": 0.8},
        ],
        QUESTIONS,
    ),
    "rouge": (["a cat sat", "a dog"], ["a cat sat down", "a dog"]),
    "number_accuracy": (["#### 1,000", "it is 3"], ["1000", "4"]),
    "math_accuracy": ([r"\boxed{1/2}", "no"], ["0.5", "1"]),
    "choice_accuracy": (["the correct answer is true", "false"], ["true", "true"]),
    "pass_at_k": ([[True, False], [False, False]], None),
}
OPTIONS = {"choice_accuracy": {"dataset": "boolq"}, "pass_at_k": {"ks": (1, 2)}}
EXPECTED = {
    "squad": {"exact_match": 100.0, "f1": 100.0},
    "number_accuracy": {"accuracy": 50.0, "unanswered": 0.0},
    "math_accuracy": {"accuracy": 50.0, "unanswered": 50.0},
    "choice_accuracy": {"accuracy": 50.0, "unanswered": 0.0},
    "pass_at_k": {"pass@1": 25.0, "pass@2": 50.0},
}


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the network was asked for")

    monkeypatch.setattr(socket.socket, "connect", refuse)


def test_there_is_a_sample_of_every_metric() -> None:
    assert SAMPLES.keys() == METRICS.keys()


@pytest.mark.parametrize("name", METRICS)
def test_at_once_and_in_batches_are_the_same(name: str) -> None:
    predictions, references = SAMPLES[name]
    made = metric(name, **OPTIONS.get(name, {}))
    assert isinstance(made, evaluate.Metric)
    assert made.name == name
    columns = {"predictions": predictions, **({} if references is None else {"references": references})}
    at_once = made.compute(**columns)
    for row in range(len(predictions)):
        made.add_batch(**{key: values[row : row + 1] for key, values in columns.items()})
    assert made.compute() == at_once
    for row in range(len(predictions)):
        made.add(**{key.removesuffix("s"): values[row] for key, values in columns.items()})
    assert made.compute() == at_once
    if name in EXPECTED:
        assert at_once == EXPECTED[name]


def test_classes_and_correlations_are_those_of_sklearn_and_scipy() -> None:
    rng = np.random.default_rng(0)
    labels, found = rng.integers(0, 2, (2, 200))
    one, other = rng.normal(size=(2, 200))
    expected = {
        "accuracy": accuracy_score(labels, found),
        "f1": f1_score(labels, found),
        "matthews_correlation": matthews_corrcoef(labels, found),
    }
    for name, value in expected.items():
        assert metric(name).compute(predictions=found, references=labels)[name] == pytest.approx(value)
    for name, function in (("pearson", pearsonr), ("spearman", spearmanr)):
        got = metric(name).compute(predictions=one, references=other)[name]
        assert got == pytest.approx(function(one, other).statistic)


def test_combined_metrics_keep_their_names_apart() -> None:
    both = evaluate.combine(
        [metric("number_accuracy"), metric("math_accuracy"), metric("rouge", types=("rouge1",))]
    )
    both.add_batch(predictions=[r"\boxed{1/2}"], references=[r"\boxed{0.5}"])
    assert both.compute() == {
        "number_accuracy_accuracy": 100.0,
        "number_accuracy_unanswered": 0.0,
        "math_accuracy_accuracy": 100.0,
        "math_accuracy_unanswered": 0.0,
        "rouge1": pytest.approx(100 / 3),
    }


def test_glue_pairs_combine() -> None:
    both = evaluate.combine([metric("accuracy"), metric("f1")])
    assert both.compute(predictions=[1, 0], references=[1, 1]) == {
        "accuracy": 0.5,
        "f1": pytest.approx(2 / 3),
    }


def test_rouge_takes_several_references() -> None:
    assert metric("rouge").compute(predictions=["a dog"], references=[["a cat", "a dog"]])["rouge1"] == 100


def test_options_of_a_call_win() -> None:
    made = metric("squad_v2", threshold=0.05)
    predictions, references = SAMPLES["squad_v2"]
    assert made.compute(predictions=predictions, references=references)["exact_match"] == 50
    assert made.compute(predictions=predictions, references=references, threshold=0.5)["exact_match"] == 100


def test_what_it_wrote_goes_with_it() -> None:
    made = metric("accuracy")
    folder = Path(made.data_dir)
    made.add_batch(predictions=[1], references=[1])
    assert list(folder.glob("*.arrow"))
    made.compute()
    del made
    gc.collect()
    assert not folder.exists()


def test_several_processes_give_one_value(tmp_path: Path) -> None:
    results: dict[int, dict[str, float] | None] = {}

    def work(process: int) -> None:
        made = metric("accuracy", cache_dir=tmp_path, num_process=2, process_id=process, experiment_id="two")
        made.add_batch(predictions=[1, process], references=[1, 0])
        results[process] = made.compute()

    threads = [threading.Thread(target=work, args=(process,)) for process in (1, 0)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert results == {0: {"accuracy": 0.75}, 1: None}


def test_what_cannot_be_made_is_refused() -> None:
    with pytest.raises(ConfigError, match="one of accuracy"):
        metric("bleu")
    with pytest.raises(ConfigError, match="experiment_id"):
        metric("squad", num_process=2)


def test_the_example_of_the_page_on_metrics_runs(capsys: pytest.CaptureFixture[str]) -> None:
    page = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text()
    names: dict[str, object] = {}
    exec(page.split("```python\n")[1].split("```")[0], names)
    assert capsys.readouterr().out == "{'exact_match': 100.0, 'f1': 100.0}\n"
    scores = names["both"].compute(predictions=["#### 2"], references=["2"])  # type: ignore[attr-defined]
    assert scores == {"accuracy": 100.0, "unanswered": 0.0, "rouge1": 100.0, "rougeLsum": 100.0}
