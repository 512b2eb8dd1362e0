"""Adaptations without slots: where they sit, what they train, what they compute, what they refuse."""

from __future__ import annotations

import copy
import importlib
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from pydantic import TypeAdapter, ValidationError
from torch import Tensor, nn

from rankadapt.adapters.adaptation import Whole
from rankadapt.adapters.inject import matching
from rankadapt.adapters.whole import (
    AdapterDrop,
    BitFit,
    Full,
    Houlsby,
    Parallel,
    Peft,
    Pfeiffer,
    RaSA,
    Series,
)
from rankadapt.adapters.whole.adapterdrop import Gate
from rankadapt.adapters.whole.bottleneck import Attached, Bottleneck
from rankadapt.adapters.whole.rasa import SharedLinear
from rankadapt.errors import ModelError
from tests.composed import composed
from tests.tiny import DEBERTA_TARGETS, MLP, VOCABULARY, batch, bert, deberta_config

RANK = 4
BERT_ALL = [t.replace("_proj", "") for t in DEBERTA_TARGETS]
METHODS = ["adapterdrop", "bitfit", "full", "houlsby", "parallel", "peft", "pfeiffer", "prefix", "randlora"]
METHODS += ["rasa", "series", "vera"]


def deberta(seed: int = 0) -> nn.Module:
    """A two-layer DeBERTa-v3 classifier whose weights are not too small to matter."""
    from transformers import DebertaV2ForSequenceClassification

    torch.manual_seed(seed)
    return DebertaV2ForSequenceClassification(deberta_config(initializer_range=0.2)).eval()


def bart(seed: int = 0) -> nn.Module:
    """A BART classifier of two encoder and two decoder layers in eval mode."""
    from transformers import BartConfig, BartForSequenceClassification

    torch.manual_seed(seed)
    config = BartConfig(
        vocab_size=VOCABULARY, d_model=16, encoder_layers=2, decoder_layers=2, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=24, decoder_ffn_dim=24, max_position_embeddings=32,
        dropout=0.0, init_std=0.2, num_labels=3,
    )  # fmt: skip
    return BartForSequenceClassification(config).eval()


def llama(seed: int = 0) -> nn.Module:
    """A two-layer LLaMA classifier in eval mode."""
    from transformers import LlamaConfig, LlamaForSequenceClassification

    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, intermediate_size=24, max_position_embeddings=32, initializer_range=0.2,
        num_labels=3, pad_token_id=0,
    )  # fmt: skip
    return LlamaForSequenceClassification(config).eval()


MODELS: dict[str, tuple[Callable[..., nn.Module], list[str], list[str]]] = {
    "bert": (bert, BERT_ALL, ["bert.pooler", "classifier"]),
    "deberta": (deberta, DEBERTA_TARGETS, ["pooler", "classifier"]),
    "bart": (bart, ["*.layers.*_proj", "*.fc1", "*.fc2"], ["classification_head"]),
    "llama": (llama, ["*_proj"], ["score"]),
}


def data(architecture: str, seed: int = 0) -> dict[str, Tensor]:
    """A batch; BART wants one end token in every row."""
    tensors = batch(seed=seed)
    if architecture == "bart":
        ids = tensors["input_ids"]
        ids[ids == 2] = 3
        ids[:, -1] = 2
    return tensors


def adapt(form: Whole, architecture: str, seed: int = 0) -> nn.Module:
    """A tiny model with ``form``, and its head trained: what a run does."""
    make, targets, head = MODELS[architecture]
    model = make()
    linears: Any = matching(model, targets, "targets")
    heads = list(matching(model, head, "trainable").values())
    model.requires_grad_(False)
    model = form.install(model, linears, RANK, seed)
    for module in heads:
        module.requires_grad_(True)
    return model


