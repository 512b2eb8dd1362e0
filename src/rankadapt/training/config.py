"""The whole configuration as typed objects, checked at once.

Hydra composes, this module judges: every section is a dataclass (a plug-in is validated against the
dataclass that its ``_target_`` names), and every problem of every section is reported together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Lt
from pydantic import StringConstraints

from rankadapt.adapters import Adaptation, AdapterOptions, Combine, Init, Quantization
from rankadapt.adapters.penalty import Penalty
from rankadapt.adapters.slots import OptimizerReset
from rankadapt.adapters.sparsity import Sparsity
from rankadapt.control import Schedule
from rankadapt.policies import Policy
from rankadapt.scorers import Scorer
from rankadapt.tasks.base import Task

Positive = Annotated[int, Gt(0)]
Share = Annotated[float, Ge(0), Lt(1)]


@dataclass(kw_only=True)
class ModelConfig:
    """The base model.

    Attributes:
        name: how results are filed.
        source: hub repository, or ``package:<package>/<folder>`` for weights inside an installed package.
        sha256: file -> checksum, verified before the weights are read.
        tokenizer: its source, if it is another.
        config: draw a random model of this transformers configuration instead of reading weights.
        architecture: the transformers model type (``bert``), by which what it lacks is known at once.
        targets: patterns of the linear layers to adapt.
        trainable: patterns of the modules trained in full, outside the rank budget; None for the task's head,
            which is all that the architecture has outside its encoder but an output embedding.
        classifier_dropout: before the classifier; None for the model's own.
        dtype: of the frozen weights.
        attention: its implementation; None for transformers' choice, which is SDPA where a model has it.
    """

    name: str
    source: str
    targets: list[str]
    trainable: list[str] | None = None
    sha256: dict[str, str] | None = None
    tokenizer: str | None = None
    config: dict[str, Any] | None = None
    classifier_dropout: Share | None = None
    architecture: str | None = None
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    attention: Literal["sdpa", "eager", "flash_attention_2"] | None = None


@dataclass(kw_only=True)
class BudgetConfig:
    """How many directions there are.

    Attributes:
        rank: the reference rank: the budget is ``rank`` times the number of modules.
        match: a policy that only prunes or only expands ``initial``-ly has the budget (HeBiRA Table 8), or
            has it when it is ``final`` (Table 14). No difference to policies that conserve it.
        min_rank, max_rank: bounds per module; ``max_rank: null`` reserves as many slots as the schedule can
            ever need.
        unit: what the budget counts; ``parameters`` makes a direction of a large module dearer.
    """

    rank: Positive
    match: Literal["initial", "final"] = "initial"
    min_rank: Annotated[int, Ge(0)] = 1
    max_rank: Positive | None = None
    unit: Literal["directions", "parameters"] = "directions"


@dataclass(kw_only=True)
class ControlConfig:
    """How rank changes are carried out; see :class:`rankadapt.control.ControlOptions`, which has the bounds
    of ``budget`` and the run's seed besides. ``restart_warmup``: a new direction goes through the learning
    rate's course from its own beginning, warm-up included."""

    optimizer_reset: OptimizerReset = "changed"
    count_padding: bool = True
    restart_warmup: bool = False


@dataclass(kw_only=True)
class OptimizerConfig:
    """AdamW with a warm-up. ``warmup_steps`` wins over ``warmup_ratio`` (of all steps). Biases and layer
    norms are not decayed. ``gradient_clip`` is a norm; None for none. ``fused`` as in torch.
    ``b_lr_ratio`` times the learning rate is that of every ``B`` (LoRA+, Hayou et al. 2024). ``head_lr`` is
    that of what is trained outside the adapters; None for ``lr``."""

    lr: Annotated[float, Gt(0)]
    weight_decay: Annotated[float, Ge(0)] = 0.0
    betas: tuple[Share, Share] = (0.9, 0.999)
    eps: Annotated[float, Gt(0)] = 1e-8
    warmup_steps: Annotated[int, Ge(0)] | None = None
    warmup_ratio: Share = 0.0
    decay: Literal["linear", "cosine", "constant"] = "linear"
    gradient_clip: Annotated[float, Gt(0)] | None = 1.0
    b_lr_ratio: Annotated[float, Gt(0)] = 1.0
    head_lr: Annotated[float, Gt(0)] | None = None
    fused: bool | None = None


