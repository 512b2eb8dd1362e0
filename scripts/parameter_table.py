"""How many parameters each method trains, next to what the papers print: the text of docs/parameters.md.

    python scripts/parameter_table.py > docs/parameters.md

Models are built from their public configurations on the meta device: no weight is read, nothing is fetched.
Their layers are named by conf/model. Methods on slots are injected and counted by their live directions, the
others are installed and counted by what requires gradients.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
import transformers
import yaml
from torch import nn
from transformers import AutoConfig

from rankadapt.adapters import BA, BEA, Form, inject
from rankadapt.adapters.adaptation import Whole
from rankadapt.adapters.combine import Combine, DoRA
from rankadapt.adapters.forms import Tri
from rankadapt.adapters.inject import matching
from rankadapt.adapters.linear import adapted_layers
from rankadapt.adapters.whole import AdapterDrop, BitFit, Houlsby, Parallel, Peft, Pfeiffer, RaSA, Series
from rankadapt.papers.outline import architectures
from rankadapt.runs.adapt import head_parameters

CONF = Path(__file__).resolve().parents[1] / "conf/model"

CLASSIFIER, IMAGES = "SequenceClassification", "ImageClassification"
TASKS = {
    "deberta_v3_base": CLASSIFIER, "roberta_base": CLASSIFIER, "roberta_large": CLASSIFIER,
    "bart_large": "Seq2SeqLM", "llama2_7b": "CausalLM", "llama3_8b": "CausalLM",
    "vit_base": IMAGES, "vit_large": IMAGES,
}  # fmt: skip
"""The task that the papers' counts of a model are for."""
CLASSES = {CLASSIFIER: 2, IMAGES: 100}
"""GLUE's tasks have two classes (a third changes no printed figure), CIFAR-100 has a hundred."""

QV = ("query", "query_proj", "q_proj", "value", "value_proj", "v_proj")
FIVE = ("q_proj", "k_proj", "v_proj", "up_proj", "down_proj")
HEADS = ("classifier", "pooler")

Count = Callable[[nn.Module, list[str]], int]
"""From a fresh model and the patterns of its targets: the parameters trained, a task's head left out."""


def build(name: str, task: str | None = None) -> nn.Module:
    """The model ``name``, on the meta device; ``task`` for another head than usual."""
    usual = TASKS[name]
    classes = {"num_labels": CLASSES[usual]} if usual in CLASSES else {}
    auto = getattr(transformers, f"AutoModelFor{task or usual}")
    with torch.device("meta"):
        return auto.from_config(AutoConfig.for_model(**architectures()[name], **classes))


def settings(name: str) -> Mapping[str, Any]:
    """The model's yaml."""
    return yaml.safe_load((CONF / f"{name}.yaml").read_text())


def patterns(name: str, only: Iterable[str] = ()) -> list[str]:
    """The targets that the model's yaml names, or those of them whose last name is in ``only``."""
    targets = settings(name)["targets"]
    return [t for t in targets if t.rpartition(".")[2] in set(only)] if only else targets


def size(module: nn.Module) -> int:
    """All parameters; shared ones once."""
    return sum(p.numel() for p in module.parameters())


# --- Methods on slots: injected, and counted as they stand in the model -------------------------------------


def slotted(form: Form, rank: int, combine: Combine | None = None) -> Count:
    """``rank`` live directions of ``form`` in every target, and what ``combine`` trains besides."""

    def count(model: nn.Module, targets: list[str]) -> int:
        with torch.device("meta"):
            adapted = inject(model, targets, form, rank, rank, combine=combine)
        layers = [layer for _, layer in adapted_layers(adapted)]
        directions = sum(form.count(layer.rank, layer.in_features, layer.out_features) for layer in layers)
        return directions + sum(p.numel() for layer in layers for p in layer.extra_parameters().values())

    return count


def lora(rank: int) -> Count:
    """``B A``."""
    return slotted(BA(), rank)


def bea(rank: int) -> Count:
    """``B diag(e) A``."""
    return slotted(BEA(), rank)


def dora(rank: int) -> Count:
    """``B A`` and a magnitude per output."""
    return slotted(BA(), rank, DoRA())


# --- Methods without slots: installed, and counted by what then requires gradients -------------------------