def shake(model: nn.Module, std: float = 0.1) -> nn.Module:
    """Move everything that is trained, as if it had been."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for p in model.parameters():
            if p.requires_grad:
                p += torch.randn(p.shape, generator=generator) * std
    return model


def trained(model: nn.Module) -> dict[str, nn.Parameter]:
    return {n: p for n, p in model.named_parameters() if p.requires_grad}


def own_count(model: nn.Module, architecture: str) -> int:
    """Trained parameters outside the head."""
    head = tuple(f"{h}." for h in MODELS[architecture][2])
    return sum(p.numel() for n, p in trained(model).items() if not n.startswith(head))


SMALL: dict[str, Whole] = {
    "full": Full(),
    "bitfit": BitFit(),
    "houlsby": Houlsby(size=5),
    "pfeiffer": Pfeiffer(size=5),
    "drop": AdapterDrop(size=5, n=1),
    "drop_houlsby": AdapterDrop(adapter="houlsby", size=5, n=1),
    "robust": AdapterDrop(size=5, n=1, robust=True),
    "series": Series(size=5),
    "parallel": Parallel(size=5),
    "rasa": RaSA(),
}
NEVER = {
    ("bitfit", "llama"), ("pfeiffer", "llama"), ("drop", "llama"), ("robust", "llama"),
}  # fmt: skip
PAIRS = [(form, a) for form in SMALL for a in MODELS if (form, a) not in NEVER]
CLOSE = {"houlsby": 1e-4, "drop_houlsby": 1e-4, "pfeiffer": 0.05, "drop": 0.05, "robust": 0.05}


@pytest.mark.parametrize(("form", "architecture"), PAIRS)
def test_the_output_is_the_base_models_at_first(form: str, architecture: str) -> None:
    """Exactly, or as nearly as the paper's initial values have it."""
    make = MODELS[architecture][0]
    expected = make()(**data(architecture)).logits
    logits = adapt(SMALL[form], architecture)(**data(architecture)).logits
    torch.testing.assert_close(logits, expected, rtol=0, atol=CLOSE.get(form, 1e-6))


@pytest.mark.parametrize(("form", "architecture"), PAIRS)
def test_what_is_trained_gets_gradients_and_learns(form: str, architecture: str) -> None:
    torch.manual_seed(0)
    model = adapt(SMALL[form], architecture).train()
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    optimizer = torch.optim.AdamW(trained(model).values(), 1e-2, weight_decay=0.0)
    losses = []
    for step in range(13):
        loss = model(**data(architecture)).loss
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        assert {n for n, p in model.named_parameters() if p.grad is not None} == set(trained(model)), step
        optimizer.step()
    assert losses[-1] < 0.9 * losses[0]
    moved = {n for n, p in model.named_parameters() if not torch.equal(p, before[n])}
    assert moved <= set(trained(model))
    # A key's bias cancels in the softmax, and one class of words may be absent: all the rest has moved.
    still = set(trained(model)) - moved
    assert all("key" in n or "k_proj" in n or "embed" in n for n in still), still


@pytest.mark.parametrize("architecture", MODELS)
def test_the_same_seed_gives_the_same_values(architecture: str) -> None:
    for form in (Houlsby(size=5), Series(size=5), RaSA()):
        torch.manual_seed(1)
        one = trained(adapt(form, architecture, seed=7))
        torch.manual_seed(2)
        two, other = trained(adapt(form, architecture, seed=7)), trained(adapt(form, architecture, seed=8))
        assert all(torch.equal(one[n], two[n]) for n in one)
        name = next(n for n in one if n.endswith(("down", ".A")))
        assert not torch.equal(one[name], other[name])
        draws = [v for n, v in one.items() if n.endswith("down")]
        assert not any(torch.equal(draws[0], d) for d in draws[1:])


def test_full_trains_everything_and_bitfit_the_biases() -> None:
    model = adapt(Full(), "bert")
    assert all(p.requires_grad for p in model.parameters())
    assert SMALL["full"].merge(model) is model
    model = adapt(BitFit(), "deberta")
    assert {n for n in trained(model) if not n.startswith(("pooler", "classifier"))} == {
        n for n, _ in model.named_parameters() if n.endswith("bias") and n.startswith("deberta")
    }
    assert any("LayerNorm.bias" in n for n in trained(model))
    assert BitFit().merge(model) is model


def test_bitfit_refuses_a_model_without_biases() -> None:
    with pytest.raises(ModelError, match="has no biases"):
        adapt(BitFit(), "llama")
    assert "llama has no biases" in str(BitFit().problems("llama", [])[0])
    assert BitFit().problems("bert", []) == []


