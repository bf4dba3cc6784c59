"""A checkpoint over a data set: scene by scene, resumable, in shards.

Start with ``benchmark.py``. Imports ``metrics``, ``perception`` and ``model``.
"""
