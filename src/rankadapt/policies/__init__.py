"""Rank allocation: pure functions from scores and live slots to a change, one idea per file."""

from rankadapt.policies.base import Policy
from rankadapt.policies.bidirectional import Bidirectional
from rankadapt.policies.contribution_budget import ContributionBudget
from rankadapt.policies.cubic_budget import CubicBudget
from rankadapt.policies.expand_only import ExpandOnly
from rankadapt.policies.incremental import Incremental
from rankadapt.policies.linear_depth import LinearDepth
from rankadapt.policies.prune_only import PruneOnly
from rankadapt.policies.sampled import Sampled
from rankadapt.policies.static import Static
from rankadapt.policies.threshold_growth import ThresholdGrowth
from rankadapt.policies.truncate import Truncate

__all__ = [
    "Bidirectional",
    "ContributionBudget",
    "CubicBudget",
    "ExpandOnly",
    "Incremental",
    "LinearDepth",
    "Policy",
    "PruneOnly",
    "Sampled",
    "Static",
    "ThresholdGrowth",
    "Truncate",
]
