"""How answers are generated: the settings, and one call that gives the same at every batch size."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import torch
from annotated_types import Ge, Gt
from pydantic import ConfigDict
from torch import Tensor, nn

STRICT = ConfigDict(extra="forbid")


@dataclass(kw_only=True)
class Decoding:
    """Settings of ``generate``. Without sampling, the result is a function of the prompt alone.

    Attributes:
        max_new_tokens, min_new_tokens: tokens of the answer, its end included.
        num_beams: 1 is greedy. length_penalty, early_stopping: of beam search, as in transformers.
        no_repeat_ngram_size: no n-gram twice; 0 for any.
        samples: answers per prompt, drawn at ``temperature`` and ``top_p`` from a seed of the prompt's own;
            None for one answer without sampling.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    max_new_tokens: Annotated[int, Gt(0)]
    min_new_tokens: Annotated[int, Ge(0)] = 0
    num_beams: Annotated[int, Gt(0)] = 1
    length_penalty: float = 1.0
    early_stopping: bool = False
    no_repeat_ngram_size: Annotated[int, Ge(0)] = 0
    samples: Annotated[int, Gt(0)] | None = None
    temperature: Annotated[float, Gt(0)] = 1.0
    top_p: Annotated[float, Gt(0)] = 1.0


def generate(
    model: nn.Module,
    inputs: dict[str, Tensor],
    decoding: Decoding,
    tokenizer: Any,
    end: int | None,
    seeds: Sequence[int],
) -> list[list[str]]:
    """The answers to each of n prompts: one, or ``decoding.samples``.

    Args:
        inputs: ``input_ids`` and ``attention_mask`` (n, T), padded in front where the model is a decoder.
        end: the token that ends an answer.
        seeds: one number per prompt: what is sampled for it depends on no other prompt.
    """
    if decoding.samples is None:
        texts = _texts(model, inputs, _settings(model, decoding, tokenizer, end), tokenizer)
        return [[text] for text in texts]
    settings = _settings(model, decoding, tokenizer, end)
    answers = []
    for i, seed in enumerate(seeds):
        keep = inputs["attention_mask"][i].bool()
        one = {name: values[i : i + 1, keep] for name, values in inputs.items()}
        with torch.random.fork_rng(_devices(inputs)):
            torch.manual_seed(seed)
            answers.append(_texts(model, one, settings, tokenizer))
    return answers


def _devices(inputs: dict[str, Tensor]) -> list[torch.device]:
    device = inputs["input_ids"].device
    return [device] if device.type == "cuda" else []


def _texts(model: nn.Module, inputs: dict[str, Tensor], settings: Any, tokenizer: Any) -> list[str]:
    with torch.no_grad():
        found = model.generate(**inputs, generation_config=settings)  # type: ignore[operator]
    decoder = not model.config.is_encoder_decoder  # type: ignore[union-attr]
    answers = found[:, inputs["input_ids"].shape[1] :] if decoder else found
    return tokenizer.batch_decode(answers, skip_special_tokens=True)


def _settings(model: nn.Module, decoding: Decoding, tokenizer: Any, end: int | None) -> Any:
    """The model's own special tokens and the task's settings: nothing else that the model's files ask for."""
    from transformers import GenerationConfig

    own: Any = copy.deepcopy(model.generation_config)
    special = {
        name: getattr(own, name, None)
        for name in ("bos_token_id", "decoder_start_token_id", "forced_bos_token_id", "forced_eos_token_id")
    }
    sampling: dict[str, Any] = {"do_sample": False}
    if decoding.samples is not None:
        sampling = {"do_sample": True, "num_return_sequences": decoding.samples, "top_k": 0}
        sampling |= {"temperature": decoding.temperature, "top_p": decoding.top_p}
    beams: dict[str, Any] = {}
    if decoding.num_beams > 1:
        beams = {"length_penalty": decoding.length_penalty, "early_stopping": decoding.early_stopping}
    return GenerationConfig(
        **{name: token for name, token in special.items() if token is not None},
        **sampling,
        **beams,
        num_beams=decoding.num_beams,
        eos_token_id=end if end is not None else own.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        max_new_tokens=decoding.max_new_tokens,
        min_new_tokens=decoding.min_new_tokens or None,
        no_repeat_ngram_size=decoding.no_repeat_ngram_size or None,
        use_cache=True,
    )
