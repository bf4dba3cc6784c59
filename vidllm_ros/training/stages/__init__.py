"""The two stages of the paper, and the phases that the bundled model was made in.

Start with ``recipe.py``. Imports ``losses``, ``data`` and the loop.
"""