def installed(form: Whole, rank: int = 0) -> Count:
    """What ``form`` trains outside the head."""

    def count(model: nn.Module, targets: list[str]) -> int:
        model.requires_grad_(False)
        found = matching(model, targets, "targets")
        head = {id(p) for name, p in model.named_parameters() if name.startswith(HEADS)}
        model = form.install(model, found, rank, seed=0)
        return sum(p.numel() for p in model.parameters() if p.requires_grad and id(p) not in head)

    return count


def peft_method(name: str, task_type: str = "SEQ_CLS", **config: Any) -> Count:
    """The method of ``peft`` with this configuration class."""
    return installed(Peft(config={"_target_": f"peft.{name}", **config}, task_type=task_type))


def full(model: nn.Module, _: list[str]) -> int:
    """Every parameter, the head included."""
    return size(model)


# --- What the papers print ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Figure:
    """A printed figure, and how to count it.

    Attributes:
        where: paper and table.
        methods: the rows of the table with this figure, a comma between them.
        printed: number and unit: ``%`` of all parameters (base, head and what is added), ``M`` millions,
            ``Mi`` units of 2^20, which the papers also print as M.
        how: the count in words.
        only: last names of the targets taken, all if empty.
        head: whether the task's head counts as trained; packed: whether the targets count half (4 bits, two
            in a byte).
        why: why it cannot be met, if it cannot.
        task: another head than usual.
        title: the model's name, if not its own.
    """

    where: str
    model: str
    methods: str
    printed: str
    count: Count
    how: str
    only: tuple[str, ...] = ()
    head: bool = False
    packed: bool = False
    why: str = ""
    task: str | None = None
    title: str = ""

    @property
    def ours(self) -> tuple[str, int]:
        """The figure as the paper would have printed it, and the parameters it stands for."""
        trained, total = self._counted()
        number, unit = self.printed.split()
        value = {"%": 100 * trained / total, "M": trained / 10**6, "Mi": trained / 2**20}[unit]
        return f"{value:.{len(number.partition('.')[2])}f} {unit}", trained

    @property
    def met(self) -> bool:
        """Whether ours is the printed one."""
        return self.ours[0] == self.printed

    def _counted(self) -> tuple[int, int]:
        return _counted(self.model, self.task, self.count, self.only, self.head, self.packed)


@cache
def _counted(
    name: str, task: str | None, count: Count, only: tuple[str, ...], head: bool, packed: bool
) -> tuple[int, int]:
    """(trained, all) parameters."""
    model = build(name, task)
    trained = sum(p.numel() for p in head_parameters(model, settings(name)["trainable"])) if head else 0
    total = size(model)
    if packed:
        total -= sum(m.weight.numel() for m in matching(model, patterns(name), "targets").values()) // 2
    if count is full:
        return total, total
    added = count(model, patterns(name, only))
    return trained + added, total + added


LORA_R4, LORA_R8, LORA_R16 = lora(4), lora(8), lora(16)
BEA_R4, BEA_R6, BEA_R8 = bea(4), bea(6), bea(8)
DORA_R4, DORA_R8, DORA_R16 = dora(4), dora(8), dora(16)
RASA_R4, LORA_FA_R8 = installed(RaSA(shared_k=1), 4), slotted(BA(frozen=["A"]), 8)


def _glue() -> list[Figure]:
    """DeBERTa-v3-base: HeBiRA's Table 3 and PE-DyRA's Table 10."""
    row = partial(Figure, "HeBiRA, Table 3", "deberta_v3_base")
    cost = partial(Figure, "PE-DyRA, Table 10", "deberta_v3_base")
    randlora = peft_method("RandLoraConfig", r=34)
    mixed = "1,327,104 is 1.27 in 2^20; that over 185.7 in 10^6 gives 0.68"
    triangles = "0.71 without L and U, or if growth prefers the cheaper layers"
    return [
        row("Full FT", "100 %", full, "all"),
        row("LoRA, PiSSA, LoRA+, DyLoRA", "0.71 %", LORA_R8, "A, B; r 8"),
        row("RandLoRA", "0.71 %", randlora, "r 34, 23 bases"),
        row("IncreLoRA, HeBiRA", "0.71 %", BEA_R8, "A, B, e; r 8 on average"),
        row("AdaLoRA", "0.68 %", BEA_R8, "A, B, e; r 8 at the end", why=mixed),
        row("TriAdaptLoRA", "0.71 %", slotted(Tri(), 8), "A, B, L, U; r 8", why=triangles),
        cost("LoRA on SST-2, MRPC, RTE", "1.33 M", LORA_R8, "A, B; r 8"),
        cost("PE-DyRA on SST-2, MRPC, RTE", "1.33 M", BEA_R8, "A, B, e; r 8"),
        cost("AdaLoRA on SST-2, MRPC, RTE", "1.99 M", bea(12), "A, B, e; r 12 at the start"),
    ]


