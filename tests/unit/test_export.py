"""Exported adapters: PEFT gives our outputs, and the serving form is what every engine can load."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from safetensors.torch import load_file
from torch import nn

from rankadapt.adapters import BA, BEA, AdapterOptions, Adapters, Form, inject
from rankadapt.export.peft import export_adapter, padded_rank
from rankadapt.runs.build import build_model
from rankadapt.runs.session import build_session
from rankadapt.sources import Sources
from rankadapt.training.checkpoint import read_checkpoint
from tests import tiny
from tests.composed import METHODS, run_small, small

RANKS = {"query": 0, "value": 3, "dense": 9}
"""By kind of module: none, some, and more than the smallest padded rank of 8."""


def adapted(base: nn.Module, form: Form) -> nn.Module:
    model = copy.deepcopy(base)
    names = [n for n, m in base.named_modules() if isinstance(m, nn.Linear) and "layer" in n]
    names = [n for n in names if n.rpartition(".")[2] in RANKS and "intermediate" not in n]
    ranks = [RANKS[n.rpartition(".")[2]] for n in names]
    inject(model, names, form, ranks, 10, AdapterOptions(lora_alpha=5), ["classifier"], seed=0)
    return tiny.fill(model, std=0.2).eval()


def through_peft(base: nn.Module, folder: Path, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    """Logits of the exported adapter and head on ``base``, as PEFT computes them."""
    from peft import PeftModel

    base = copy.deepcopy(base)
    heads = load_file(folder.parent / "head.safetensors")
    assert not base.load_state_dict(heads, strict=False).unexpected_keys
    model = PeftModel.from_pretrained(base, folder).eval()
    with torch.no_grad():
        return model(**inputs).logits


@pytest.mark.parametrize("form", [BA(), BEA()], ids=["ba", "bea"])
@pytest.mark.parametrize("kind", ["serving", "compact"])
def test_peft_gives_our_logits(kind: str, form: Form, tmp_path: Path) -> None:
    base = tiny.bert()
    model = adapted(base, form)
    with torch.no_grad():
        model.classifier.weight.normal_()
    export_adapter(model, "some/base", tmp_path / "adapter")
    inputs = {k: v for k, v in tiny.batch(padded=True).items() if k != "labels"}
    with torch.no_grad():
        ours, plain = model(**inputs).logits, base(**inputs).logits
    torch.testing.assert_close(
        through_peft(base, tmp_path / "adapter" / kind, inputs), ours, atol=1e-5, rtol=1e-5
    )
    assert (ours - plain).abs().max() > 0.1


def folds(method: str) -> bool:
    """Whether what a run leaves is LoRA factors for the base as it was: not so where they multiply it, have
    no product form, or belong to a base in 4 bits."""
    config = small(method)
    slotted = isinstance(config.form, Form) and config.combine.folds and config.quantization.kind == "none"
    return slotted or method == "rasa"


def options(method: str) -> list[str]:
    std = ["form.std=0.2"] if hasattr(small(method).form, "std") else []
    return ["budget.min_rank=0", "optimizer.lr=0.02", "logger=none", *std]


@pytest.mark.parametrize("method", [m for m in METHODS if not folds(m)])
def test_what_cannot_be_folded_is_left_whole_and_says_so(method: str, tmp_path: Path) -> None:
    if method == "qlora":  # factors they are, for a base in 4 bits
        pytest.skip("compared with peft on the same 4-bit base in tests/parity")
    run_small(tmp_path, method, "logger=none", "trainer.max_steps=7")
    names = {file.name for file in (tmp_path / "adapter").iterdir()}
    assert names == {"README.md", "trained.safetensors"}
    trained = load_file(tmp_path / "adapter/trained.safetensors")
    session = build_session(small(method, "logger=none", "trainer.max_steps=7"))
    wanted = {n for n, p in session.module.model.named_parameters() if p.requires_grad}
    assert set(trained) == wanted


@pytest.fixture(scope="module", params=[m for m in METHODS if folds(m)])
def finished(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """A method, and the directory of its run; ranks have moved if they can, one module has lost all."""
    directory = tmp_path_factory.mktemp(request.param)
    run_small(directory, request.param, *options(request.param))
    return request.param, directory


@pytest.mark.parametrize("kind", ["serving", "compact"])
def test_the_adapter_of_a_run_gives_the_logits_of_its_model(kind: str, finished: tuple[str, Path]) -> None:
    method, directory = finished
    session = build_session(small(method, *options(method)))
    session.module.load_state_dict(read_checkpoint(directory / "checkpoints/last.ckpt")["state_dict"])
    session.module.eval()
    pl.seed_everything(session.config.seed, verbose=False)
    base = build_model(session.config.model, session.config.task, Sources()).eval()
    batch = next(iter(session.evaluation[0]))
    inputs = session.config.task.model_inputs(batch)
    with torch.no_grad():
        ours = session.module.model(**inputs).logits
    torch.testing.assert_close(
        through_peft(base, directory / "adapter" / kind, inputs), ours, atol=1e-5, rtol=1e-5
    )


def settings_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "adapter_config.json").read_text())


@pytest.mark.parametrize("form", [BA(), BEA()], ids=["ba", "bea"])
def test_the_serving_form(form: Form, tmp_path: Path) -> None:
    model = adapted(tiny.bert(), form)
    export_adapter(model, "some/base", tmp_path / "adapter")
    adapters, folder = Adapters(model), tmp_path / "adapter/serving"
    settings, tensors = settings_of(folder), load_file(folder / "adapter_model.safetensors")
    assert settings["peft_type"] == "LORA"
    assert settings["base_model_name_or_path"] == "some/base"
    assert settings["r"] == settings["lora_alpha"] == 16
    assert settings["rank_pattern"] == settings["alpha_pattern"] == {}
    assert settings["target_modules"] == sorted(adapters.names)
    assert settings["bias"] == "none"
    assert settings["modules_to_save"] is None
    assert not settings["use_rslora"]
    assert not settings["use_dora"]
    assert len(tensors) == 2 * len(adapters)
    for name, layer in zip(adapters.names, adapters.layers, strict=True):
        down = tensors.pop(f"base_model.model.{name}.lora_A.weight")
        up = tensors.pop(f"base_model.model.{name}.lora_B.weight")
        assert down.shape == (16, layer.base.in_features)
        assert up.shape == (layer.base.out_features, 16)
        torch.testing.assert_close(up @ down, layer.delta().detach())  # the scale is 1: all is folded in
        assert not down[layer.rank :].any()
        assert not up[:, layer.rank :].any()
    assert not tensors


def test_the_compact_form_leaves_out_modules_of_rank_0(tmp_path: Path) -> None:
    model = adapted(tiny.bert(), BEA())
    export_adapter(model, "some/base", tmp_path / "adapter")
    settings = settings_of(tmp_path / "adapter/compact")
    ranks = dict(zip(Adapters(model).names, Adapters(model).ranks(), strict=True))
    alive = {name: rank for name, rank in ranks.items() if rank}
    assert 0 < len(alive) < len(ranks)
    assert settings["rank_pattern"] == settings["alpha_pattern"] == alive
    assert settings["target_modules"] == sorted(alive)
    tensors = load_file(tmp_path / "adapter/compact/adapter_model.safetensors")
    downs = {name: len(tensor) for name, tensor in tensors.items() if "lora_A" in name}
    found = {n.removeprefix("base_model.model.").removesuffix(".lora_A.weight"): r for n, r in downs.items()}
    assert found == alive


def test_the_head_lies_beside(tmp_path: Path) -> None:
    model = adapted(tiny.bert(), BA())
    export_adapter(model, "some/base", tmp_path / "adapter")
    head = load_file(tmp_path / "adapter/head.safetensors")
    assert set(head) == {"classifier.weight", "classifier.bias"}
    assert torch.equal(head["classifier.weight"], model.classifier.weight)


def test_an_export_replaces_the_one_before_as_a_whole(tmp_path: Path) -> None:
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter/old").write_text("")
    export_adapter(adapted(tiny.bert(), BA()), "some/base", tmp_path / "adapter")
    assert sorted(f.name for f in (tmp_path / "adapter").iterdir()) == [
        "compact",
        "head.safetensors",
        "serving",
    ]
    assert [f.name for f in tmp_path.iterdir()] == ["adapter"]


@pytest.mark.parametrize(("rank", "width"), [(0, 8), (1, 8), (8, 8), (9, 16), (16, 16), (33, 64)])
def test_padded_ranks(rank: int, width: int) -> None:
    assert padded_rank(rank) == width
