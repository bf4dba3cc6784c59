"""The reconstruction branch: frames to cameras, depth and metres (paper sections 3.1 and 3.2).

Start with ``branch.py``, which wires encoder, adapter, backbone, heads and scale. Imports the configuration and outputs
of ``model``, nothing of the reasoning branch.
"""
