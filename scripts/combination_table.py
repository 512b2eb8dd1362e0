"""What works with what: the text of docs/combinations.md.

    python scripts/combination_table.py > docs/combinations.md

Asked of the rules in ``rankadapt.training.combinations``: a cell says yes unless they refuse it. One
configuration is composed and its sections are exchanged for every value of every group, because composing
each cell would take minutes; tests/contract/test_combinations.py composes a sample of the cells.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, cast

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from rankadapt.adapters import Form, Quantization
from rankadapt.errors import ConfigError, Problem
from rankadapt.runs.compose import composed
from rankadapt.training.combinations import contradictions
from rankadapt.training.config import ModelConfig, RunConfig
from rankadapt.training.validation import parse

CONF = Path(__file__).resolve().parents[1] / "conf"
BASE = ["method=lora", "task=demo/entailment", "scorer=random", "adapter.scaling=initial"]
"""What every cell is asked in, its own choices apart: nothing here excludes anything."""
COMPANY = {"form": {"bea_ahead": {"policy": "incremental"}}}
"""What a value cannot do without, whatever it is combined with."""
ARCHITECTURES = {
    "BERT": "minilm",
    "RoBERTa": "roberta_base",
    "DeBERTa": "deberta_v3_base",
    "BART": "bart_large",
    "LLaMA": "llama2_7b",
    "ViT": "vit_base",
}
"""Column -> a model of that architecture in conf/model."""
SETTINGS: dict[str, Callable[[RunConfig], RunConfig]] = {
    "budget.unit=parameters": lambda c: replace(c, budget=replace(c.budget, unit="parameters")),
    "adapter.scaling=current": lambda c: replace(c, adapter=replace(c.adapter, scaling="current")),
    "compile=true": lambda c: replace(c, compile=True),
}
"""Settings that some policies refuse."""
FP16 = "trainer.precision=16-mixed"

Ask = Callable[[str, str], list[Problem]]


def values(group: str) -> list[str]:
    """The values of a configuration group; what stands for its absence is left out."""
    return sorted(p.stem for p in (CONF / group).glob("*.yaml") if (group, p.stem) != ("scorer", "none"))


@cache
def base() -> tuple[DictConfig, RunConfig]:
    """The one configuration, as it is composed and as it is parsed."""
    cfg = composed(CONF, BASE)
    return cfg, parse(cfg)


@cache
def plain(group: str, value: str) -> dict[str, Any]:
    """``conf/<group>/<value>.yaml``, defaults filled in and references resolved. Not to be changed."""
    cfg = base()[0].copy()
    OmegaConf.set_struct(cfg, False)
    cfg[group] = composed(CONF, name=f"{group}/{value}")[group]
    return cast(dict[str, Any], OmegaConf.to_container(cfg, resolve=True))[group]


@cache
def section(group: str, value: str) -> Any:
    """``conf/<group>/<value>.yaml`` as the object that it configures."""
    found = plain(group, value)
    if group in ("quantization", "model"):
        return {"quantization": Quantization, "model": ModelConfig}[group](**found)
    return instantiate(found, _recursive_=False, _convert_="all") if found["_target_"] else None


def chosen(**choices: str) -> RunConfig:
    """The one configuration with other values of some groups."""
    company = {
        group: value
        for choice in choices.items()
        for group, value in COMPANY.get(choice[0], {}).get(choice[1], {}).items()
    }
    return replace(base()[1], **{g: section(g, v) for g, v in (company | choices).items()})


def refusals(config: RunConfig) -> list[Problem]:
    """Why ``config`` is refused; what is not installed here is no reason."""
    return [p for p in contradictions(config) if p.path != "quantization.kind"]


def of_groups(first: str, second: str) -> Ask:
    """The cell of a table of two groups."""
    return lambda row, column: refusals(chosen(**{first: row, second: column}))


def slotted_forms() -> list[str]:
    """The forms whose ranks can move."""
    return [name for name in values("form") if isinstance(section("form", name), Form)]


def table(corner: str, rows: Iterable[str], columns: Sequence[str], ask: Ask) -> str:
    """Markdown: yes, or the number of the reason below the table."""
    reasons: dict[str, int] = {}
    lines = [f"| {corner} | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    for row in rows:
        cells = [_cell(ask(row, column), reasons) for column in columns]
        lines.append(f"| {row} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", *(f"{number}. {reason}" for reason, number in reasons.items())]).strip()


def _cell(problems: Sequence[Problem], reasons: dict[str, int]) -> str:
    numbers = [reasons.setdefault(_reason(p), len(reasons) + 1) for p in problems]
    return f"no {', '.join(map(str, numbers))}" if numbers else "yes"


def _reason(problem: Problem) -> str:
    remedy = f" ({problem.remedy})" if problem.remedy else ""
    return f"`{problem.path}`: {problem.reason}{remedy}"


def forms_and_the_rest() -> str:
    """The six pairs of form, combine, init and quantization, and whether that is all there is to it."""
    groups = ("form", "combine", "init", "quantization")
    choices: Mapping[str, list[str]] = {g: slotted_forms() if g == "form" else values(g) for g in groups}
    tables = [
        table(f"{a} \\ {b}", choices[a], choices[b], of_groups(a, b))
        for a, b in itertools.combinations(groups, 2)
    ]
    together, refused = list(itertools.product(*choices.values())), 0
    for combination in together:
        picked = dict(zip(groups, combination, strict=True))
        apart = any(of_groups(a, b)(picked[a], picked[b]) for a, b in itertools.combinations(groups, 2))
        assert bool(refusals(chosen(**picked))) == apart, picked
        refused += apart
    closing = (
        f"All {len(together)} combinations of the four were asked as well: {len(together) - refused} work,\n"
        f"and the {refused} that are refused each contain a pair that is."
    )
    return "\n\n".join([*tables, closing])


def policy_cell(policy: str, column: str) -> list[Problem]:
    """Of a policy and a form, or any form without slots."""
    if column != "without slots":
        return _of_policy(policy, replace(chosen(form=column), policy=section("policy", policy)))
    answers = []
    for name in sorted(set(values("form")) - set(slotted_forms())):
        kind = type(section("form", name)).__name__
        problems = refusals(chosen(form=name, policy=policy))
        answers.append([replace(p, reason=p.reason.replace(f"{kind} has", "it has")) for p in problems])
    assert all(answer == answers[0] for answer in answers), policy
    return answers[0]


def policy_setting_cell(policy: str, column: str) -> list[Problem]:
    """Of a policy and ``group=value`` or one of :data:`SETTINGS`; of a form with a core."""
    config = chosen(form="bea", policy=policy)
    if column in SETTINGS:
        return _of_policy(policy, SETTINGS[column](config))
    group, _, value = column.partition("=")
    return _of_policy(policy, replace(config, **{group: section(group, value)}))


def _of_policy(policy: str, config: RunConfig) -> list[Problem]:
    """The reasons without the policy's name, so that one is the same for all policies."""
    kind = type(section("policy", policy)).__name__
    return [replace(p, reason=p.reason.replace(kind, "this policy")) for p in refusals(config)]


