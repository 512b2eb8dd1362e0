"""Putting adapters into a model, and taking them out."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from torch import nn

from rankadapt.adapters.combine import Combine
from rankadapt.adapters.forms import Form
from rankadapt.adapters.initial import Init
from rankadapt.adapters.linear import AdaptedLinear, adapted_layers
from rankadapt.adapters.options import AdapterOptions
from rankadapt.boards import Storage
from rankadapt.errors import ModelError, Problem


def matching(model: nn.Module, patterns: Iterable[str], where: str) -> dict[str, nn.Module]:
    """The modules of ``model`` whose path fits a pattern (``*`` also crosses dots), in model order.

    Raises:
        ModelError: naming every pattern that fits nothing. ``where`` is the configuration key they are from.
    """
    patterns = list(patterns)
    modules = dict(model.named_modules())
    problems = [
        Problem(where, p, "matches no module of the model", _suggestion(p, modules))
        for p in patterns
        if not any(fnmatchcase(name, p) for name in modules)
    ]
    if problems or not patterns:
        raise ModelError(problems or Problem(where, patterns, "no pattern is given"))
    return {n: m for n, m in modules.items() if n and any(fnmatchcase(n, p) for p in patterns)}


def linear_targets(model: nn.Module, patterns: Iterable[str]) -> dict[str, nn.Linear]:
    """The linear layers of ``model`` whose path fits a pattern, in model order.

    Raises:
        ModelError: a pattern fits nothing, or something else than an ``nn.Linear``.
    """
    found = matching(model, patterns, "model.targets")
    if problems := [p for name, module in found.items() for p in _misfits(name, module, 0, 0)]:
        raise ModelError(problems)
    return {name: m for name, m in found.items() if isinstance(m, nn.Linear)}


def spread(total: int, modules: int) -> list[int]:
    """``total`` directions over ``modules`` as evenly as whole numbers allow; the first get what is left."""
    each, left = divmod(total, modules)
    return [each + (index < left) for index in range(modules)]


def inject(
    model: nn.Module,
    targets: Iterable[str],
    form: Form,
    rank: int | Sequence[int],
    slots: int,
    options: AdapterOptions | None = None,
    trainable: Iterable[str] = (),
    seed: int = 0,
    combine: Combine | None = None,
    storage: Storage = "fresh",
    init: Init | None = None,
) -> nn.Module:
    """Freeze ``model`` and replace every target by an :class:`AdaptedLinear`, in place.

    Args:
        model: any model of ``nn.Linear`` layers.
        targets: patterns of module paths, e.g. ``*.attention.self.query``.
        form: form of the update.
        rank: initial rank of every module, or one per module in model order.
        slots: R, room for directions in each module; cut to min(d_in, d_out) by the limits, not here.
        trainable: patterns of modules trained in full outside the budget (task head, fresh pooler).
        seed: of the initial values.
        combine: how the update meets the base weight; None to add it.
        storage: what becomes of dead slots (a policy's ``storage``).
        init: where the initial values come from; None for the form's own draws.

    Returns:
        The same model.

    Raises:
        ModelError: a pattern fits nothing, a target is no ``nn.Linear``, or a rank does not fit its module.
    """
    options = options or AdapterOptions()
    found = matching(model, targets, "targets")
    ranks = [rank] * len(found) if isinstance(rank, int) else list(rank)
    problems = [p for (n, m), r in zip(found.items(), ranks, strict=True) for p in _misfits(n, m, r, slots)]
    if problems:
        raise ModelError(problems)
    patterns = list(trainable)
    whole = list(matching(model, patterns, "trainable").values()) if patterns else []
    model.requires_grad_(False)
    for index, ((name, module), r) in enumerate(zip(found.items(), ranks, strict=True)):
        own = seed * 100_003 + index
        layer = AdaptedLinear(module, form, slots, r, options, own, combine, storage)  # type: ignore[arg-type]
        (init or Init())(layer)
        replace(model, name, layer)
    for module in whole:
        module.requires_grad_(True)
    return model


def merge_and_unload(model: nn.Module) -> nn.Module:
    """Merge every update into its base weight and put the plain layers back, in place."""
    for name, layer in list(adapted_layers(model)):
        replace(model, name, layer.merged())
    return model


def replace(model: nn.Module, path: str, new: nn.Module) -> None:
    """Put ``new`` in the place of the module at ``path``."""
    parent, _, child = path.rpartition(".")
    setattr(model.get_submodule(parent), child, new)


def _misfits(name: str, module: nn.Module, rank: int, slots: int) -> Iterable[Problem]:
    if type(module) is not nn.Linear:
        yield Problem(
            name, type(module).__name__, "only nn.Linear layers can be adapted", "narrow the pattern"
        )
    elif not 0 <= rank <= min(slots, module.in_features, module.out_features):
        shape = f"{module.out_features}x{module.in_features}"
        yield Problem(name, rank, f"the rank does not fit {slots} slots of a {shape} layer", "lower the rank")


def _suggestion(pattern: str, names: Iterable[str]) -> str:
    tail = pattern.rpartition("*")[2].lstrip(".")
    tails = {n.rpartition(".")[2] for n in names if n}
    near = difflib.get_close_matches(tail.rpartition(".")[2], tails, n=3)
    return f"did you mean one of: {', '.join(near)}?" if near else "print(model) shows the module paths"
