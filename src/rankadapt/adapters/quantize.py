"""The base axis: frozen weights in 4-bit NF4 through bitsandbytes (Dettmers et al. 2023, QLoRA,
arXiv 2305.14314), on the CPU as on a GPU.

bitsandbytes is optional and imported where it is used. Dequantised weights live for one product at a time:
its own autograd node dequantises again in the backward pass.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Literal

from torch import Tensor, nn

from rankadapt.errors import ModelError, Problem


@dataclass(kw_only=True)
class Quantization:
    """How the frozen linear layers are stored.

    Attributes:
        kind: ``nf4`` or ``none``.
        double: quantise the quantisation constants as well.
    """

    kind: Literal["none", "nf4"] = "none"
    double: bool = True

    def problems(self) -> list[Problem]:
        """What is missing for it."""
        if self.kind == "none" or find_spec("bitsandbytes") is not None:
            return []
        remedy = "pip install 'rankadapt[qlora]', or quantization=none"
        return [Problem("quantization.kind", self.kind, "the package bitsandbytes is not installed", remedy)]


def block_of(width: int) -> int | None:
    """How many weights of a row share one constant: 64, as in QLoRA, where it divides the ``width`` d_in of
    the layer, else 32; None where neither does. bitsandbytes 0.50.2 misreads a block that goes over two rows
    on CPUs with AVX-512."""
    return next((size for size in (64, 32) if width % size == 0), None)


def is_quantized(layer: nn.Module) -> bool:
    """Whether ``layer`` is a 4-bit layer."""
    return hasattr(getattr(layer, "weight", None), "quant_state")


def quantized(layer: nn.Linear, options: Quantization) -> nn.Module:
    """``layer`` with its weight (d_out, d_in) in 4 bits, on the same device; the bias stays as it is.

    Raises:
        ModelError: bitsandbytes is not installed.
    """
    if problems := options.problems():
        raise ModelError(problems)
    import bitsandbytes as bnb

    new = bnb.nn.Linear4bit(
        layer.in_features,
        layer.out_features,
        bias=layer.bias is not None,
        compute_dtype=layer.weight.dtype,
        compress_statistics=options.double,
        quant_type=options.kind,
        device="meta",
    )
    packed = bnb.nn.Params4bit(
        layer.weight.data.contiguous(),
        requires_grad=False,
        quant_type=options.kind,
        compress_statistics=options.double,
        blocksize=block_of(layer.in_features),
    )
    # Else some CPUs repack weights at the first evaluation: other numbers, and an error on narrow layers.
    new.support_avx512bf16_for_cpu = False
    new.weight = packed._quantize(layer.weight.device)
    new.bias = layer.bias
    return new.requires_grad_(False)


def dense_weight(layer: Any) -> Tensor:
    """(d_out, d_in): the weight of a plain layer, or the dequantised weight of a 4-bit one."""
    if not is_quantized(layer):
        return layer.weight
    import bitsandbytes.functional as functional

    return functional.dequantize_4bit(layer.weight.data, layer.weight.quant_state)


def quantized_linear(layer: Any, x: Tensor, bias: Tensor | None) -> Tensor:
    """``x W^T + bias`` on a 4-bit layer, (..., d_in) -> (..., d_out)."""
    import bitsandbytes as bnb

    return bnb.matmul_4bit(x, layer.weight.t(), quant_state=layer.weight.quant_state, bias=bias)


def plain(layer: Any, weight: Tensor) -> nn.Linear:
    """An ``nn.Linear`` with ``weight`` and the bias of ``layer``, frozen."""
    new = nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta")
    new.weight = nn.Parameter(weight, requires_grad=False)
    new.bias = layer.bias
    return new


def quantize_frozen(model: nn.Module, options: Quantization) -> None:
    """Put every frozen linear layer of ``model`` in 4 bits, in place, but the one that gives the logits of
    tokens (as QLoRA does), which may be tied to the embedding, and those that have no :func:`block_of`."""
    if options.kind == "none":
        return
    find: Any = getattr(model, "get_output_embeddings", None)
    outputs = find() if find is not None else None
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is not nn.Linear or child is outputs or child.weight.requires_grad:
                continue
            if block_of(child.in_features):
                setattr(parent, name, quantized(child, options))
