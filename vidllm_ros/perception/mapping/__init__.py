"""Windows into one map: which way is up, where each window belongs, and what is kept of it.

Start with ``builder.py``. Imports ``geometry``, and from ``scenes`` the memory of what was seen.
"""
