"""Cameras of a window adjusted to points that its images share (bundle adjustment).

Start with ``refine.py``; ``bundle_adjustment.py`` is the solver, ``tracks.py`` finds the points. Imports ``geometry``.
"""