H, INNER, LAYERS = 16, {"bert": 32, "deberta": 24, "bart": 24, "llama": 24}, {"bart": 4}


@pytest.mark.parametrize("architecture", MODELS)
def test_parameters_by_arithmetic(architecture: str) -> None:
    layers, inner, m = LAYERS.get(architecture, 2), INNER[architecture], 5
    one = 2 * H * m + H + m
    assert own_count(adapt(Houlsby(size=m, train_layer_norms=False), architecture), architecture) == (
        2 * layers * one
    )
    if architecture != "llama":
        assert own_count(adapt(Pfeiffer(size=m), architecture), architecture) == layers * one
        assert own_count(adapt(AdapterDrop(size=m, n=1), architecture), architecture) == (layers - 1) * one
    assert own_count(adapt(Series(size=m), architecture), architecture) == layers * 2 * H * m
    assert own_count(adapt(Parallel(size=m), architecture), architecture) == layers * 2 * m * (H + inner)


def test_the_published_sizes_of_series_and_parallel() -> None:
    """0.99 % and 3.54 % of LLaMA-7B; nothing is allocated."""
    from transformers import LlamaConfig, LlamaForCausalLM

    shares = []
    for form in (Series(), Parallel()):
        with torch.device("meta"):
            model = LlamaForCausalLM(LlamaConfig())
        model.requires_grad_(False)
        linears: Any = matching(model, ["*.mlp.*_proj"], "targets")
        form.install(model, linears, 8, 0)
        assert all(p.is_meta for p in model.parameters())
        total = sum(p.numel() for p in model.parameters())  # bottlenecks included
        shares.append(100 * sum(p.numel() for p in trained(model).values()) / total)
    assert shares == pytest.approx([0.99, 3.54], abs=0.01)


def test_only_blocks_with_a_target_are_adapted() -> None:
    model = bert()
    linears: Any = matching(model, ["*.layer.1.attention.self.query"], "targets")
    Houlsby().install(model.requires_grad_(False), linears, RANK, 0)
    places = [n for n, m in model.named_modules() if isinstance(m, Attached)]
    assert places == [f"bert.encoder.layer.1.{p}.dropout" for p in ("attention.output", "output")]


def test_the_places_of_a_vision_transformer() -> None:
    from transformers import ViTConfig, ViTForImageClassification

    torch.manual_seed(0)
    size = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
    config = ViTConfig(**size, image_size=8, patch_size=4)
    images, places = torch.randn(2, 3, 8, 8), {}
    for form in (Houlsby(size=5), Series(size=5), Parallel(size=5)):
        model: Any = ViTForImageClassification(config).eval().requires_grad_(False)
        expected = model(images).logits
        linears: Any = matching(model, ["*.attention.q_proj"], "t")
        form.install(model, linears, RANK, 0)
        torch.testing.assert_close(model(images).logits, expected, rtol=0, atol=1e-4)
        names = [n for n, m in model.named_modules() if isinstance(m, Attached)]
        places[type(form).__name__] = [n.split(".", 3)[3] for n in names if ".0." in n]
    assert places["Houlsby"] == ["attention.o_proj", "mlp.fc2"]
    assert places["Series"] == ["mlp.fc2"]
    assert places["Parallel"] == ["mlp.fc1", "mlp.fc2"]
    assert Pfeiffer().problems("vit", [])


def test_layer_norms_are_trained_if_so_said() -> None:
    norms = {n for n in dict(bert().named_parameters()) if "LayerNorm" in n}
    for form in (Houlsby(size=5), Pfeiffer(size=5, train_layer_norms=True)):
        names = {n.replace(".base", "") for n in trained(adapt(form, "bert"))}
        assert {n for n in names if "LayerNorm" in n and "bottleneck" not in n} == norms
    assert not any("Norm" in n for n in trained(adapt(Houlsby(train_layer_norms=False), "bert")))
    assert any("layernorm" in n for n in trained(adapt(Houlsby(size=5), "llama")))


# --- literal references -----------------------------------------------------------------------------------


def literal(f: Bottleneck, x: Tensor, act: Callable[[Tensor], Tensor]) -> Tensor:
    y = act(torch.einsum("mi,...i->...m", f.down, x) + (0 if f.down_bias is None else f.down_bias))
    return torch.einsum("om,...m->...o", f.up, y) + (0 if f.up_bias is None else f.up_bias)


