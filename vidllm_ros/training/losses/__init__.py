"""Losses, and ground truth in the network's own terms.

Start with ``targets.py``, then ``geometry.py`` and ``reasoning.py``. Imports ``model`` and the sample.
"""
