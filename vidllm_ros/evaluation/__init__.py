"""Metrics, benchmark protocols, bag replay and the report."""
