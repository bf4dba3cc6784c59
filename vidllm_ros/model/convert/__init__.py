"""Public weights into a checkpoint folder: VGGT, DINOv2 with registers, causal language models.

The steps are in ``conversion.convert``: read tensors, rename them, infer the sizes from their shapes, build the network
and fill it; ``cli`` writes the folder with its card.
"""
