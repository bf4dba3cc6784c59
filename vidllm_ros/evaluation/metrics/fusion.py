"""Depth maps fused into one surface, and that surface laid over the truth.

Settings are those of NeuralRecon's evaluation on ScanNet: voxels of 4 cm, truncation at 12 cm, depth up to 5 m.
"""

from __future__ import annotations

import numpy as np

from vidllm_ros.evaluation.metrics.reconstruction import voxel_means
from vidllm_ros.evaluation.metrics.trajectory import Similarity

VOXEL, TRUNCATION, MAX_DEPTH = 0.04, 0.12, 5.0  # metres
ICP_DISTANCE = 0.1  # metres; farther pairs do not pull, as CUT3R's and Pi3's evaluations have it
_ICP_VOXEL = 0.02
_BLOCK, _BLOCKS = 8, 20_000  # voxels along a block, and blocks at first: 80 MB; the grid grows


def fuse(depth: np.ndarray, intrinsics: np.ndarray, T_frame_camera: np.ndarray) -> np.ndarray:
    """Vertices of the surface that depth maps agree on (Curless and Levoy, SIGGRAPH 1996; Open3D).

    Args:
        depth: [S, H, W] metres along the optical axis, 0 where unknown; more than 5 m is left out.
        intrinsics: [S, 3, 3] pixels.
        T_frame_camera: [S, 4, 4] camera-to-frame.

    Returns:
        float64 [N, 3] metres in frame; N may be 0.
    """
    import open3d  # takes a second to import

    usable = [k for k, image in enumerate(depth) if np.any((image > 0) & (image < MAX_DEPTH))]
    if not usable:
        return np.zeros((0, 3))
    tensor, float32 = open3d.core.Tensor, open3d.core.float32
    grid = open3d.t.geometry.VoxelBlockGrid(
        ("tsdf", "weight"), (float32, float32), (1, 1), VOXEL, block_resolution=_BLOCK, block_count=_BLOCKS
    )
    for k in usable:
        image = open3d.t.geometry.Image(tensor(np.ascontiguousarray(depth[k], dtype=np.float32)))
        matrix, pose = tensor(np.ascontiguousarray(intrinsics[k])), tensor(np.linalg.inv(T_frame_camera[k]))
        camera = (matrix, pose, 1.0, MAX_DEPTH, TRUNCATION / VOXEL)
        grid.integrate(grid.compute_unique_block_coordinates(image, *camera), image, *camera)
    mesh = grid.extract_triangle_mesh(weight_threshold=0.5)  # one view is enough, as in NeuralRecon
    return mesh.vertex.positions.numpy().astype(np.float64) if "positions" in mesh.vertex else np.zeros((0, 3))


def refine(points: np.ndarray, truth: np.ndarray) -> Similarity:
    """The small motion that brings points [N, 3] onto the truth [M, 3] (point-to-point ICP; Besl and McKay, 1992).

    Only pairs within 10 cm count, so the points must lie nearly right already.
    """
    import open3d

    def cloud(positions: np.ndarray) -> open3d.geometry.PointCloud:
        return open3d.geometry.PointCloud(open3d.utility.Vector3dVector(voxel_means(positions, _ICP_VOXEL)))

    registration = open3d.pipelines.registration
    result = registration.registration_icp(
        cloud(points),
        cloud(truth),
        ICP_DISTANCE,
        np.eye(4),
        registration.TransformationEstimationPointToPoint(False),
        registration.ICPConvergenceCriteria(max_iteration=50),
    )
    motion = np.asarray(result.transformation)
    return Similarity(motion[:3, :3], motion[:3, 3])
