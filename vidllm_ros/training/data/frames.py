"""From a scene's recorded frames to the window that the network sees: choice, resize, crop, depth, intrinsics."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from vidllm_ros.model.config import VidLLMConfig
from vidllm_ros.model.outputs import Box3D
from vidllm_ros.perception.geometry.images import fit_image, image_to_network
from vidllm_ros.training.data.errors import DataError, log
from vidllm_ros.training.sample import Sample

UNKNOWN = -4  # instance of pixels about which nothing is known, see ``Sample``
_OFF_CENTRE = 0.3  # of the image; a principal point further from the middle belongs to an image of another size
_RIGID = 1e-2  # poses in text files are rounded; more than this is no rotation


class FrameStore(Protocol):
    """The posed RGB-D frames of one scene, wherever they are kept.

    Attributes:
        path: folder or file, for messages.
        color_intrinsics: float64 [3, 3] pixels of the colour images.
        depth_intrinsics: float64 [3, 3] pixels of the depth images, taken from the same place in the same direction.
        poses: ``T_world_camera`` float64 [4, 4] by frame number, ascending; frames without a usable pose are missing.
    """

    path: Path
    color_intrinsics: np.ndarray
    depth_intrinsics: np.ndarray
    poses: dict[int, np.ndarray]

    def read(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """RGB uint8 [H, W, 3] and depth float32 [h, w] metres, 0 where unknown; raises DataError if unreadable."""
        ...


@dataclass(frozen=True, eq=False)
class FrameWindow:
    """The frames of a sample, as ``Sample`` describes them.

    Attributes:
        rgb: uint8 [S, H, W, 3].
        depth: float32 [S, H, W] metres.
        intrinsics: float64 [S, 3, 3] pixels.
        T_world_camera: float64 [S, 4, 4].
    """

    rgb: np.ndarray
    depth: np.ndarray
    intrinsics: np.ndarray
    T_world_camera: np.ndarray

    @property
    def image_size(self) -> tuple[int, int]:
        """(H, W)."""
        return self.depth.shape[1], self.depth.shape[2]

    def without_labels(self, name: str, boxes: tuple[Box3D, ...] = ()) -> Sample:
        """The sample of a scene whose pixels nobody labelled, and about which nothing is asked."""
        return Sample(
            name=name,
            rgb=self.rgb,
            depth=self.depth,
            T_world_camera=self.T_world_camera,
            intrinsics=self.intrinsics,
            boxes=boxes,
            instances=self.nothing_known(),
            tasks=(),
        )

    def nothing_known(self) -> np.ndarray:
        """Instances of frames without labels, int16 [S, H, W]."""
        return np.full(self.depth.shape, UNKNOWN, np.int16)


def read_window(store: FrameStore, config: VidLLMConfig) -> FrameWindow:
    """``config.window_size`` frames, uniformly over the usable ones, at the network's size.

    A frame that cannot be read is left out with a warning, and the choice is made again among the others.

    Raises:
        DataError: fewer usable frames than a window holds, intrinsics of other images, or no depth at all.
    """
    usable = list(store.poses)
    read: dict[int, tuple[np.ndarray, np.ndarray]] = {}
    while True:
        if len(usable) < config.window_size:
            raise DataError(
                f"{store.path} has {len(usable)} usable frames, but a window of '{config.name}' holds "
                f"{config.window_size}; complete the recording, or use a configuration with a smaller window_size."
            )
        chosen = [usable[i] for i in uniform_indices(len(usable), config.window_size)]
        unreadable = set()
        for number in (n for n in chosen if n not in read):
            try:
                read[number] = store.read(number)
            except DataError as error:
                log.warning("frame %d is left out: %s", number, error)
                unreadable.add(number)
        if not unreadable:
            break
        usable = [number for number in usable if number not in unreadable]
    sizes = {read[number][0].shape[:2] for number in chosen}
    if len(sizes) > 1:
        raise DataError(f"{store.path} mixes colour images of the sizes (height, width) {sorted(sizes)}.")
    check_intrinsics(store.color_intrinsics, rgb_size := sizes.pop(), f"{store.path}, colour")
    check_intrinsics(store.depth_intrinsics, read[chosen[0]][1].shape[:2], f"{store.path}, depth")
    size = network_size(rgb_size, config)
    fitted = [fit_frame(*read[n], store.color_intrinsics, store.depth_intrinsics, size) for n in chosen]
    rgb, depth, intrinsics = (np.stack(parts) for parts in zip(*fitted, strict=True))
    if not depth.any():
        raise DataError(f"{store.path}: none of the {len(chosen)} depth images holds a reading.")
    return FrameWindow(rgb, depth, intrinsics, np.stack([store.poses[number] for number in chosen]))


def uniform_indices(count: int, wanted: int) -> np.ndarray:
    """``wanted`` different indices spread evenly over ``count``, the first and the last among them."""
    return np.linspace(0, count - 1, wanted).round().astype(int)


def network_size(image_size: tuple[int, int], config: VidLLMConfig) -> tuple[int, int]:
    """(height, width) of an image for the network: shorter side as configured, both sides whole patches.

    The longer side is never longer than the configured one, as for a robot's images.

    Args:
        image_size: (height, width) of the recorded image.
        config: ``image_size`` and ``patch_size`` count.
    """
    patch, (short, long) = config.patch_size, sorted(config.image_size)
    scaled = round(max(image_size) * short / min(image_size))
    longer = max(short, min(long, scaled) // patch * patch)
    return (short, longer) if image_size[0] <= image_size[1] else (longer, short)


def fit_frame(
    rgb: np.ndarray,
    depth: np.ndarray,
    color_intrinsics: np.ndarray,
    depth_intrinsics: np.ndarray,
    size: tuple[int, int],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Resize and crop a frame, its depth looked up along each pixel's ray.

    Depth is never blended, because between two surfaces there is nothing: every pixel takes the nearest reading.

    Args:
        rgb: uint8 [H, W, 3].
        depth: float32 [h, w] metres.
        color_intrinsics: [3, 3] of ``rgb``, without skew.
        depth_intrinsics: [3, 3] of ``depth``, without skew.
        size: (height, width) wanted.

    Returns:
        RGB uint8 [*size, 3], depth float32 [*size] with 0 where ``depth`` has nothing, and intrinsics [3, 3].
    """
    intrinsics = image_to_network(rgb.shape[:2], size) @ color_intrinsics
    axes = []
    for axis, (pixels, limit) in enumerate(zip(size[::-1], depth.shape[::-1], strict=True)):
        ray = (np.arange(pixels) - intrinsics[axis, 2]) / intrinsics[axis, axis]
        found = np.floor(ray * depth_intrinsics[axis, axis] + depth_intrinsics[axis, 2] + 0.5).astype(int)
        axes.append((found.clip(0, limit - 1), (found >= 0) & (found < limit)))
    (columns, columns_inside), (rows, rows_inside) = axes
    inside = rows_inside[:, None] & columns_inside
    return fit_image(rgb, size), np.where(inside, depth[rows][:, columns], np.float32(0)), intrinsics


