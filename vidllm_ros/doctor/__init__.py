"""``vidllm doctor``: what would keep the node from working. Needs ROS for all but ``machine.py``.

Start with ``cli.py``. Imports ``node`` for what it expects of topics, frames and checkpoints.
"""