def _llama(where: str, own: str) -> list[Figure]:
    """Both LLaMA models of HeBiRA's Table 4 and PE-DyRA's Table 3, which agree."""
    printed = {
        "llama2_7b": ("0.15 %", "0.17 %", "0.28 %", "0.22 %"),
        "llama3_8b": ("0.13 %", "0.15 %", "0.23 %", "0.20 %"),
    }
    rows = []
    for model, (r4, magnitude, packed, r6) in printed.items():
        row = partial(Figure, where, model)
        rows += [
            row("LoRA", r4, LORA_R4, "A, B; r 4"),
            row("DoRA", magnitude, DORA_R4, "A, B, magnitude; r 4"),
            row(
                "QLoRA", packed, LORA_R4, "A, B; r 4; over a base whose 4-bit weights count half", packed=True
            ),
            row("RaSA", r4, RASA_R4, "r 4, of which 1 shared"),
            row("AdaLoRA", r6, BEA_R6, "A, B, e; r 6 at the start"),
            row(own, r4, BEA_R4, "A, B, e; r 4"),
        ]
    return rows


def _xsum() -> list[Figure]:
    """BART-large: PE-DyRA's Table 4, and HeBiRA's text on its Table 7."""
    row = partial(Figure, "PE-DyRA, Table 4", "bart_large")
    return [
        row("LoRA", "2.06 Mi", LORA_R4, "A, B; r 4"),
        row("AdaLoRA", "3.09 Mi", BEA_R6, "A, B, e; r 6 at the start"),
        row("PE-DyRA", "2.06 Mi", BEA_R4, "A, B, e; r 4"),
        Figure("HeBiRA, text on Table 7", "bart_large", "HeBiRA", "2.06 Mi", BEA_R4, "A, B, e; r 4"),
    ]


def _roberta() -> list[Figure]:
    """RoBERTa-base: La-LoRA's Table 5."""
    row = partial(Figure, "La-LoRA, Table 5", "roberta_base")
    four, every = installed(AdapterDrop(size=48, n=8)), installed(AdapterDrop(size=48, n=0))
    houlsby = installed(Houlsby(size=8, train_layer_norms=False))
    randlora = peft_method("RandLoraConfig", r=64)
    no_rank = "the paper gives no rank;"
    return [
        row("Full FT", "125 M", full, "all"),
        row("BitFit", "0.1 M", installed(BitFit()), "biases"),
        row("AdapterDrop", "0.3 M", four, "one of width 48 in the last 4 layers"),
        row("AdapterDrop", "0.9 M", every, "one of width 48 per layer"),
        row("Houlsby", "0.3 M", houlsby, "two of width 8 per layer"),
        row("Pfeiffer", "0.3 M", installed(Pfeiffer(size=16)), "one of width 16 per layer"),
        row("LoRA, DyLoRA, PiSSA", "0.3 M", LORA_R8, "A, B of q, v; r 8", QV),
        row("La-LoRA", "0.3 M", LORA_R8, "A, B of q, v; r at most 8", QV),
        row("AdaLoRA", "0.3 M", BEA_R8, "A, B, e of q, v; r 8 at the end", QV),
        row("DoRA", "0.3 M", DORA_R8, "A, B, magnitude of q, v; r 8", QV),
        row(
            "LoRA-FA",
            "1.8 M",
            LORA_FA_R8,
            "B of q, v; r 8",
            QV,
            why=f"{no_rank} 1.8 is, e.g., r 64 and the head",
        ),
        row("MiLoRA", "0.1 M", LORA_R8, "A, B of q, v; r 8", QV, why=f"{no_rank} 0.1 is r 2 to 4"),
        row("RandLoRA", "0.8 M", randlora, "r 64, 12 bases", why=f"{no_rank} 0.8 is r 55 to 63"),
    ]


