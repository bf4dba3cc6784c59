"""Instance proposals for ScanNet scans as Mask3D's results are passed on for the language benchmarks (LEO's archive).

``{scene}.mask.npz``: a scipy sparse matrix [proposals, vertices of the scan's ``_vh_clean_2.ply``], surest first.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy import sparse

from vidllm_ros.training.data.errors import DataError, reason

#: The published evaluations look at the first fifty.
MOST_PROPOSALS = 50


def read_proposals(folder: Path, scene: str, vertices: np.ndarray) -> np.ndarray:
    """The smallest boxes along the world's axes around each proposal's vertices.

    Args:
        folder: holds one file for each scan.
        scene: the scan's name.
        vertices: [V, 3] metres, of the scan's mesh in world.

    Returns:
        float64 [M, 6] centre and full size, metres, at most 50; proposals without a vertex are left out.

    Raises:
        DataError: the file is missing, broken, or belongs to another mesh.
    """
    path = folder / f"{scene}.mask.npz"
    try:
        masks = sparse.load_npz(path).tocsr()[:MOST_PROPOSALS]
    except Exception as error:  # zip, npy and scipy each have their own
        raise DataError(f"{path} cannot be read as a sparse matrix of masks: {reason(error)}.") from error
    if masks.shape[1] != len(vertices):
        raise DataError(
            f"{path} has masks over {masks.shape[1]} vertices, but the mesh of {scene} has {len(vertices)}; proposals "
            "must come from its _vh_clean_2.ply."
        )
    boxes = []
    for k in range(masks.shape[0]):
        member = masks[k].nonzero()[1]
        if len(member):
            low, high = vertices[member].min(axis=0), vertices[member].max(axis=0)
            boxes.append(np.concatenate([(low + high) / 2, high - low]))
    return np.array(boxes, dtype=np.float64).reshape(-1, 6)
