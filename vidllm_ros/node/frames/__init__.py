"""What TF knows: the tree of frames, poses of cameras in it, and the one transform the node broadcasts.

Start with ``tf.py``.
"""
