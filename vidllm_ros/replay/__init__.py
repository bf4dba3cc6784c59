"""Recordings through the real node: ``vidllm replay`` and ``vidllm evaluate bag``. Needs ROS.

Start with ``run.py``. Imports ``node`` for what both do (encodings, cameras, quality of service) and ``evaluation`` for
what it measures. ``client.py`` talks to a running node and serves any script.
"""
