"""Importance of directions: one idea per file."""

from rankadapt.scorers.activation import Activation
from rankadapt.scorers.base import Scorer, SmoothedScorer
from rankadapt.scorers.gradient import Gradient
from rankadapt.scorers.hebbian import Hebbian
from rankadapt.scorers.random import Random

__all__ = ["Activation", "Gradient", "Hebbian", "Random", "Scorer", "SmoothedScorer"]