def dropping(make: Callable[..., nn.Module]) -> nn.Module:
    """The same model in training mode with a dropout of 0.3 in its blocks."""
    model = make().train()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.3
    return model


@pytest.mark.parametrize("make", [bert, deberta])
@pytest.mark.parametrize("act", ["gelu", "swish"])
def test_houlsby_against_the_written_out_block(make: Any, act: Any) -> None:
    """After the dropout, before residual and layer norm."""
    model, reference = dropping(make), dropping(make)
    targets: Any = matching(model, MODELS[make.__name__][1], "targets")
    Houlsby(size=5, activation=act, std=0.3).install(model.requires_grad_(False), targets, RANK, 0)
    shake(model)
    theirs = dict(reference.named_modules())
    for name, module in model.named_modules():
        if name.endswith(".LayerNorm"):
            theirs[name].load_state_dict(module.state_dict())
        if isinstance(module, Attached):
            out: Any = theirs[name.rpartition(".")[0]]
            out.forward = written_houlsby(out, module.bottleneck, F.silu if act == "swish" else F.gelu)
    torch.manual_seed(5)
    expected = reference(**data("bert")).logits
    torch.manual_seed(5)
    torch.testing.assert_close(model(**data("bert")).logits, expected, rtol=0, atol=1e-5)


def written_houlsby(out: Any, f: Any, act: Any) -> Any:
    def forward(hidden: Tensor, residual: Tensor) -> Tensor:
        h = out.dropout(F.linear(hidden, out.dense.weight, out.dense.bias))
        return out.LayerNorm(h + literal(f, h, act) + residual)

    return forward


@pytest.mark.parametrize("make", [bert, deberta])
def test_pfeiffer_against_the_written_out_block(make: Any) -> None:
    model, reference = dropping(make), dropping(make)
    targets: Any = matching(model, MODELS[make.__name__][1], "targets")
    shake(Pfeiffer(size=5, std=0.3).install(model.requires_grad_(False), targets, RANK, 0))
    theirs: Any = dict(reference.named_modules())
    found = [(n, m) for n, m in model.named_modules() if type(m).__name__ == "TwiceNormed"]
    assert len(found) == 2
    for name, module in found:
        out = theirs[name.rpartition(".")[0]]
        out.forward = written_pfeiffer(out, module.bottleneck)
    torch.manual_seed(5)
    expected = reference(**data("bert")).logits
    torch.manual_seed(5)
    torch.testing.assert_close(model(**data("bert")).logits, expected, rtol=0, atol=1e-5)


def written_pfeiffer(out: Any, f: Any) -> Any:
    def forward(hidden: Tensor, x: Tensor) -> Tensor:
        h = out.dropout(out.dense(hidden))
        return out.LayerNorm(literal(f, out.LayerNorm(h + x), F.relu) + h + x)

    return forward


SIDES = {
    "input": lambda W, f, x: W(x + literal(f, x, torch.tanh)),
    "output": lambda W, f, x: W(x) + literal(f, W(x), torch.tanh),
    "parallel": lambda W, f, x: W(x) + literal(f, x, torch.tanh),
}


@pytest.mark.parametrize("architecture", MODELS)
@pytest.mark.parametrize("form", ["series", "series_in", "parallel", "parallel_all"])
def test_series_and_parallel_against_the_written_out_layers(form: str, architecture: str) -> None:
    make, targets, _ = MODELS[architecture]
    last = {"llama": "down_proj", "bart": "fc2"}.get(architecture, ".output.dense")
    first = {"llama": ("gate_proj", "up_proj"), "bart": ("fc1",)}.get(architecture, ("intermediate.dense",))
    options: dict[str, Any] = {"size": 5, "init": "gaussian", "std": 0.3}
    adaptation: Whole
    if form.startswith("series"):
        inner = [f"*{n}" for n in first] if form == "series_in" else None
        adaptation, side = Series(**options, layers=inner), "input" if inner else "output"
        expected_places = first if inner else (last,)
    else:
        everything = targets if form == "parallel_all" else None
        adaptation, side = Parallel(**options, layers=everything), "parallel"
        expected_places = (first[-1], last)
    model, reference = adapt(adaptation, architecture), make()
    attached = {n: m for n, m in model.named_modules() if isinstance(m, Attached)}
    if form == "parallel_all":
        assert list(attached) == list(matching(make(), targets, "t"))
    else:
        assert attached
        assert all(n.endswith(expected_places) and "attention.output" not in n for n in attached)
    for name, module in attached.items():
        linear: Any = reference.get_submodule(name)
        plain = copy.deepcopy(linear)
        linear.forward = lambda x, W=plain, f=module.bottleneck: SIDES[side](W, f, x)
    plain_logits = make()(**data(architecture)).logits
    expected = reference(**data(architecture)).logits
    assert not torch.allclose(expected, plain_logits, atol=1e-3)
    torch.testing.assert_close(model(**data(architecture)).logits, expected, rtol=0, atol=1e-5)