@dataclass(kw_only=True)
class TrainerConfig:
    """How long, and on what.

    Attributes:
        max_steps: optimizer steps; wins over ``max_epochs``.
        max_time: stop with a checkpoint after this long, as seconds or ``HH:MM:SS``.
        accumulate_grad_batches: micro-batches that ``task.batch_size`` is cut into.
        devices: processes, each with one device.
        threads: CPU threads per process; None for torch's own choice.
    """

    max_steps: Positive | None = None
    max_epochs: Annotated[float, Gt(0)] | None = None
    max_time: (
        Annotated[str, StringConstraints(pattern=r"^\d+:\d\d:\d\d$")] | Annotated[float, Gt(0)] | None
    ) = None
    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    devices: Positive = 1
    strategy: Literal["auto", "ddp"] = "auto"
    precision: Literal["32-true", "bf16-mixed", "16-mixed", "bf16-true"] = "32-true"
    accumulate_grad_batches: Positive = 1
    gradient_checkpointing: bool = False
    log_every_n_steps: Positive = 10
    progress_bar: bool = True
    threads: Positive | None = None


@dataclass(kw_only=True)
class EvaluationConfig:
    """``every_n_steps``: None evaluates only at the end. ``at_start``: also before the first step.
    ``spectrum_every_n_steps``: log effective rank and utilisation this often; None for never.
    ``run_generated_code``: run the programs that a model wrote, in the sandbox; without one they are not run
    at all."""

    every_n_steps: Positive | None = None
    at_start: bool = True
    spectrum_every_n_steps: Positive | None = None
    run_generated_code: bool = False


@dataclass(kw_only=True)
class CheckpointConfig:
    """``every_n_steps``: write ``checkpoints/last.ckpt`` this often (and when stopped, and at the end); None
    for only then. ``best``: keep ``checkpoints/best.ckpt``, the step with the best primary metric."""

    every_n_steps: Positive | None = None
    best: bool = True


@dataclass(kw_only=True)
class LoggerConfig:
    """Where metrics go. ``mode``, ``project``, ``entity``, ``group`` are for W&B."""

    name: Literal["csv", "tensorboard", "wandb", "none"] = "csv"
    project: str = "rankadapt"
    entity: str | None = None
    group: str | None = None
    mode: Literal["offline", "online"] = "offline"


@dataclass(kw_only=True)
class PathsConfig:
    """``output``: root of all runs. ``mirror``: a folder laid out like the hub; None for
    ``$RANKADAPT_MIRROR``, or else no mirror. ``cache``: where tokenised data is kept; None for
    ``$RANKADAPT_CACHE``, or else ``~/.cache/rankadapt``."""

    output: str
    mirror: str | None = None
    cache: str | None = None


@dataclass(kw_only=True)
class RunConfig:
    """One run. ``method`` and ``recipe`` only name what was chosen; no code looks at them."""

    method: str
    model: ModelConfig
    task: Task
    adapter: AdapterOptions
    form: Adaptation
    init: Init
    combine: Combine
    quantization: Quantization
    penalty: Penalty | None
    sparsity: Sparsity | None
    policy: Policy
    scorer: Scorer | None
    schedule: Schedule | None
    budget: BudgetConfig
    control: ControlConfig
    optimizer: OptimizerConfig
    trainer: TrainerConfig
    evaluation: EvaluationConfig
    checkpoint: CheckpointConfig
    logger: LoggerConfig
    paths: PathsConfig
    seed: int
    resume: bool = False
    dry_run: bool = False
    compile: bool = False
