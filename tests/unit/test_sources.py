"""Where data and models come from, and what is said when they cannot be had."""

from __future__ import annotations

import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import save_file
from tiny_tokenizer import write_split

from rankadapt import hub
from rankadapt.errors import DataError, ModelError
from rankadapt.rows import Rows
from rankadapt.sources import Sources

REAL_MIRROR = Path(__file__).resolve().parents[3] / "shared" / "hub"
needs_real_mirror = pytest.mark.skipif(not REAL_MIRROR.is_dir(), reason=f"no mirror at {REAL_MIRROR}")
GLUE = "nyu-mll/glue"
ROWS = {"sentence1": ["a", "b", "c"], "sentence2": ["d", "e", "f"], "label": [0, 1, 0]}


@pytest.fixture(autouse=True)
def _no_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(hub, "reachable", lambda: False)
    monkeypatch.delenv("RANKADAPT_MIRROR", raising=False)


@pytest.fixture
def mirror(tmp_path: Path) -> Path:
    write_split(tmp_path, "train", ROWS)
    return tmp_path


def table(rows: Rows) -> pa.Table:
    return pa.concat_tables(rows.pieces())


def readme(mirror: Path, text: str) -> None:
    (mirror / "datasets" / GLUE / "README.md").write_text(text)


class TestDataset:
    def test_reads_the_mirror(self, mirror: Path) -> None:
        rows = Sources(mirror).dataset(GLUE, "rte", "train")
        assert table(rows).to_pydict() == ROWS

    def test_takes_the_mirror_from_the_environment(
        self, mirror: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("RANKADAPT_MIRROR", str(mirror))
        assert len(Sources().dataset(GLUE, "rte", "train")) == 3

    def test_an_argument_beats_the_environment(self, mirror: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("RANKADAPT_MIRROR", "/nowhere")
        assert len(Sources(mirror).dataset(GLUE, "rte", "train")) == 3

    def test_follows_the_readme(self, mirror: Path) -> None:
        folder = mirror / "datasets" / GLUE
        (folder / "elsewhere").mkdir()
        pq.write_table(pa.table({"label": [7]}), folder / "elsewhere" / "part.parquet")
        readme(
            mirror,
            "---\nconfigs:\n- config_name: rte\n  data_files:\n"
            "  - {split: train, path: ['elsewhere/*.parquet']}\n---\nProse --- with a rule.\n",
        )
        assert table(Sources(mirror).dataset(GLUE, "rte", "train")).column("label").to_pylist() == [7]

    def test_a_readme_without_the_config_leaves_the_usual_layout(self, mirror: Path) -> None:
        readme(mirror, "Only prose.\n")
        assert len(Sources(mirror).dataset(GLUE, "rte", "train")) == 3

    def test_a_broken_readme_is_named(self, mirror: Path) -> None:
        readme(mirror, "---\nconfigs: [\n---\n")
        with pytest.raises(DataError, match=r"README\.md: its header cannot be read"):
            Sources(mirror).dataset(GLUE, "rte", "train")

    def test_a_changed_file_is_read_anew(self, mirror: Path) -> None:
        fingerprint = Sources(mirror).dataset(GLUE, "rte", "train").fingerprint()
        write_split(mirror, "train", {**ROWS, "label": [1, 1, 1]})
        after = Sources(mirror).dataset(GLUE, "rte", "train")
        assert after.fingerprint() != fingerprint
        assert table(after).column("label").to_pylist() == [1, 1, 1]

    @pytest.mark.parametrize("keep", [0.0, 0.5, 0.99])
    def test_a_truncated_file_is_named(self, mirror: Path, keep: float) -> None:
        file = write_split(mirror, "train", ROWS)
        whole = file.read_bytes()
        file.write_bytes(whole[: int(len(whole) * keep)])
        with pytest.raises(DataError) as caught:
            Sources(mirror).dataset(GLUE, "rte", "train")
        assert str(file) in str(caught.value)
        assert "not a whole parquet file" in str(caught.value)

    def test_damage_in_another_split_is_not_in_the_way(self, mirror: Path) -> None:
        write_split(mirror, "validation", ROWS).write_bytes(b"PAR1")
        assert len(Sources(mirror).dataset(GLUE, "rte", "train")) == 3

    def test_a_missing_split_names_the_pattern_and_what_is_there(self, mirror: Path) -> None:
        with pytest.raises(DataError) as caught:
            Sources(mirror).dataset(GLUE, "rte", "validation")
        assert "rte/validation-*.parquet" in str(caught.value)
        assert "rte/train-00000-of-00001.parquet" in str(caught.value)

    def test_a_missing_part_is_named(self, mirror: Path) -> None:
        file = write_split(mirror, "train", ROWS)
        file.rename(file.with_name("train-00001-of-00003.parquet"))
        with pytest.raises(DataError, match=r"train-00000-of-00003\.parquet"):
            Sources(mirror).dataset(GLUE, "rte", "train")

    def test_parts_with_different_columns_are_refused(self, mirror: Path) -> None:
        file = write_split(mirror, "train", ROWS)
        file.rename(file.with_name("train-00000-of-00002.parquet"))
        pq.write_table(pa.table({"x": [1]}), file.with_name("train-00001-of-00002.parquet"))
        with pytest.raises(DataError, match="different columns"):
            Sources(mirror).dataset(GLUE, "rte", "train")

    def test_nowhere_names_both_places_and_the_remedy(self, mirror: Path) -> None:
        with pytest.raises(DataError) as caught:
            Sources(mirror).dataset("some/thing", "x", "train")
        said = str(caught.value)
        assert str(mirror / "datasets" / "some/thing") in said
        assert "hub" in said
        assert "hf download --repo-type dataset some/thing --local-dir" in said

    def test_a_mirror_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match=r"paths\.mirror = .*is not a folder"):
            Sources(tmp_path / "nowhere").dataset(GLUE, "rte", "train")

    @needs_real_mirror
    def test_the_real_mirror_lacks_a_split(self) -> None:
        with pytest.raises(DataError, match=r"qnli/train-\*.*qnli/validation-00000-of-00001\.parquet"):
            Sources(REAL_MIRROR).dataset(GLUE, "qnli", "train")

    @needs_real_mirror
    def test_the_real_mirror_has_rte(self) -> None:
        assert len(Sources(REAL_MIRROR).dataset(GLUE, "rte", "train")) == 2490


class TestModel:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        folder = tmp_path / "models" / "org" / "name"
        folder.mkdir(parents=True)
        (folder / "config.json").write_text("{}")
        save_file({"w": torch.zeros(100)}, folder / "model.safetensors")
        return folder

    def test_in_the_mirror(self, tmp_path: Path, folder: Path) -> None:
        assert Sources(tmp_path).model("org/name") == folder

    def test_nowhere_names_three_ways_on(self, tmp_path: Path) -> None:
        with pytest.raises(ModelError) as caught:
            Sources(tmp_path).model("org/other")
        said = str(caught.value)
        for part in ("org/other", "HF_TOKEN", f"paths.mirror={tmp_path}", "model=minilm"):
            assert part in said

    def test_without_a_mirror_the_remedy_stays_readable(self) -> None:
        with pytest.raises(ModelError, match=r"paths\.mirror=<mirror>"):
            Sources().model("org/other")

    def test_without_a_configuration(self, tmp_path: Path, folder: Path) -> None:
        (folder / "config.json").unlink()
        with pytest.raises(ModelError, match=r"config\.json"):
            Sources(tmp_path).model("org/name")

    def test_without_weights(self, tmp_path: Path, folder: Path) -> None:
        (folder / "model.safetensors").unlink()
        with pytest.raises(ModelError, match="no weights"):
            Sources(tmp_path).model("org/name")

    def test_truncated_weights(self, tmp_path: Path, folder: Path) -> None:
        file = folder / "model.safetensors"
        file.write_bytes(file.read_bytes()[:-10])
        with pytest.raises(ModelError, match="not a whole safetensors file"):
            Sources(tmp_path).model("org/name")

    def test_a_package_that_is_not_installed(self) -> None:
        with pytest.raises(ModelError, match=r"not installed\n.*pip install 'rankadapt\[demo\]'"):
            Sources().model("package:no_such_package_here/model")

    def test_a_package_is_not_run(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        model = self._package(tmp_path, monkeypatch)
        assert Sources().model("package:boobytrapped/model") == model
        assert "boobytrapped" not in sys.modules

    def test_checksums(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._package(tmp_path, monkeypatch)
        empty_object = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
        repo = "package:boobytrapped/model"
        assert Sources().model(repo, {"config.json": empty_object})
        with pytest.raises(ModelError, match=r"config\.json: has the SHA-256 44136fa"):
            Sources().model(repo, {"config.json": "0" * 64})
        with pytest.raises(ModelError, match=r"vocab\.txt: cannot be read"):
            Sources().model(repo, {"vocab.txt": "0" * 64})

    @staticmethod
    def _package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        model = tmp_path / "site" / "boobytrapped" / "model"
        model.mkdir(parents=True)
        (model.parent / "__init__.py").write_text("raise RuntimeError('the package was run')")
        (model / "config.json").write_text("{}")
        save_file({"w": torch.zeros(4)}, model / "model.safetensors")
        monkeypatch.syspath_prepend(str(tmp_path / "site"))
        return model
