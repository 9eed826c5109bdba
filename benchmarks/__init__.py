"""Benchmarks: one command each, a table and JSON, as ratios to a baseline of the same run."""