def scorer_form_cell(scorer: str, form: str) -> list[Problem]:
    """Of a scorer and a form, with a policy that moves ranks."""
    policy = COMPANY["form"].get(form, {}).get("policy", "bidirectional")
    return refusals(chosen(scorer=scorer, form=form, policy=policy))


def scorer_policy_cell(scorer: str, policy: str) -> list[Problem]:
    """Of a scorer and a policy, or ``combine=value``, or fp16; of a form with a core."""
    if policy == FP16:
        config = chosen(form="bea", scorer=scorer, policy="bidirectional")
        return refusals(replace(config, trainer=replace(config.trainer, precision="16-mixed")))
    if policy.startswith("combine="):
        combine = policy.removeprefix("combine=")
        return refusals(chosen(form="bea", scorer=scorer, policy="bidirectional", combine=combine))
    return refusals(chosen(form="bea", scorer=scorer, policy=policy))


@cache
def method(name: str) -> RunConfig | ConfigError:
    """What ``method=name`` composes, on the model of the base."""
    try:
        return parse(composed(CONF, [f"method={name}", *BASE[1:2]]))
    except ConfigError as error:
        return error


def method_cell(name: str, architecture: str) -> list[Problem]:
    """Of a method and a model."""
    config = method(name)
    assert isinstance(config, RunConfig), config
    return refusals(replace(config, model=section("model", ARCHITECTURES[architecture])))


def moving() -> list[str]:
    """The policies that move ranks, so that a scorer is asked."""
    return [name for name in values("policy") if section("policy", name).moves_ranks]


HEADING = """# What works with what

Written by `python scripts/combination_table.py > docs/combinations.md`; `tests/contract/test_combinations.py`
keeps it true: it composes refused cells and sees them refused, and trains twelve steps in a sample of the
others. The rules are in `src/rankadapt/training/combinations.py`, one sentence each; what they refuse is
refused when the configuration is composed, with the reason given here and what to do about it.

"Yes" means that it runs and keeps the laws of [design.md](design.md), not that a paper has tried it. Every
pair is asked with the other choices of plain LoRA (`form=ba`, ranks that never move), unless its table says
otherwise; `bea_ahead`, which only exists for policies that grow, with `policy=incremental`.
"""


def document() -> str:
    """The whole of docs/combinations.md."""
    init_columns = [f"init={v}" for v in values("init") if v != "default"]
    combine_columns = [f"combine={v}" for v in values("combine") if v != "add"]
    settings = [
        *init_columns,
        *combine_columns,
        "quantization=nf4",
        "penalty=orthogonal",
        "sparsity=rows",
        *SETTINGS,
    ]
    parts = [
        HEADING.strip(),
        "## Forms, combine, init, quantization",
        "Forms on slots; those without slots take none of the three but their defaults.",
        forms_and_the_rest(),
        "## Policies and forms",
        "The scorer is `random`, which asks nothing of a form.",
        table("policy", values("policy"), [*slotted_forms(), "without slots"], policy_cell),
        "## Policies and other settings",
        "Of `form=bea`, with `adapter.scaling=initial` where the column does not say otherwise.",
        table("policy", values("policy"), settings, policy_setting_cell),
        "## Scorers and forms",
        "The policy is `bidirectional` (of `bea_ahead`, `incremental`). A scorer is not asked, and not\n"
        "refused, where ranks do not move.",
        table("scorer", values("scorer"), slotted_forms(), scorer_form_cell),
        "## Scorers and policies",
        "Of `form=bea`; `combine` and precision with `policy=bidirectional`. A scorer that rates whole\n"
        "modules (`core_norm_change`, `dense_sensitivity`, `truncated_norm`, `fisher`) gives every\n"
        "direction of a module the same score: policies that grow or share out want just that, those that\n"
        "prune go by age.",
        table("scorer", values("scorer"), [*moving(), *combine_columns, FP16], scorer_policy_cell),
        "## Methods and architectures",
        "Asked of the models " + ", ".join(f"`{m}`" for m in ARCHITECTURES.values()) + ".",
        table("method", values("method"), list(ARCHITECTURES), method_cell),
    ]
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    print(document(), end="")
