"""What the language model reads, and its answers.

Start with ``scene.py``. Imports ``geometry``, and from ``mapping`` where a window was placed.
"""
