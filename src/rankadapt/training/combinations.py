"""What no single section of a configuration can know: which choices exclude each other, and why.

Each rule is a function from a configuration to problems. The table of what works with what in the
documentation is made by asking them.
"""

from __future__ import annotations

from collections.abc import Iterator

from rankadapt.adapters import Add, Form, Init, Whole
from rankadapt.adapters.whole.peft import PREFIX_AND_CHECKPOINTS, Peft
from rankadapt.errors import Problem
from rankadapt.training.config import RunConfig


def contradictions(config: RunConfig) -> list[Problem]:
    """Everything that excludes something else in ``config``."""
    problems = _sums(config)
    for rule in (_task, _whole, _form, _combine, _init, _policy, _scorer, _quantization):
        problems += rule(config)
    return problems


def _name(choice: object) -> str:
    return type(choice).__name__


def _task(config: RunConfig) -> Iterator[Problem]:
    if config.model.architecture is not None:
        yield from config.task.problems(config.model.architecture, config.model.attention)
    if config.task.packs and config.form.adds_tokens:
        reason = "with virtual tokens before a row, transformers no longer tells its examples apart"
        yield Problem("task.packing", True, reason, "task.packing=false")


def _whole(config: RunConfig) -> Iterator[Problem]:
    """An adaptation without slots takes no part in any axis of slots."""
    form = config.form
    if not isinstance(form, Whole):
        return
    why = f"{_name(form)} has no slots"
    if config.policy.moves_ranks or config.policy.uses_windows:
        yield Problem("policy", _name(config.policy), f"{why}: there is no rank to move", "policy=static")
    if not isinstance(config.combine, Add):
        yield Problem("combine", _name(config.combine), f"{why} to combine in another way", "combine=add")
    if type(config.init) is not Init:
        yield Problem("init", _name(config.init), f"{why} to start from singular vectors", "init=default")
    if config.penalty is not None:
        yield Problem("penalty", _name(config.penalty), f"{why} to penalise", "penalty=none")
    if config.sparsity is not None:
        yield Problem("sparsity", _name(config.sparsity), f"{why}, so no A", "sparsity=none")
    if config.optimizer.b_lr_ratio != 1:
        yield Problem("optimizer.b_lr_ratio", config.optimizer.b_lr_ratio, f"{why}, so no B", "leave it at 1")
    if config.quantization.kind != "none":
        yield Problem(
            "quantization", config.quantization.kind, f"{why}: only slotted forms train on a 4-bit base"
        )
    if config.trainer.gradient_checkpointing and isinstance(form, Peft) and form.works_by_prefix:
        yield PREFIX_AND_CHECKPOINTS
    if config.model.architecture is not None:
        yield from form.problems(config.model.architecture, config.model.targets)


def _form(config: RunConfig) -> Iterator[Problem]:
    form, policy = config.form, config.policy
    if not isinstance(form, Form):
        return
    if unknown := sorted(set(form.frozen) - set(form.initial)):
        yield Problem("form.frozen", unknown, f"{_name(form)} has {', '.join(form.initial)}")
    if config.sparsity is not None and "A" in form.frozen:
        yield Problem(
            "sparsity", _name(config.sparsity), "prunes A, which form.frozen keeps", "sparsity=none"
        )
    if not set(form.initial) - set(form.frozen):
        yield Problem("form.frozen", form.frozen, "leaves nothing to train")
    if form.reserve and "e" not in form.initial:
        yield Problem("form.reserve", form.reserve, f"{_name(form)} has no core to hold back", "form=bea")
    if form.reserve and form.new_direction == "preserving":
        reason = "directions that train ahead already have a share in the output when they are added"
        yield Problem("form.new_direction", form.new_direction, reason, "small, or form.reserve=0")
    if form.new_direction == "preserving" and policy.moves_ranks and policy.storage != "fresh":
        reason = f"{_name(policy)} brings directions back with their weights: there is no new one to draw"
        yield Problem("form.new_direction", form.new_direction, reason, "small")
    if form.reserve and (not policy.moves_ranks or policy.prunes or policy.storage != "fresh"):
        reason = f"directions that train ahead need a policy that only grows, not {_name(policy)}"
        yield Problem("form.reserve", form.reserve, reason, "policy=incremental, or form.reserve=0")
    if policy.storage == "in_place" and policy.moves_ranks and form.square:
        reason = f"masks single directions where they stand; {_name(form)} ties them together by its core"
        yield Problem("policy", _name(policy), reason, "form=bea")
    if policy.rotates and (not form.holds_triplets or form.frozen):
        reason = f"cuts by SVD, which {_name(form)} cannot hold" + (
            " with a frozen factor" * bool(form.frozen)
        )
        yield Problem("policy", _name(policy), reason, "form=ba")


