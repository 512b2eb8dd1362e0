"""The form ``peft`` is peft: the same losses as its own ``get_peft_model``, and what it refuses."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rankadapt.adapters.inject import matching
from rankadapt.adapters.whole import Peft
from rankadapt.errors import ModelError
from tests.tiny import BERT_TARGETS, batch, bert, deberta

peft = pytest.importorskip("peft")

STEPS = 8
TUNERS: dict[str, dict[str, Any]] = {
    "vera": {"_target_": "peft.VeraConfig", "r": 32, "d_initial": 0.1},
    "randlora": {"_target_": "peft.RandLoraConfig", "r": 6, "randlora_alpha": 12},
    "ia3": {"_target_": "peft.IA3Config"},
    "loha": {"_target_": "peft.LoHaConfig", "r": 4, "alpha": 4},
    "lora": {"_target_": "peft.LoraConfig", "r": 4, "lora_alpha": 12},
}
PROMPTS: dict[str, dict[str, Any]] = {
    "prefix": {"_target_": "peft.PrefixTuningConfig", "num_virtual_tokens": 3},
    "prompt": {"_target_": "peft.PromptTuningConfig", "num_virtual_tokens": 3},
    "p_tuning": {"_target_": "peft.PromptEncoderConfig", "num_virtual_tokens": 3},
}
ALL = TUNERS | PROMPTS


def linears(model: nn.Module) -> Any:
    return matching(model, BERT_TARGETS, "targets")


def ours(config: dict[str, Any], seed: int = 3) -> nn.Module:
    """What a run does: freeze, install, train the head."""
    model = bert()
    heads = list(matching(model, ["bert.pooler", "classifier"], "trainable").values())
    targets = linears(model)
    model = Peft(config=config).install(model.requires_grad_(False), targets, 4, seed)
    for head in heads:
        head.requires_grad_(True)
    return model


def theirs(name: str, seed: int = 3) -> nn.Module:
    """peft's own model, with a head of the same values trained beside."""
    options = {k: v for k, v in ALL[name].items() if k != "_target_"}
    kind, targets = getattr(peft, ALL[name]["_target_"].split(".")[1]), list(linears(bert()))
    if name in PROMPTS:
        options["task_type"] = "SEQ_CLS"
    else:
        options["target_modules"] = targets
    if name in ("vera", "randlora"):
        options["projection_prng_key"] = seed
    if name == "ia3":
        options["feedforward_modules"] = [t for t in targets if "attention" not in t and "output" in t]
    model, config = bert(), kind(**options)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = peft.get_peft_model(model, config)
    for key, parameter in model.named_parameters():
        if ("classifier" in key and "original" not in key) or "pooler" in key:
            parameter.requires_grad_(True)
    return model


def train(model: nn.Module) -> Tensor:
    """(STEPS,) the losses of AdamW steps."""
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], 1e-2)
    losses = []
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss = model(**batch(padded=True)).loss
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    return torch.stack(losses)


@pytest.mark.parametrize("name", ALL)
def test_the_same_losses_as_pefts_own_model(name: str) -> None:
    mine, own = ours(ALL[name]), theirs(name)

    def count(model: nn.Module) -> int:
        return sum(p.numel() for p in model.parameters() if p.requires_grad)

    assert count(mine) == count(own)
    for parameter in mine.parameters():
        assert parameter.dtype == torch.float32
    losses, expected = train(mine), train(own)
    assert losses[-1] < 0.9 * losses[0]
    torch.testing.assert_close(losses, expected, rtol=0, atol=1e-6)
    logits = [m(**batch(padded=True)).logits for m in (mine, own)]
    torch.testing.assert_close(logits[0], logits[1], rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ALL)
def test_the_head_is_not_copied(name: str) -> None:
    """A run trains what it names, and finds it where it was."""
    model = ours(ALL[name])
    heads = [n for n, _ in model.named_parameters() if "classifier" in n]
    assert len(heads) == 2
    assert not any("modules_to_save" in n or "original_module" in n for n, _ in model.named_parameters())
    loss = model(**batch()).loss
    loss.backward()
    got = {n for n, p in model.named_parameters() if p.grad is not None}
    assert got == {n for n, p in model.named_parameters() if p.requires_grad}


@pytest.mark.parametrize("name", TUNERS)
def test_what_peft_merges_is_merged(name: str) -> None:
    form = Peft(config=TUNERS[name])
    assert form.merges
    model = ours(TUNERS[name])
    train(model)
    expected = model(**batch()).logits
    merged = form.merge(model)
    assert merged.state_dict().keys() == bert().state_dict().keys()
    torch.testing.assert_close(merged(**batch()).logits, expected, rtol=1e-4, atol=1e-5)
    weights = {n for n, p in bert().state_dict().items() if not torch.equal(p, merged.state_dict()[n])}
    assert {n for n in weights if "encoder" in n} <= {
        f"{t}.{kind}" for t in linears(bert()) for kind in ("weight", "bias")
    }


