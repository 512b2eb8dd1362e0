"""The metrics as ``evaluate.Metric``: for those who use that library, without its hub.

    squad = metric("squad")
    squad.add_batch(predictions=[{"id": "1", "prediction_text": "Paris"}],
                    references=[{"id": "1", "answers": {"text": ["Paris"], "answer_start": [0]}}])
    squad.compute()                                       # {"exact_match": 100.0, "f1": 100.0}
    evaluate.combine([metric("rouge"), metric("math_accuracy")])

Inputs have the form that the metric of that name on the hub takes. Options are bound when the metric is made,
so that combined metrics can have different ones; those given to ``compute`` win.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch

from rankadapt.errors import ConfigError, Problem
from rankadapt.evaluation.choices import choice_accuracy
from rankadapt.evaluation.classification import MetricName, classification
from rankadapt.evaluation.latex import math_accuracy
from rankadapt.evaluation.numbers import number_accuracy
from rankadapt.evaluation.pass_at_k import pass_at_k
from rankadapt.evaluation.rouge import rouge
from rankadapt.evaluation.squad import squad_v1, squad_v2

Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Spec:
    """A metric: ``about`` it in one line; ``inputs``, its columns by name, or several choices of them, where
    a type's name is a value, ``[type]`` a list and a dict a record; ``compute``, a function of the columns
    and of options."""

    about: str
    inputs: Sequence[Mapping[str, Any]]
    compute: Callable[..., dict[str, float]]


def metric(
    name: str,
    *,
    cache_dir: str | Path | None = None,
    num_process: int = 1,
    process_id: int = 0,
    experiment_id: str | None = None,
    **options: Any,
) -> Any:
    """An ``evaluate.Metric`` of this library, ready for ``add``, ``add_batch``, ``compute`` and ``combine``.

    Args:
        name: key of :data:`METRICS`.
        cache_dir: where the collected inputs lie until ``compute``: a temporary directory of this metric
            alone, removed with it, unless several processes share it.
        num_process, process_id: of a distributed evaluation; ``compute`` gives None but on process 0.
        experiment_id: the same on all processes of one evaluation, and different from others' on the machine;
            needed where there are several processes. Their machines must share ``cache_dir``.
        options: keywords of the metric's function, e.g. ``dataset="boolq"``.

    Raises:
        ConfigError: no such metric, several processes without ``experiment_id``, or ``evaluate`` is missing.
    """
    if name not in METRICS:
        raise ConfigError(Problem("metric", name, "no such metric", f"one of {', '.join(METRICS)}"))
    if num_process > 1 and not experiment_id:
        raise ConfigError(
            Problem("experiment_id", experiment_id, f"{num_process} processes need one in common")
        )
    own = cache_dir is None and num_process == 1
    made = _metric_class(name)(
        cache_dir=str(cache_dir or _directory(own)),
        num_process=num_process,
        process_id=process_id,
        experiment_id=experiment_id,
    )
    made.options = options
    if own:
        weakref.finalize(made, shutil.rmtree, made._data_dir_root, ignore_errors=True)
    return made


@cache
def _metric_class(name: str) -> Any:
    try:
        import evaluate
    except ImportError:
        remedy = "pip install 'rankadapt[evaluation]'"
        raise ConfigError(Problem("metric", name, "the library evaluate is not installed", remedy)) from None
    spec = METRICS[name]

    def info(self: Any) -> Any:
        features = [_features(columns) for columns in spec.inputs]
        single = features[0] if len(features) == 1 else features
        about = spec.compute.__doc__ or ""
        return evaluate.MetricInfo(
            description=spec.about, citation="", inputs_description=about, features=single
        )

    def compute(self: Any, **columns: Any) -> dict[str, float]:
        return spec.compute(**{**self.options, **columns})

    title = "".join(word.capitalize() for word in name.split("_"))
    return type(title, (evaluate.Metric,), {"__doc__": spec.about, "_info": info, "_compute": compute})


def _features(columns: Mapping[str, Any]) -> Any:
    from datasets import Features, Value

    def feature(kind: Any) -> Any:
        if isinstance(kind, str):
            return Value(kind)
        return [feature(kind[0])] if isinstance(kind, list) else {key: feature(k) for key, k in kind.items()}

    return Features({key: feature(kind) for key, kind in columns.items()})


def _directory(own: bool) -> str:
    if own:
        return tempfile.mkdtemp(prefix="rankadapt-metric-")
    shared = Path(tempfile.gettempdir()) / f"rankadapt-metrics-{os.getuid()}"
    shared.mkdir(mode=0o700, exist_ok=True)
    return str(shared)


def _classes(
    name: MetricName, predictions: Sequence[float], references: Sequence[float], num_labels: int | None = None
) -> dict[str, float]:
    """One metric of ``classification``; ``num_labels``: as many as occur, unless given."""
    count = num_labels or int(max([*predictions, *references], default=0)) + 1
    return classification([name], torch.tensor(predictions), torch.tensor(references), count)


def _correlation(
    name: MetricName, predictions: Sequence[float], references: Sequence[float]
) -> dict[str, float]:
    """One correlation of ``classification``."""
    return classification([name], torch.tensor(predictions), torch.tensor(references), 1)


def _squad(predictions: Rows, references: Rows) -> dict[str, float]:
    """Of rows as the hub's ``squad`` takes them, see ``squad_v1``."""
    return squad_v1(_texts(predictions), _answers(references))


