"""Frames to windows to metric reconstruction to map to answers, without ROS.

Start with ``pipeline.py``, the whole story, and ``types.py``, what travels through it. Imports ``model``.
"""
