"""Metrics of predictions, answers found in texts, and the sandbox for programs: pure functions on data."""