def _squad_v2(predictions: Rows, references: Rows, threshold: float = 1.0) -> dict[str, float]:
    """Of rows as the hub's ``squad_v2`` takes them, see ``squad_v2``."""
    sure = {row["id"]: row["no_answer_probability"] for row in predictions}
    return squad_v2(_texts(predictions), _answers(references), sure, threshold)


def _pass_at_k(predictions: Sequence[Sequence[bool]], ks: Sequence[int] = (1,)) -> dict[str, float]:
    """Of the verdicts on each task's programs, see ``pass_at_k``."""
    return pass_at_k(predictions, ks)


def _choices(predictions: Sequence[str], references: Sequence[str], dataset: str) -> dict[str, float]:
    """Of generated texts and names of options, see ``choice_accuracy``."""
    return choice_accuracy(predictions, references, dataset)


def _numbers(predictions: Sequence[str], references: Sequence[str], **options: Any) -> dict[str, float]:
    """Of generated texts and right answers, see ``number_accuracy``."""
    return number_accuracy(predictions, references, **options)


def _latex(predictions: Sequence[str], references: Sequence[str]) -> dict[str, float]:
    """Of generated texts and right answers, see ``math_accuracy``."""
    return math_accuracy(predictions, references)


def _texts(rows: Rows) -> dict[str, str]:
    return {row["id"]: row["prediction_text"] for row in rows}


def _answers(rows: Rows) -> dict[str, Sequence[str]]:
    return {row["id"]: row["answers"]["text"] for row in rows}


def _pair(prediction: Any, reference: Any) -> dict[str, Any]:
    return {"predictions": prediction, "references": reference}


_TEXTS = [_pair("string", "string")]
_NUMBERED = [_pair("int64", "int64")]
_REAL = [_pair("float64", "float64")]
_QUESTION = {"id": "string", "answers": {"text": ["string"], "answer_start": ["int32"]}}
_ANSWER = {"id": "string", "prediction_text": "string"}

METRICS: dict[str, Spec] = {
    "accuracy": Spec("share of right classes", _NUMBERED, partial(_classes, "accuracy")),
    "f1": Spec("F1 of class 1", _NUMBERED, partial(_classes, "f1")),
    "matthews_correlation": Spec("Matthews' phi", _NUMBERED, partial(_classes, "matthews_correlation")),
    "pearson": Spec("Pearson's correlation", _REAL, partial(_correlation, "pearson")),
    "spearman": Spec("Spearman's correlation of ranks", _REAL, partial(_correlation, "spearman")),
    "squad": Spec("SQuAD 1.1", [_pair(_ANSWER, _QUESTION)], _squad),
    "squad_v2": Spec(
        "SQuAD 2.0", [_pair({**_ANSWER, "no_answer_probability": "float64"}, _QUESTION)], _squad_v2
    ),
    "rouge": Spec("ROUGE F1", [_pair("string", ["string"]), *_TEXTS], rouge),
    "number_accuracy": Spec("the final number is right", _TEXTS, _numbers),
    "math_accuracy": Spec("the boxed answer is right", _TEXTS, _latex),
    "choice_accuracy": Spec("the chosen option is right", _TEXTS, _choices),
    "pass_at_k": Spec("one of k programs is right", [{"predictions": ["bool"]}], _pass_at_k),
}
"""Every metric, by the name that :func:`metric` takes."""
