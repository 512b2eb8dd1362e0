"""What an adapter costs when it generates, merged and not: the columns of La-LoRA's Table 13.

    python scripts/bench_generation.py                                        # tiny random LLaMA, seconds
    python scripts/bench_generation.py --model llama2_7b --device cuda        # the paper's, from the hub

Random updates: what is measured is time, not text. La-LoRA's arm has blocks of rank 1 to the budget's, as
a run leaves them; LoRA's has the budget everywhere. All arms are timed in turn, in every round, so that a
machine that slows down slows all of them; reported are medians, with the quartiles of the rounds.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from rankadapt.adapters import BA, AdapterOptions, adapted_layers, inject, merge_and_unload
from rankadapt.adapters.collection import block_numbers
from rankadapt.adapters.inject import linear_targets
from rankadapt.runs.build import build_model
from rankadapt.runs.compose import resolved
from rankadapt.sources import Sources
from rankadapt.training.validation import parse

CONF = Path(__file__).resolve().parents[1] / "conf"
QUERY_VALUE = ["model.layers.*.self_attn.q_proj", "model.layers.*.self_attn.v_proj"]


@dataclass
class Arm:
    """A model, and its times in seconds: to the first token, and between two of the others."""

    name: str
    model: nn.Module
    first: list[float] = field(default_factory=list)
    between: list[float] = field(default_factory=list)

    @property
    def tokens_per_second(self) -> float:
        """Of a stream, once it runs."""
        return 1 / statistics.median(self.between)


def arms(model: str, rank: int, device: str) -> list[Arm]:
    """The base model, LoRA and La-LoRA, and both merged."""
    return [
        Arm("base", _base(model, device)),
        Arm("LoRA", _adapted(model, device, lambda block, blocks: rank)),
        Arm("La-LoRA", _adapted(model, device, lambda block, blocks: 1 + (rank - 1) * block // blocks)),
        Arm("LoRA, merged", merge_and_unload(_adapted(model, device, lambda block, blocks: rank))),
        Arm(
            "La-LoRA, merged", merge_and_unload(_adapted(model, device, lambda b, n: 1 + (rank - 1) * b // n))
        ),
    ]


def _base(name: str, device: str) -> nn.Module:
    config = parse(resolved(CONF, (f"model={name}", "task=math/metamath", "method=lora")))
    torch.manual_seed(0)
    return build_model(config.model, config.task, Sources(None, None)).to(device).eval()


def _adapted(name: str, device: str, rank: Callable[[int, int], int]) -> nn.Module:
    model = _base(name, device)
    blocks = block_numbers(linear_targets(model, QUERY_VALUE))
    ranks = [rank(block, max(blocks) + 1) for block in blocks]
    inject(model, QUERY_VALUE, BA(), ranks, max(ranks), AdapterOptions(lora_alpha=16))
    for _, layer in adapted_layers(model):
        nn.init.normal_(layer.slot_parameters()["B"], std=0.01)  # as far from zero as a trained one
    return model.to(device).eval()


@torch.inference_mode()
def generate(arm: Arm, prompt: torch.Tensor, tokens: int) -> None:
    """One greedy continuation of ``prompt`` (1, length) with a cache; notes its times."""
    marks = [_now(prompt.device)]
    found = arm.model(input_ids=prompt, use_cache=True)
    for _ in range(tokens):
        following = found.logits[:, -1:].argmax(-1)
        marks.append(_now(prompt.device))
        found = arm.model(input_ids=following, past_key_values=found.past_key_values, use_cache=True)
    arm.first.append(marks[1] - marks[0])
    arm.between += [b - a for a, b in pairwise(marks[1:])]


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def _quartiles(seconds: list[float]) -> str:
    low, middle, high = (1e3 * q for q in statistics.quantiles(seconds, n=4))
    return f"{middle:.2f} ({low:.2f} to {high:.2f})"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="tiny_llama", help="a name in conf/model")
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--prompt", type=int, default=64, help="tokens of the prompt")
    parser.add_argument("--tokens", type=int, default=32, help="tokens to write")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args()
    found = arms(given.model, given.rank, given.device)
    prompt = torch.randint(5, 100, (1, given.prompt), device=given.device)
    for turn in range(given.rounds + 1):
        for arm in found[turn % len(found) :] + found[: turn % len(found)]:
            generate(arm, prompt, given.tokens)
        if turn == 0:  # warm-up
            for arm in found:
                arm.first.clear(), arm.between.clear()
    table = Table("arm", "ms to the first token", "ms per token", "tokens/s", "parameters", "MiB of weights")
    for arm in found:
        size = sum(p.numel() for p in arm.model.parameters())
        memory = sum(p.numel() * p.element_size() for p in arm.model.parameters()) / 2**20
        speed = f"{arm.tokens_per_second:.1f}"
        table.add_row(
            arm.name, _quartiles(arm.first), _quartiles(arm.between), speed, f"{size:,}", f"{memory:.1f}"
        )
    Console(width=130).print(table)


if __name__ == "__main__":
    main()
