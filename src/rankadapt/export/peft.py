"""Adapters as PEFT and serving engines load them.

Two folders are written. ``compact`` has each module's own rank, with PEFT's rank and alpha patterns.
``serving`` is the form that every engine can load, PEFT included: one rank for all (a power of two, at
least 8), zero-padded, every scale and core folded into the factors, ``r == lora_alpha``, no patterns. Some
engines drop patterns in silence and then use the wrong scale, or refuse mixed ranks. The parts trained in
full (the head) lie beside them in ``head.safetensors``: adapter files cannot hold them for every engine.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from rankadapt.adapters import Adaptation, AdaptedLinear, Whole, adapted_layers
from rankadapt.adapters.linear import other_parameters

PREFIX = "base_model.model."


def export_adapter(
    model: nn.Module, base: str, directory: Path, form: Adaptation | None = None, head: Iterable[str] = ()
) -> None:
    """Write what was trained under ``directory``, whole or not at all.

    ``serving/``, ``compact/`` and ``head.safetensors`` where the update is plain LoRA factors; else
    ``trained.safetensors``, with the reason in ``README.md``: merge the model to serve it, if the form does.

    Args:
        model: with its adapters. base: what to name as their base model.
        form: its adaptation, for one without slots. head: names of the parameters trained outside of it.
    """
    beside = directory.with_name(f".{directory.name}")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    try:
        factors = form.folded(model) if isinstance(form, Whole) else folded_factors(model)
        if factors is None:
            _write_trained(model, beside)
        else:
            _write_factors(factors, base, beside)
            save_file(_head(model, set(head)), beside / "head.safetensors")
        shutil.rmtree(directory, ignore_errors=True)
        beside.rename(directory)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _write_factors(factors: dict[str, tuple[Tensor, Tensor]], base: str, directory: Path) -> None:
    width = padded_rank(max((a.shape[0] for a, _ in factors.values()), default=1))
    padded = {name: (_pad(a, width), _pad(b.t(), width).t()) for name, (a, b) in factors.items()}
    _write(directory / "serving", padded, _settings(base, factors, width))
    live = {name: (a, b) for name, (a, b) in factors.items() if a.shape[0]}
    ranks = {name: a.shape[0] for name, (a, _) in live.items()}
    patterns = {"rank_pattern": ranks, "alpha_pattern": ranks}
    _write(directory / "compact", live, _settings(base, live, max(ranks.values(), default=1)) | patterns)


def _write_trained(model: nn.Module, directory: Path) -> None:
    tensors = {n: p.detach().cpu().contiguous() for n, p in model.named_parameters() if p.requires_grad}
    save_file(tensors, directory / "trained.safetensors")
    (directory / "README.md").write_text(
        "What was trained is not a sum of low-rank factors and the base weight: no engine can load it as a\n"
        "LoRA adapter. `trained.safetensors` has every trained tensor by name; `checkpoints/` resumes.\n"
    )


def folded_factors(model: nn.Module) -> dict[str, tuple[Tensor, Tensor]] | None:
    """Module path -> ``lora_A`` (r, d_in) and ``lora_B`` (d_out, r) with ``ΔW = lora_B lora_A``: the live
    directions, scale and core folded into ``lora_B``. None if the update is no such product.

    An update that started as a part of the base weight (PiSSA, MiLoRA) has twice the rank: ``[A; A0]`` and
    ``[B, -B0]``, for the weight as it was.
    """
    layers = dict(adapted_layers(model))
    if not all(layer.combine.folds for layer in layers.values()):
        return None
    return {name: _folded(layer) for name, layer in layers.items()}


def _folded(layer: AdaptedLinear) -> tuple[Tensor, Tensor]:
    rows = layer.live if layer.storage == "in_place" else slice(layer.rank)
    A, P = layer.A.detach().float()[rows], layer.up().detach().float()[rows]
    if layer.residual:
        A = torch.cat([A, layer.initial_A.float()])
        P = torch.cat([P, -layer.initial_P.float()])
    return A.cpu(), P.cpu().t()


def padded_rank(rank: int) -> int:
    """The smallest of 8, 16, 32, ... that is at least ``rank``."""
    width = 8
    while width < rank:
        width *= 2
    return width


def _pad(rows: Tensor, width: int) -> Tensor:
    return torch.cat([rows, rows.new_zeros(width - rows.shape[0], rows.shape[1])])


def _settings(base: str, factors: dict[str, Any], rank: int) -> dict[str, Any]:
    return {
        "peft_type": "LORA",
        "base_model_name_or_path": base,
        "task_type": None,
        "inference_mode": True,
        "r": rank,
        "lora_alpha": rank,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": sorted(factors),
        "modules_to_save": None,
        "rank_pattern": {},
        "alpha_pattern": {},
        "use_rslora": False,
        "use_dora": False,
        "fan_in_fan_out": False,
        "init_lora_weights": True,
    }


def _write(folder: Path, factors: dict[str, tuple[Tensor, Tensor]], settings: dict[str, Any]) -> None:
    folder.mkdir(parents=True)
    tensors = {}
    for name, (a, b) in factors.items():
        tensors[f"{PREFIX}{name}.lora_A.weight"] = a.contiguous()
        tensors[f"{PREFIX}{name}.lora_B.weight"] = b.contiguous()
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    (folder / "adapter_config.json").write_text(json.dumps(settings, indent=2) + "\n")


def _head(model: nn.Module, names: set[str]) -> dict[str, Tensor]:
    return {
        name: parameter.detach().cpu().contiguous()
        for name, parameter in other_parameters(model)
        if parameter.requires_grad and (not names or name in names)
    }
