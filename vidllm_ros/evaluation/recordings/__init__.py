"""What is read of recordings: bags, folders, trajectories and ground truth.

Start with ``bags.py`` and ``truth.py``.
"""
