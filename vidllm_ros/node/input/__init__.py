"""From the middleware: images and calibration to frames, and why none come.

Start with ``camera_input.py``. Imports ``output.conversions``, where all messages are built and read.
"""