def _lalora() -> list[Figure]:
    """DeBERTa-v3-base and ViT: La-LoRA's Tables 6 and 8."""
    row = partial(Figure, "La-LoRA, Table 6", "deberta_v3_base", task="QuestionAnswering")
    rows = [row("FT", "100 %", full, "all")]
    for printed, rank in (("0.08 %", 4), ("0.16 %", 8), ("0.32 %", 16)):
        rows.append(
            row("DyLoRA, LoRA, La-LoRA", printed, lora(rank), f"A, B of q, v; r (at most) {rank}", QV)
        )
    for model, printed in (("vit_base", "0.43 %"), ("vit_large", "0.29 %")):
        row = partial(Figure, "La-LoRA, Table 8", model)
        how = "A, B of q, v; r (at most) 8; CIFAR-100's head"
        rows += [row("FT", "100 %", full, "all"), row("LoRA, La-LoRA", printed, LORA_R8, how, QV, head=True)]
    return rows


def _commonsense() -> list[Figure]:
    """LLaMA-7B, which has the shapes of LLaMA-2-7B, and that: La-LoRA's Table 9."""
    first = partial(Figure, "La-LoRA, Table 9", "llama2_7b", title="LLaMA-7B")
    second = partial(Figure, "La-LoRA, Table 9", "llama2_7b")
    prefix = peft_method("PrefixTuningConfig", num_virtual_tokens=30)
    rows = [
        first("Prefix", "0.11 %", prefix, "30 tokens", why="0.1166: cut where others are rounded"),
        first("Series", "0.99 %", installed(Series(size=256)), "width 256 after down"),
        first("Parallel", "3.54 %", installed(Parallel(size=256)), "width 256 beside up and down"),
    ]
    five = "of q, k, v, up, down;"
    for row in (first, second):
        rows += [
            row("LoRA", "0.41 %", LORA_R16, f"A, B {five} r 16", FIVE),
            row("DoRA", "0.43 %", DORA_R16, f"A, B, magnitude {five} r 16", FIVE),
            row("La-LoRA", "0.41 %", LORA_R16, f"A, B {five} r at most 16", FIVE),
        ]
    return rows


@cache
def figures() -> list[Figure]:
    """Every figure in a column for parameters of the papers' tables, and one from a text."""
    hebira, pedyra = _llama("HeBiRA, Table 4", "HeBiRA"), _llama("PE-DyRA, Table 3", "PE-DyRA")
    return [*_glue(), *hebira, *pedyra, *_xsum(), *_roberta(), *_lalora(), *_commonsense()]


TITLES = {
    "deberta_v3_base": "DeBERTa-v3-base",
    "roberta_base": "RoBERTa-base",
    "bart_large": "BART-large",
    "llama2_7b": "LLaMA-2-7B",
    "llama3_8b": "LLaMA-3-8B",
    "vit_base": "ViT-B/16",
    "vit_large": "ViT-L/16",
}
HEADING = """# Trained parameters: the papers' figures and ours

Written by `python scripts/parameter_table.py > docs/parameters.md`; `tests/parity/test_parameter_counts.py`
keeps it true. The tables of TriAdaptLoRA's paper print no such figures.

- `%` is of all parameters: the base model, its head, and what the method adds.
- `M` is millions, `Mi` is 2^20; the papers print M for both.
- Heads (and DeBERTa's pooler) are trained in full and not counted, but for full fine-tuning and ViT.
- Where no layers are named, it is every linear layer that `conf/model` names.
- Methods that move ranks are counted with the ranks spread evenly. A direction of DeBERTa has 1,536 to 3,840
  parameters, so the count moves with the ranks.
- No paper gives the adapters' widths, RaSA's share, the number of prefix tokens or AdaLoRA's first rank: they
  are those of the methods' own scripts or papers; AdapterDrop's are chosen to fit. That heads count for ViT,
  that QLoRA's packed weights count half, and the ranks of La-LoRA's tables are read off the figures.
"""


def markdown() -> str:
    """The whole document."""
    rows = ["| paper | model | method | printed | ours | parameters | counted | met |", "|" + "---|" * 8]
    for figure in figures():
        ours, trained = figure.ours
        title = figure.title or TITLES[figure.model]
        met = f"no: {figure.why}" if figure.why else "yes"
        cells = [figure.where, title, figure.methods, figure.printed, ours, f"{trained:,}", figure.how, met]
        rows.append(f"| {' | '.join(cells)} |")
    return HEADING + "\n" + "\n".join(rows) + "\n"


if __name__ == "__main__":
    print(markdown(), end="")