def usable_pose(pose: np.ndarray) -> bool:
    """Whether [4, 4] is finite and rigid; ScanNet writes -inf where tracking was lost."""
    if pose.shape != (4, 4) or not np.isfinite(pose).all():
        return False
    rotation = pose[:3, :3]
    upright = np.allclose(rotation.T @ rotation, np.eye(3), atol=_RIGID) and np.linalg.det(rotation) > 0
    return bool(upright and np.allclose(pose[3], (0, 0, 0, 1), atol=1e-6))


def check_intrinsics(matrix: np.ndarray, image_size: tuple[int, int], where: str) -> None:
    """Refuse a camera matrix [3, 3] that cannot be that of images of (height, width).

    Exported images that were made smaller beside intrinsics that were not are the usual reason.

    Raises:
        DataError: values that are not finite, a focal length that is not positive, or a principal point far from the
            middle.
    """
    height, width = image_size
    if not np.isfinite(matrix).all() or matrix[0, 0] <= 0 or matrix[1, 1] <= 0:
        raise DataError(f"{where}: the intrinsics {matrix.tolist()} must be finite and their focal lengths positive.")
    off = np.abs(matrix[:2, 2] / (width, height) - 0.5)
    if off.max() > _OFF_CENTRE:
        raise DataError(
            f"{where}: the principal point ({matrix[0, 2]:g}, {matrix[1, 2]:g}) is far from the middle of images of "
            f"{width} x {height} pixels; give the intrinsics of these images, or the images at their original size."
        )


def pinhole(fx: float, fy: float, cx: float, cy: float) -> np.ndarray:
    """Camera matrix float64 [3, 3] from its four numbers, pixels."""
    return np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]], dtype=np.float64)


def read_rgb(path: Path) -> np.ndarray:
    """An image file as uint8 [H, W, 3] RGB; raises DataError when it is missing or broken."""
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise DataError(f"{path} is {'no readable image' if path.exists() else 'missing'}.")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def read_depth(path: Path, units_per_metre: float) -> np.ndarray:
    """A 16-bit depth image as float32 [H, W] metres; raises DataError when it is missing or something else."""
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if image is None:
        raise DataError(f"{path} is {'no readable image' if path.exists() else 'missing'}.")
    if image.dtype != np.uint16 or image.ndim != 2:
        raise DataError(f"{path} is {image.dtype} {list(image.shape)}; depth images are 16-bit with one channel.")
    return image.astype(np.float32) / np.float32(units_per_metre)


def undistort(
    rgb: np.ndarray, depth: np.ndarray, intrinsics: np.ndarray, distortion: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """A colour image and the depth registered to it, as a camera with the same ``intrinsics`` but no lens sees them.

    Args:
        rgb: uint8 [H, W, 3].
        depth: float32 [H, W] metres; moved without blending.
        intrinsics: [3, 3].
        distortion: OpenCV's k1, k2, p1, p2, k3; nothing happens when all are 0.
    """
    if not np.any(distortion):
        return rgb, depth
    height, width = depth.shape
    maps = cv2.initUndistortRectifyMap(intrinsics, distortion, np.eye(3), intrinsics, (width, height), cv2.CV_32FC1)
    return cv2.remap(rgb, *maps, cv2.INTER_LINEAR), cv2.remap(depth, *maps, cv2.INTER_NEAREST)
