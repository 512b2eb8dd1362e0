"""What is done for all modules at once, against the same done module by module."""

from __future__ import annotations

import pytest
import torch

from rankadapt.adapters import BA, BEA, Adapters, Form, slots
from rankadapt.adapters.options import AdapterOptions
from tests import tiny

RANKS = [3, 1, 4]


def adapters(form: Form, seed: int = 0) -> Adapters:
    return Adapters(tiny.mlp(depth=3, slots=4, rank=RANKS, form=form, seed=seed))


@pytest.mark.parametrize("form", [BA(), BEA()], ids=["ba", "bea"])
def test_holding_is_setting_the_cores_of_dead_slots_to_zero(form: Form) -> None:
    model = adapters(form)
    torch.manual_seed(1)
    cores = [layer.slot_parameters()[form.outgoing] for layer in model.layers]
    expected = []
    for layer, core in zip(model.layers, cores, strict=True):
        core.data = torch.randn(core.shape)
        expected.append(core.detach().clone())
        for slot in range(layer.rank, 4):
            expected[-1][slot] = 0
    slots.hold(model)
    assert all(torch.equal(core, e) for core, e in zip(cores, expected, strict=True))


@pytest.mark.parametrize("window", [1, 3])
def test_a_window_has_the_scale_of_its_rank_in_every_module(window: int) -> None:
    options = AdapterOptions(lora_alpha=7.0, eps=1e-5)
    model = Adapters(tiny.mlp(depth=3, slots=4, rank=4, options=options))
    model.set_window(window, 1)
    for layer in model.layers:
        expected = torch.zeros(()).fill_(options.scale(window, window, 4))
        assert torch.equal(layer.window_scale, expected)
        assert (layer.window, layer.learn_from) == (window, 1)


def test_dense_sensitivity_module_by_module() -> None:
    model = adapters(BEA())
    model.watch(activations=False, update=True)
    torch.manual_seed(2)
    gradients = [torch.randn(layer.out_features, layer.in_features) for layer in model.layers]
    expected = []
    for layer, gradient in zip(model.layers, gradients, strict=True):
        assert layer.update_probe is not None
        layer.update_probe.grad = gradient.clone()
        terms = (layer.delta().detach() * gradient).abs()
        expected.append(float(terms.sum()) / terms.numel() ** 0.5)
    torch.testing.assert_close(model.take_dense_sensitivity(), torch.tensor(expected))
    assert model.take_dense_sensitivity().tolist() == [0, 0, 0]  # it is taken once
