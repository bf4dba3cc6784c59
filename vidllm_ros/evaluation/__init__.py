"""Metrics, benchmark protocols, recordings with their truth, and the report. Imports ``perception``.

Start with ``scores.py`` (a replay against the truth) and ``benchmarks/benchmark.py`` (a checkpoint over a data set).
"""