def test_gaussian_starts_where_the_authors_do() -> None:
    model = adapt(Parallel(init="gaussian"), "bert")
    values = torch.cat([p.flatten() for n, p in trained(model).items() if n.endswith((".up", ".down"))])
    assert float(values.std()) == pytest.approx(0.02, rel=0.05)
    houlsby = adapt(Houlsby(), "bert")
    values = torch.cat([p.flatten() for n, p in trained(houlsby).items() if n.endswith((".up", ".down"))])
    assert float(values.abs().max()) <= 2e-3
    assert 0.8e-3 < float(values.std()) < 1e-3


# --- AdapterDrop ------------------------------------------------------------------------------------------


def test_specialised_adapterdrop_leaves_the_first_blocks_alone() -> None:
    model = adapt(AdapterDrop(n=1, adapter="houlsby", size=5), "bert")
    blocks = {n.split(".")[3] for n, m in model.named_modules() if isinstance(m, Attached)}
    assert blocks == {"1"}


@pytest.mark.parametrize(("layers", "left"), [(2, 1), (6, 4), (12, 7)])
def test_adapterdrop_leaves_five_blocks_in_twelve_alone_unless_told(layers: int, left: int) -> None:
    model = bert(layers=layers).requires_grad_(False)
    linears: Any = matching(model, BERT_ALL, "t")
    AdapterDrop(size=5).install(model, linears, RANK, 0)
    assert sum(isinstance(m, Bottleneck) for m in model.modules()) == left


def test_robust_adapterdrop_draws_a_number_for_every_forward_pass() -> None:
    form = AdapterDrop(n=2, robust=True, size=5, adapter="houlsby", train_layer_norms=False)
    model = shake(adapt(form, "bert")).train()
    (gate,) = {m for m in model.modules() if isinstance(m, Gate)}
    torch.manual_seed(0)
    seen = set()
    for _ in range(20):
        model.zero_grad()
        model(**data("bert")).loss.backward()
        n = int(gate.dropped)
        seen.add(n)
        for layer in range(2):
            pieces = [p for k, p in trained(model).items() if f"layer.{layer}." in k]
            assert all(p.grad is not None for p in pieces)
            assert any(p.grad.any() for p in pieces) == (layer >= n)
    assert seen == {0, 1, 2}
    twice = copy.deepcopy(model)  # its gate is its own, and its hook draws for it
    twice(**data("bert"))
    assert next(m for m in twice.modules() if isinstance(m, Gate)) is not gate
    model.eval()(**data("bert"))
    assert int(gate.dropped) == 0


def test_robust_adapterdrop_can_be_evaluated_without_the_first() -> None:
    """As if they had never been there."""
    model = shake(adapt(AdapterDrop(n=1, robust=True, evaluate_without=1, size=5), "bert"))
    less = shake(adapt(AdapterDrop(n=1, size=5), "bert"))
    state = {n.replace(".base.", "."): p for n, p in model.state_dict().items()}
    less.load_state_dict({n: state[n.replace(".base.", ".")] for n in less.state_dict()})
    torch.testing.assert_close(model(**data("bert")).logits, less(**data("bert")).logits)


@pytest.mark.parametrize("form", [AdapterDrop(n=2), AdapterDrop(n=3, robust=True)])
def test_adapterdrop_refuses_to_drop_everything(form: AdapterDrop) -> None:
    with pytest.raises(ModelError, match="a model of 2 blocks"):
        adapt(form, "bert")


