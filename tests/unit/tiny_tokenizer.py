"""A word-level tokenizer made on the spot, and a tiny mirror: no network, no files of anyone's."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]


def tiny_tokenizer(words: str = "a b c d e f g h", padding_side: str = "right") -> PreTrainedTokenizerFast:
    """Splits at spaces; ids are 4, 5, ... in the order of ``words``; pairs as BERT joins them."""
    vocabulary = {word: number for number, word in enumerate([*SPECIAL, *words.split()])}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        padding_side=padding_side,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )


def write_split(mirror: Path, split: str, columns: dict[str, list], config: str = "rte") -> Path:
    """One parquet file of ``nyu-mll/glue`` in a mirror; returns its path."""
    name = f"{split}-00000-of-00001.parquet"
    file = mirror / "datasets" / "nyu-mll" / "glue" / config / name
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), file)
    return file
