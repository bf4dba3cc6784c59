"""A window through the network: images to features to poses and depth one can compute with.

Start with ``reconstruct.py``. Imports the door of ``perception`` and ``model``; ``transforms.py`` serves every room.
"""