def _combine(config: RunConfig) -> Iterator[Problem]:
    if isinstance(config.combine, Add) or not isinstance(config.form, Form):
        return
    if config.combine.multiplies and config.init.changes_base:
        reason = f"{_name(config.combine)} multiplies the weight that {_name(config.init)} takes away from it"
        yield Problem("init", _name(config.init), reason, "init=default, or combine=add")
    if config.scorer is not None and config.policy.moves_ranks and config.scorer.reads_dense:
        reason = f"the gradient of the update is not that of the weight under {_name(config.combine)}"
        yield Problem("scorer", _name(config.scorer), reason, "combine=add")


def _init(config: RunConfig) -> Iterator[Problem]:
    form, init = config.form, config.init
    if not isinstance(form, Form) or type(init) is Init:
        return
    if init.changes_base and not form.holds_triplets:
        yield Problem(
            "init", _name(init), f"singular triplets have no place in {_name(form)}", "form=ba or bea"
        )
    if form.reserve:
        yield Problem("init", _name(init), "directions that train ahead start at random", "form.reserve=0")
    if init.changes_base and config.policy.storage == "aside" and config.policy.moves_ranks:
        reason = f"{_name(config.policy)} sets directions aside that {_name(init)} has taken from the weight"
        yield Problem("init", _name(init), reason, "init=default")
    if config.policy.uses_windows and init.changes_base:
        reason = f"{_name(config.policy)} leaves directions out that {_name(init)} has taken from the weight"
        yield Problem("init", _name(init), reason, "init=default")
    if init.surveys and config.policy.moves_ranks:
        reason = f"{_name(init)} allocates ranks before training; {_name(config.policy)} does while training"
        yield Problem("init", _name(init), reason, "policy=static, or init.redistribute=false")


def _policy(config: RunConfig) -> Iterator[Problem]:
    policy = config.policy
    if policy.moves_ranks:
        for name in ("scorer", "schedule"):
            if getattr(config, name) is None:
                reason = f"policy {_name(policy)} moves ranks and needs one"
                yield Problem(name, None, reason, f"choose one: {name}=<name>, or policy=static")
        if config.budget.unit == "parameters" and not policy.counts_parameters:
            yield Problem("budget.unit", "parameters", f"{_name(policy)} counts directions", "directions")
    if policy.rotates and config.adapter.scaling == "current" and config.adapter.scale_by != "one":
        reason = f"the scale would move when {_name(policy)} cuts, and with it all that is kept"
        yield Problem("adapter.scaling", "current", reason, "adapter.scaling=initial")
    if policy.uses_windows and config.compile:
        reason = f"{_name(policy)} takes another number of directions at every step: each would compile anew"
        yield Problem("compile", True, reason, "compile=false")


def _scorer(config: RunConfig) -> Iterator[Problem]:
    scorer, form = config.scorer, config.form
    if scorer is None or not config.policy.moves_ranks or not isinstance(form, Form):
        return
    if scorer.reads_core and not (form.square or "e" in form.initial):
        yield Problem(
            "scorer", _name(scorer), f"reads a core, which {_name(form)} has not", "form=bea or tri"
        )
    if scorer.reads_dense and config.trainer.precision == "16-mixed":
        reason = f"{_name(scorer)} reads gradients that the loss scaler has scaled"
        yield Problem("trainer.precision", "16-mixed", reason, "bf16-mixed or 32-true")


def _quantization(config: RunConfig) -> list[Problem]:
    return config.quantization.problems()


def _sums(config: RunConfig) -> list[Problem]:
    problems = []
    if config.trainer.max_steps is None and config.trainer.max_epochs is None:
        problems.append(Problem("trainer.max_steps", None, "neither max_steps nor max_epochs is given"))
    low, rank, high = config.budget.min_rank, config.budget.rank, config.budget.max_rank
    if not low <= rank <= (high or rank):
        reason = f"must lie between budget.min_rank = {low} and budget.max_rank = {high}"
        problems.append(Problem("budget.rank", rank, reason))
    parts = config.trainer.devices * config.trainer.accumulate_grad_batches
    if config.task.batch_size < parts:
        reason = f"cannot be cut into {parts} micro-batches (devices x accumulate_grad_batches)"
        problems.append(Problem("task.batch_size", config.task.batch_size, reason))
    return problems
