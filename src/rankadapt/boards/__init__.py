"""The data that scorers and policies exchange: boards, changes and limits."""

from rankadapt.boards.data import Change, Event, Limits, Storage
from rankadapt.boards.moves import Moves, plan, stay
from rankadapt.boards.selection import affordable, deal, lowest, removable, spent, standings, turns

__all__ = [
    "Change",
    "Event",
    "Limits",
    "Moves",
    "Storage",
    "affordable",
    "deal",
    "lowest",
    "plan",
    "removable",
    "spent",
    "standings",
    "stay",
    "turns",
]
