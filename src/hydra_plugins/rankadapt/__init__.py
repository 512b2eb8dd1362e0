"""Hydra finds its plugins by this namespace."""
