"""Cameras found in the images themselves: lasting tracks, several starts, and a stated uncertainty.

Start with ``register.py``. What ``adjustment`` does beginning with the network's cameras this does without them. It
takes its place once it is no worse on small images and no slower; docs/frames-and-scale.md has the figures of both.
Imports ``geometry``, and the equations of a step from ``adjustment``.
"""
