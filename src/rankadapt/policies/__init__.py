"""Rank allocation: pure functions from scores and live slots to a change, one idea per file."""

from rankadapt.policies.base import Policy
from rankadapt.policies.bidirectional import Bidirectional
from rankadapt.policies.expand_only import ExpandOnly
from rankadapt.policies.prune_only import PruneOnly
from rankadapt.policies.static import Static

__all__ = ["Bidirectional", "ExpandOnly", "Policy", "PruneOnly", "Static"]