@pytest.mark.parametrize("name", PROMPTS)
def test_virtual_tokens_do_not_merge(name: str) -> None:
    form = Peft(config=PROMPTS[name])
    assert not form.merges
    with pytest.raises(ModelError, match="virtual tokens"):
        form.merge(ours(PROMPTS[name]))


@pytest.mark.parametrize("name", ["vera", "loha", "prompt"])
def test_the_seed_is_the_only_source_of_the_initial_values(name: str) -> None:
    def values(seed: int, noise: int) -> list[Tensor]:
        torch.manual_seed(noise)
        model = ours(ALL[name], seed)
        return [p for _, p in [*model.named_parameters(), *model.named_buffers()]]

    one, two, other = values(5, 1), values(5, 2), values(6, 1)
    assert len(one) > 40
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_target_modules_may_be_given() -> None:
    model = ours({"_target_": "peft.LNTuningConfig", "target_modules": ["LayerNorm"]})
    own = [n for n, p in model.named_parameters() if p.requires_grad and "encoder" in n]
    assert own
    assert all("LayerNorm" in n for n in own)


@pytest.mark.parametrize(
    ("config", "path", "text"),
    [
        ({}, "_target_", "is missing"),
        ({"_target_": "peft.LohaConfig"}, "_target_", "did you mean peft.LoHaConfig"),
        ({"_target_": "torch.nn.Linear"}, "_target_", "no subclass of peft.PeftConfig"),
        ({"_target_": "peft.LoHaConfig", "rr": 4}, "rr", "did you mean form.config.r?"),
        ({"_target_": "peft.IA3Config", "alpha": 4}, "alpha", "is not a key of IA3Config"),
        ({"_target_": "peft.LoHaConfig", "modules_to_save": ["x"]}, "modules_to_save", "model.trainable"),
        ({"_target_": "peft.LoHaConfig", "task_type": "SEQ_CLS"}, "task_type", "form.task_type"),
        ({"_target_": "peft.LoHaConfig", "layers_to_transform": [1]}, "layers_to_transform", "model.targets"),
        ({"_target_": "peft.AdaLoraConfig", "total_step": 9}, "_target_", "method=adalora"),
        ({"_target_": "peft.AdamssConfig"}, "_target_", "update_and_allocate"),
    ],
)
def test_a_configuration_that_cannot_be_is_explained(config: dict[str, Any], path: str, text: str) -> None:
    form = Peft(config=config)
    (problem,) = form.problems("bert", [])
    assert problem.path == f"form.config.{path}"
    assert text in str(problem)
    assert not form.merges
    model = bert()
    with pytest.raises(ModelError):
        form.install(model, linears(model), 4, 0)
    assert model.state_dict().keys() == bert().state_dict().keys()


def test_values_that_peft_refuses_are_reported() -> None:
    model = bert()
    with pytest.raises(ModelError, match="peft"):
        Peft(config={"_target_": "peft.LoraConfig", "r": -1}).install(model, linears(model), 4, 0)
    with pytest.raises(ModelError, match="peft"):
        Peft(config={"_target_": "peft.LoraConfig", "target_modules": ["nothing"]}).install(
            model, linears(model), 4, 0
        )
    assert "knows no such task" in str(Peft(config=TUNERS["loha"], task_type="X").problems("bert", [])[0])


@pytest.mark.parametrize(
    ("name", "architecture", "task", "refused"),
    [
        ("prefix", "deberta-v2", "SEQ_CLS", True),
        ("prompt", "deberta-v2", "SEQ_CLS", False),
        ("prefix", "bart", "SEQ_CLS", True),
        ("prefix", "bart", "SEQ_2_SEQ_LM", False),
        ("prompt", "llama", "SEQ_CLS", True),
        ("prompt", "llama", "CAUSAL_LM", False),
        ("prefix", "llama", "SEQ_CLS", False),
        ("loha", "deberta-v2", "SEQ_CLS", False),
    ],
)
def test_what_an_architecture_lacks(name: str, architecture: str, task: str, refused: bool) -> None:
    assert bool(Peft(config=ALL[name], task_type=task).problems(architecture, [])) == refused


def test_prefixes_are_refused_on_deberta_and_with_gradient_checkpointing() -> None:
    model = deberta()
    targets: Any = matching(model, ["*.query_proj"], "targets")
    with pytest.raises(ModelError, match="past key values"):
        Peft(config=PROMPTS["prefix"]).install(model, targets, 4, 0)
    prefixed: Any = ours(PROMPTS["prefix"])
    with pytest.raises(ModelError, match="gradient_checkpointing"):
        prefixed.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    early: Any = bert()
    early.gradient_checkpointing_enable()
    with pytest.raises(ModelError, match="gradient checkpointing"):
        Peft(config=PROMPTS["prefix"]).install(early, linears(early), 4, 0)
