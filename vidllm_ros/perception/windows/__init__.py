"""Frames into windows: what is taken from the stream, what is dropped, and when a window is full.

Start with ``window.py``. Imports the door of ``perception`` only.
"""
