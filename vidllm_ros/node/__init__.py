"""The ROS 2 node: frames come in, what perception makes of them goes out.

Start with ``node.py`` (parameters, lifecycle, services), ``session.py`` (all that exists between configure and
cleanup) and ``worker.py`` (the one thread that owns the model). Imports ROS and ``perception``; only ``replay`` and
``doctor`` import it.
"""
