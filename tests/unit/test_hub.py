"""The hub: given up on in seconds where it does not answer."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rankadapt import hub


class TestHub:
    def test_without_a_network_all_is_over_in_seconds(self, tmp_path: Path) -> None:
        code = (
            "import json, time\n"
            "from rankadapt.errors import RankAdaptError\n"
            "from rankadapt.sources import Sources\n"
            "import datasets, huggingface_hub\n"
            "start, errors = time.monotonic(), []\n"
            "for call in (lambda: Sources().model('org/name'),\n"
            "             lambda: Sources().dataset('org/name', 'x', 'train')):\n"
            "    try: call()\n"
            "    except RankAdaptError as error: errors.append(type(error).__name__)\n"
            "print(json.dumps([errors, time.monotonic() - start]))\n"
        )
        environment = {
            "HF_HUB_OFFLINE": "1",
            "HF_HOME": str(tmp_path),
            "PYTHONPATH": ":".join(sys.path),
        }
        run = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
        )
        errors, seconds = json.loads(run.stdout.splitlines()[-1])
        assert errors == ["ModelError", "DataError"]
        assert seconds < 5

    def test_a_silent_hub_is_given_up_on(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(hub, "PROBE_SECONDS", 0.1)
        monkeypatch.setattr(hub, "_ask", lambda endpoint, answered: time.sleep(30))
        start = time.monotonic()
        assert not hub._probe("http://silent.invalid")
        assert time.monotonic() - start < 5

    def test_the_cache_is_asked_without_a_network(self, monkeypatch: pytest.MonkeyPatch) -> None:
        import datasets
        from huggingface_hub import constants

        seen = []
        before = constants.HF_HUB_OFFLINE

        def load(*_: object, **__: object) -> datasets.Dataset:
            seen.append(constants.HF_HUB_OFFLINE)
            return datasets.Dataset.from_dict({"x": [1]})

        monkeypatch.setattr(datasets, "load_dataset", load)
        assert len(hub.dataset("org/name", "x", "train", "org/name, x/train")) == 1
        assert seen == [True]
        assert before == constants.HF_HUB_OFFLINE
