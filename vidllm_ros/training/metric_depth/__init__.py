"""Metric depth of real rooms: frames rendered ahead and real ones, augmented, train the convolutional depth model.

Start with ``train.py``; ``render.py`` fills the caches it reads, ``evaluate.py`` scores real clips. Imports ``rooms``.
"""