# --- RaSA -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("architecture", MODELS)
@pytest.mark.parametrize("k", [None, 3, RANK])
def test_rasa_folds_and_merges_into_its_own_outputs(architecture: str, k: int | None) -> None:
    form = RaSA(shared_k=k, lora_alpha=8)
    model = shake(adapt(form, architecture), 0.3)
    expected = model(**data(architecture)).logits
    plain = {n: m.weight.detach().clone() for n, m in model.named_modules() if isinstance(m, SharedLinear)}
    folded = form.folded(model)
    layers = 2
    assert {A.shape[0] for A, _ in folded.values()} == {RANK - (k or 1) + (k or 1) * layers}
    rebuilt = MODELS[architecture][0]()
    rebuilt.load_state_dict(
        {n: p for n, p in model.state_dict().items() if n in rebuilt.state_dict()}, strict=False
    )
    with torch.no_grad():
        for name, (A, B) in folded.items():
            rebuilt.get_submodule(name).weight.copy_(plain[name] + B @ A)
            rebuilt.get_submodule(name).bias = model.get_submodule(name).bias
    torch.testing.assert_close(rebuilt(**data(architecture)).logits, expected, rtol=1e-4, atol=1e-5)
    merged = form.merge(model)
    assert not hasattr(merged, "rasa_pool")
    assert merged.state_dict().keys() == MODELS[architecture][0]().state_dict().keys()
    torch.testing.assert_close(merged(**data(architecture)).logits, expected, rtol=1e-4, atol=1e-5)


def test_rasa_counts_and_shares() -> None:
    """Six kinds of two layers each; what is shared is registered once and gets gradients of both."""
    model = adapt(RaSA(shared_k=1, lora_alpha=8), "bert")
    shapes = [(16, 16)] * 4 + [(32, 16), (16, 32)]
    own = sum(2 * (RANK - 1) * (o + i) for o, i in shapes)
    shared = sum(2 * 1 * (o + i) for o, i in shapes)
    assert own_count(model, "bert") == own + shared + 12 * (RANK - 1 + 2)
    pools = [n for n in trained(model) if n.startswith("rasa_pool.")]
    assert len(pools) == 12
    assert not any("_pool" in n for n in trained(model) if not n.startswith("rasa_pool."))
    layer = next(m for m in model.modules() if isinstance(m, SharedLinear))
    assert layer.d.tolist() == pytest.approx([4 / 3] * 3 + [2.0] * 2)
    alike = copy.deepcopy(shake(model))
    torch.testing.assert_close(alike(**data("bert")).logits, model(**data("bert")).logits)
    (pool,) = next(m for m in alike.modules() if isinstance(m, SharedLinear))._pool
    assert pool is alike.rasa_pool[0]


def test_rasa_against_the_formula() -> None:
    model = shake(adapt(RaSA(), "bert"), 0.3)
    reference = bert()
    for name, m in model.named_modules():
        if isinstance(m, SharedLinear):
            (pool,) = m._pool
            B = torch.cat([m.B.t(), pool.B.t()], 1)
            delta = B @ torch.diag(m.d) @ torch.cat([m.A, pool.A])
            reference.get_submodule(name).weight.data += delta
    for head in ("bert.pooler", "classifier"):
        reference.get_submodule(head).load_state_dict(model.get_submodule(head).state_dict())
    expected = reference(**data("bert")).logits
    torch.testing.assert_close(model(**data("bert")).logits, expected, rtol=1e-4, atol=1e-5)


def test_rasa_keeps_encoder_and_decoder_apart_and_refuses_too_much() -> None:
    model: Any = adapt(RaSA(), "bart")
    assert len(model.rasa_pool) == 6 + 10
    with pytest.raises(ModelError, match="more than the rank of 4"):
        adapt(RaSA(shared_k=5), "bert")


# --- what is refused --------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["houlsby", "pfeiffer", "drop", "robust", "series", "parallel"])
def test_what_is_not_linear_does_not_merge(form: str) -> None:
    assert not SMALL[form].merges
    with pytest.raises(ModelError, match="activation inside"):
        SMALL[form].merge(adapt(SMALL[form], "bert"))


