"""What can be set, as ROS parameters.

Start with ``config.py``, which describes the node's own; perception's are described in ``perception.config``.
"""
