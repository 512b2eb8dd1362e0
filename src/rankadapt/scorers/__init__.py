"""Importance of directions: one idea per file."""

from rankadapt.scorers.activation import Activation
from rankadapt.scorers.base import Scorer, SmoothedScorer
from rankadapt.scorers.core_norm_change import CoreNormChange
from rankadapt.scorers.dense_sensitivity import DenseSensitivity
from rankadapt.scorers.fisher import Fisher
from rankadapt.scorers.gradient import Gradient
from rankadapt.scorers.gradient_aware import GradientAware
from rankadapt.scorers.gradient_aware_input import GradientAwareInput
from rankadapt.scorers.hebbian import Hebbian
from rankadapt.scorers.random import Random
from rankadapt.scorers.sensitivity import Sensitivity
from rankadapt.scorers.singular_value import SingularValue
from rankadapt.scorers.truncated_norm import TruncatedNorm

__all__ = [
    "Activation",
    "CoreNormChange",
    "DenseSensitivity",
    "Fisher",
    "Gradient",
    "GradientAware",
    "GradientAwareInput",
    "Hebbian",
    "Random",
    "Scorer",
    "Sensitivity",
    "SingularValue",
    "SmoothedScorer",
    "TruncatedNorm",
]
