"""rankadapt: low-rank fine-tuning of transformers whose ranks move while training."""

__version__ = "0.1.0"
