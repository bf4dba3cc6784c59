"""``vidllm evaluate`` on data that training reads too: procedural rooms and annotated scans.

Start with ``rooms.py`` and ``data.py``. The metrics are those of ``evaluation``.
"""