def test_pfeiffer_refuses_models_without_a_norm_there() -> None:
    for form in (Pfeiffer(), AdapterDrop(n=1)):
        with pytest.raises(ModelError, match="has none there"):
            adapt(form, "llama")
        assert form.problems("llama", [])
        assert form.problems("mbart", [])
        assert not form.problems("bert", []) + form.problems("bart", [])
    assert not AdapterDrop(adapter="houlsby").problems("llama", [])
    model: Any = bart()
    model.config.model_type = "mbart"  # the same names, the norm elsewhere
    linears: Any = matching(model, ["*.fc2"], "t")
    with pytest.raises(ModelError, match="has none there"):
        Pfeiffer().install(model, linears, RANK, 0)


def test_series_refuses_layers_that_have_no_side() -> None:
    with pytest.raises(ModelError, match="feed-forward layers only") as caught:
        adapt(Series(layers=["*.query", "*.intermediate.dense"]), "bert")
    refused = [f"bert.encoder.layer.{i}.attention.self.query" for i in (0, 1)]
    assert [p.value for p in caught.value.problems] == refused
    with pytest.raises(ModelError, match=r"fits none of model\.targets"):
        adapt(Parallel(layers=["*.quer"]), "bert")
    with pytest.raises(ModelError, match="no pattern"):
        adapt(Parallel(layers=[]), "bert")


@pytest.mark.parametrize("form", ["houlsby", "pfeiffer", "robust", "series", "parallel"])
def test_a_model_without_known_blocks_is_refused(form: str) -> None:
    model = MLP()
    linears: Any = matching(model, ["layers.*"], "t")
    with pytest.raises(ModelError, match="no target is in a transformer block"):
        SMALL[form].install(model, linears, RANK, 0)


# --- precision, configuration -----------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["houlsby", "pfeiffer", "robust", "series", "parallel", "rasa"])
def test_half_precision_and_autocast(form: str) -> None:
    """A bfloat16 base keeps float32 adapters; autocast computes in bfloat16."""
    model = bert().to(torch.bfloat16)
    linears: Any = matching(model, BERT_ALL, "t")
    SMALL[form].install(model.requires_grad_(False), linears, RANK, 0)
    new = [p for n, p in trained(model).items() if "Norm" not in n or "bottleneck" in n]
    assert {p.dtype for p in new} == {torch.float32}
    model(**data("bert")).loss.backward()
    assert all(p.grad is not None for p in new)
    cast = adapt(SMALL[form], "bert")
    expected = cast(**data("bert")).logits
    with torch.autocast("cpu", torch.bfloat16):
        logits = cast(**data("bert")).logits
    torch.testing.assert_close(logits.float(), expected, rtol=0.1, atol=0.1)


@pytest.mark.parametrize("form", ["robust", "rasa", "parallel"])
def test_gradient_checkpointing_changes_nothing(form: str) -> None:
    gradients = []
    for on in (False, True):
        model: Any = shake(adapt(SMALL[form], "bert")).train()
        if on:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        torch.manual_seed(4)
        model(**data("bert")).loss.backward()
        gradients.append({n: p.grad for n, p in trained(model).items()})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_composes_to_a_valid_adaptation(method: str) -> None:
    config = composed(f"method={method}", "task=demo/entailment")
    assert config["method"] == method
    options = dict(config["form"])
    module, _, name = options.pop("_target_").rpartition(".")
    kind = getattr(importlib.import_module(module), name)
    form = TypeAdapter(kind).validate_python(options)
    assert isinstance(form, Whole)
    assert not form.slotted
    assert form.merges == (method in ("full", "bitfit", "rasa", "vera", "randlora", "peft"))
    assert form.problems("deberta-v2" if method != "prefix" else "bert", []) == []


@pytest.mark.parametrize(
    ("kind", "options"),
    [(Houlsby, {"size": 0}), (Series, {"init": "zero"}), (AdapterDrop, {"n": -1}), (RaSA, {"shared_k": 0}),
     (Pfeiffer, {"activation": "sigmoid"}), (Peft, {})],
)  # fmt: skip
def test_options_are_checked(kind: Any, options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(kind).validate_python(options)
