"""Images: pixels, what is refused, how they are kept, results that do not depend on batches."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from PIL import Image
from pydantic import TypeAdapter, ValidationError
from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessorPil

from rankadapt.errors import DataError, ModelError
from rankadapt.rows import Rows
from rankadapt.runs.run import run
from rankadapt.runs.session import build_session
from rankadapt.sources import Sources
from rankadapt.tasks.digits import Digits
from rankadapt.tasks.images import Images
from rankadapt.tasks.pixels import Pixels, decoded, pixels_of
from rankadapt.training.loader import EvalLoader, Share
from rankadapt.training.validation import parse
from tests.composed import ROOT, composed

PIXELS = Pixels(4, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
NONE = {"size": None, "mean": None, "std": None}
DIGITS = ["task=images/digits", "trainer.accelerator=cpu", "trainer.progress_bar=false", "logger=none"]


def picture(seed: int = 0, width: int = 9, height: int = 6, kind: str = "png", **saved: Any) -> bytes:
    values = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(values).save(stream, format=kind, **saved)
    return stream.getvalue()


def row(seed: int = 0, **changes: Any) -> dict[str, Any]:
    return {"image": {"bytes": picture(seed), "path": f"{seed}.png"}, "label": seed % 3, **changes}


def mirror(folder: Path, *rows: dict[str, Any]) -> Sources:
    for split in ("train", "test"):
        file = folder / "datasets" / "x" / "y" / "default" / f"{split}-00000-of-00001.parquet"
        file.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist(list(rows)), file)
    return Sources(folder, folder / "cache")


def images(**changes: Any) -> Images:
    options = {"name": "images/some", "dataset": "x/y", "num_labels": 3, "batch_size": 2}
    return TypeAdapter(Images).validate_python({**options, **changes})


def vit() -> ViTForImageClassification:
    torch.manual_seed(0)
    size = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
    described = ViTConfig(**size, image_size=4, patch_size=2, num_labels=3, initializer_range=0.2)
    return ViTForImageClassification(described).eval()


class TestPixels:
    @pytest.mark.parametrize("shape", [(9, 6), (64, 48), (8, 8)])
    def test_as_transformers_prepares_them(self, shape: tuple[int, int]) -> None:
        mean, std = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
        theirs = ViTImageProcessorPil(size={"height": 8, "width": 8}, image_mean=mean, image_std=std)
        encoded = picture(1, *shape)
        expected = theirs(decoded(encoded), return_tensors="np")["pixel_values"][0]
        found = Pixels(8, mean, std)(encoded)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)

    def test_a_photograph_is_turned_upright(self) -> None:
        exif = Image.Exif()
        exif[0x0112] = 6  # to be turned by a quarter
        assert decoded(picture(0, 9, 6, "jpeg", exif=exif)).size == (6, 9)

    def test_grey_and_palettes_become_rgb(self) -> None:
        for mode in ("L", "P", "RGBA", "1"):
            stream = io.BytesIO()
            Image.new(mode, (3, 3), 1 if mode != "RGBA" else (9, 9, 9, 9)).save(stream, format="png")
            assert decoded(stream.getvalue()).mode == "RGB"

    def test_the_models_own_unless_the_task_says_otherwise(self, tmp_path: Path) -> None:
        own = {"size": 32, "image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6], "resample": 3}
        file = tmp_path / "preprocessor_config.json"
        file.write_text(json.dumps(own))
        assert pixels_of(tmp_path, NONE) == Pixels(32, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6), 3)
        assert pixels_of(tmp_path, {**NONE, "size": 8}).size == 8
        file.write_text(json.dumps({**own, "size": {"height": 16, "width": 16}, "do_normalize": False}))
        assert pixels_of(tmp_path, NONE) == Pixels(16, (0, 0, 0), (1, 1, 1), 3)

    def test_what_nobody_says_is_asked_for_at_once(self, tmp_path: Path) -> None:
        with pytest.raises(ModelError, match=r"there is no preprocessor_config\.json") as caught:
            pixels_of(tmp_path, {**NONE, "size": 8})
        assert [problem.path.split()[0] for problem in caught.value.problems] == ["task.mean", "task.std"]
        crop = {"size": {"shortest_edge": 9}, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
        (tmp_path / "preprocessor_config.json").write_text(json.dumps(crop))
        with pytest.raises(ModelError, match=r"task\.size .* does not give a square"):
            pixels_of(tmp_path, NONE)


class TestModel:
    def test_only_the_size_must_fit(self) -> None:
        model = vit()
        before = model.config.to_dict()
        images().join(model, PIXELS)
        assert model.config.to_dict() == before
        with pytest.raises(ModelError, match=r"task\.size = 8: .* images of size 4\n.*task\.size=4"):
            images().join(model, Pixels(8, PIXELS.mean, PIXELS.std))

    def test_the_head_has_the_classes_and_their_names(self) -> None:
        assert ViTConfig(**images().head_kwargs()).num_labels == 3
        named = ViTConfig(**images(labels=["a", "b", "c"]).head_kwargs())
        assert (named.id2label, named.label2id["c"]) == ({0: "a", 1: "b", 2: "c"}, 2)

    def test_settings_that_contradict_each_other(self) -> None:
        with pytest.raises(ValidationError, match="2 names for num_labels = 3"):
            images(labels=["a", "b"])
        with pytest.raises(ValidationError, match="the metric accuracy"):
            images(primary="f1")
        with pytest.raises(ValidationError, match="'train' is taken"):
            images(evaluation={"train": "test"})


def cut() -> bytes:
    return picture(1, 40, 40, "jpeg")[:-300]


class TestRefused:
    @pytest.mark.parametrize(
        ("changes", "said"),
        [
            ({"image": {"bytes": cut(), "path": ""}}, "column image: is not a whole image .*truncated"),
            ({"image": {"bytes": picture()[:60], "path": ""}}, "column image: is not a whole image"),
            ({"image": {"bytes": b"text", "path": ""}}, "column image: is not a whole image .*identify"),
            ({"image": {"bytes": None, "path": "a.png"}}, "column image: holds no image's bytes"),
            ({"image": None}, "column image: holds no image's bytes"),
            ({"label": 3}, "column label = 3: classes are 0 to 2"),
            ({"label": -1}, "column label = -1: classes are 0 to 2"),
            ({"label": None}, "column label: classes are 0 to 2"),
        ],
    )
    def test_a_bad_row_is_named_or_left_out(self, tmp_path: Path, changes: dict[str, Any], said: str) -> None:
        sources = mirror(tmp_path, row(0), row(1, **changes), row(2))
        with pytest.raises(DataError, match=rf"train-00000-of-00001\.parquet, row 1, {said}"):
            images().load(PIXELS, sources)
        data = images(bad_rows="skip").load(PIXELS, sources)
        assert {name: split.skipped for name, split in data.splits.items()} == {"train": 1, "test": 1}
        assert [data.train[i]["labels"] for i in range(len(data.train))] == [0, 2]

    def test_a_missing_column_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match=r"has no column img; it has image, label\n.*task\.image"):
            images(image="img").load(PIXELS, mirror(tmp_path, row()))

    def test_nothing_is_left(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="no row of it can be used"):
            images(bad_rows="skip").load(PIXELS, mirror(tmp_path, row(label=7)))

    def test_the_classes_are_the_datas(self, tmp_path: Path) -> None:
        table = pa.Table.from_pylist([row(0), row(1)])
        noted = {"info": {"features": {"label": {"names": ["a", "b", "c"], "_type": "ClassLabel"}}}}
        sources = mirror(tmp_path, row())
        for split in ("train", "test"):
            file = tmp_path / "datasets/x/y/default" / f"{split}-00000-of-00001.parquet"
            pq.write_table(table.replace_schema_metadata({"huggingface": json.dumps(noted)}), file)
        assert len(images(labels=["a", "b", "c"]).load(PIXELS, sources).train) == 2
        with pytest.raises(DataError, match=r"task\.labels .*classes are \['a', 'b', 'c'\]"):
            images(labels=["c", "b", "a"]).load(PIXELS, sources)
        with pytest.raises(DataError, match=r"task\.num_labels .* = 4: the data's classes are 3"):
            images(num_labels=4).load(PIXELS, sources)


class TestKept:
    def test_files_as_they_came_and_decoded_when_asked_for(self, tmp_path: Path) -> None:
        rows = [row(seed) for seed in range(4)]
        data = images().load(PIXELS, mirror(tmp_path, *rows))
        (folder,) = {file.parent for file in (tmp_path / "cache" / "pictures").glob("*/encoded")}
        assert (folder / "encoded").read_bytes() == b"".join(r["image"]["bytes"] for r in rows)
        example = data.train[2]
        assert (example["index"], example["labels"]) == (2, 2)
        np.testing.assert_array_equal(example["pixel_values"], PIXELS(rows[2]["image"]["bytes"]))

    def test_the_size_of_the_pixels_is_not_kept(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        sources = mirror(tmp_path, row(0), row(1))
        images().load(PIXELS, sources)
        monkeypatch.setattr(Rows, "chosen", lambda *_: pytest.fail("read again"))
        again = images().load(Pixels(8, PIXELS.mean, PIXELS.std), sources)
        assert again.train[0]["pixel_values"].shape == (3, 8, 8)

    def test_other_settings_and_other_data_are_not_taken_for_these(self, tmp_path: Path) -> None:
        few = images(max_train_examples=2, max_eval_examples=3)
        sources = mirror(tmp_path, *(row(seed) for seed in range(8)))
        assert (len(images().load(PIXELS, sources).train), len(few.load(PIXELS, sources).train)) == (8, 2)
        chosen = [few.load(PIXELS, sources, seed) for seed in range(6)]
        assert len({tuple(data.train.rows) for data in chosen}) > 1  # type: ignore[attr-defined]
        assert len({tuple(data.evaluation["test"].examples.rows) for data in chosen}) == 1  # type: ignore[attr-defined]
        changed = mirror(tmp_path, *(row(seed + 1) for seed in range(8)))
        assert images().load(PIXELS, changed).train[0]["labels"] == 1

    def test_a_share_for_the_selection(self, tmp_path: Path) -> None:
        sources = mirror(tmp_path, *(row(seed) for seed in range(8)))
        data = images(selection_share=0.25).load(PIXELS, sources)
        assert {name: len(found) for name, found in data.evaluation.items()} == {"selection": 2, "test": 6}
        parts = [set(found.examples.rows) for found in data.evaluation.values()]  # type: ignore[attr-defined]
        assert [len(part) for part in parts] == [2, 6]


class TestBatches:
    def test_a_batch(self, tmp_path: Path) -> None:
        task = images()
        data = task.load(PIXELS, mirror(tmp_path, row(0), row(1)))
        batch = task.collate([data.train[1], data.train[0]], PIXELS, 1)
        assert {k: (v.dtype, tuple(v.shape)) for k, v in batch.items()} == {
            "pixel_values": (torch.float32, (2, 3, 4, 4)),
            "labels": (torch.int64, (2,)),
            "index": (torch.int64, (2,)),
        }
        assert batch["index"].tolist() == [1, 0]
        assert list(task.model_inputs(batch)) == ["pixel_values"]
        assert task.token_masks(batch) == ()

    def test_the_loss_is_that_of_transformers(self, tmp_path: Path) -> None:
        task, model = images(), vit()
        data = task.load(PIXELS, mirror(tmp_path, *(row(seed) for seed in range(5))))
        batch = task.collate([data.train[i] for i in range(5)], PIXELS, 1)
        theirs = model(pixel_values=batch["pixel_values"], labels=batch["labels"])
        torch.testing.assert_close(task.losses(theirs, batch).mean(), theirs.loss)

    def test_batches_and_processes_change_no_result(self, tmp_path: Path) -> None:
        task, model = images(), vit()
        sources = mirror(tmp_path, *(row(seed) for seed in range(21)))
        found = task.load(PIXELS, sources).evaluation["test"]

        def predicted(batch_size: int, world: int = 1) -> dict[int, int]:
            predictions: dict[int, int] = {}
            for rank in range(world):
                collate = lambda examples, width: task.collate(examples, PIXELS, width)  # noqa: E731
                for batch in EvalLoader(found.examples, collate, batch_size, Share(rank, world)):
                    predictions |= zip(
                        batch["index"].tolist(), task.predict(model, batch, PIXELS), strict=True
                    )
            return predictions

        one = predicted(1)
        assert len(set(one.values())) > 1
        assert one == predicted(8) == predicted(4, world=2)
        right = sum(one[i] == i % 3 for i in range(21))
        assert found.score(one) == {"accuracy": pytest.approx(right / 21)}


class TestDigits:
    def test_they_are_scikit_learns(self, tmp_path: Path) -> None:
        from sklearn.datasets import load_digits

        pixels = Pixels(8, (0, 0, 0), (1, 1, 1))
        task = TypeAdapter(Digits).validate_python({"name": "images/digits", "batch_size": 2})
        data = task.load(pixels, Sources(None, tmp_path))
        test = data.evaluation["test"].examples
        assert (len(data.train), len(test)) == (1438, 359)
        images = load_digits().images
        ours = sorted(
            tuple((split[i]["pixel_values"][0] * 16).round(1).ravel().astype(int))
            for split in (data.train, test)
            for i in range(len(split))
        )
        assert ours == sorted(tuple(image.ravel().astype(int)) for image in images)

    def test_without_scikit_learn(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
        with pytest.raises(DataError, match="needs scikit-learn"):
            Digits(name="images/digits", batch_size=2).train_rows(Sources())

    def test_accumulation_changes_no_step(self, tmp_path: Path) -> None:
        def losses(accumulate: int) -> tuple[torch.Tensor, list[torch.Tensor]]:
            overrides = ["method=lora", "task.max_train_examples=20", "task.max_eval_examples=4"]
            cfg = composed(*DIGITS, *overrides, "task.batch_size=8")
            cfg["trainer"]["accumulate_grad_batches"] = accumulate
            cfg["paths"]["cache"] = str(tmp_path)
            session = build_session(parse(cfg))
            module, total = session.module, torch.zeros(())
            for position in range(accumulate):
                batch = session.train.micro_batch(position)
                share = batch.pop("share")
                loss = session.config.task.losses(
                    module.model(**session.config.task.model_inputs(batch)), batch
                )
                total = total + loss.mean() * share / accumulate
            total.backward()
            return total.detach(), [p.grad for p in module.parameters() if p.grad is not None]

        (one, gradients), (two, others) = losses(1), losses(2)
        torch.testing.assert_close(one, two)
        assert len(gradients) == len(others) > 12
        torch.testing.assert_close(gradients, others, rtol=1e-4, atol=1e-6)


FILES = sorted((ROOT / "conf/task/images").glob("*.yaml"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_yaml_file_is_a_task(file: Path) -> None:
    task = yaml.safe_load(file.read_text())["task"]
    kind = Digits if task.pop("_target_").endswith("Digits") else Images
    read: Any = TypeAdapter(kind).validate_python(task)
    assert read.name == f"images/{file.stem}"
    assert set(task) == set(vars(read)) - ({"image", "label"} if kind is Digits else set())


def test_end_to_end(tmp_path: Path) -> None:
    few = ["task.max_train_examples=400", "trainer.max_steps=60", "evaluation.every_n_steps=null"]
    events = ["schedule.t_i=5", "schedule.delta_t=5", "schedule.t_f=40"]
    config = parse(composed("method=hebira", *DIGITS, *few, *events, f"paths.cache={tmp_path / 'cache'}"))
    with mock.patch("rankadapt.runs.run.plot_ranks", lambda frame, path, title: path.touch()):
        results = run(config, tmp_path / "run", {})
    assert results["status"] == "completed"
    accuracy = results["metrics"]["last"]["accuracy"]
    assert accuracy > 0.25 > 0.15 > results["metrics"]["before"]["accuracy"]
    assert results["data"]["evaluation_examples"] == {"test": 359}
    assert any(m["initial"] != m["final"] for m in results["rank"]["modules"].values())
