"""What cameras do to pictures: crops and turns that keep depth exact, and everything from white balance to JPEG."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from vidllm_ros.training.metric_depth.real_frames import nearest


@dataclass(frozen=True)
class AugmentConfig:
    """How far pictures are changed; probabilities where a name says so.

    Attributes:
        smallest_crop: side of the smallest crop, as a share of the frame; a crop is a longer lens.
        crop_probability: how often a frame is cropped at all.
        turn: standard deviation of a turn about the optical axis, degrees.
        turn_probability: how often a frame is turned.
        colour_match_probability: how often a rendered frame takes on the colour statistics of a real one.
        blur_probability: blur of lens or motion.
        jpeg_probability: compression.
        erase_probability: a block of the picture is painted over, and its depth is unknown.
    """

    smallest_crop: float = 0.55
    crop_probability: float = 0.7
    turn: float = 6.0
    turn_probability: float = 0.3
    colour_match_probability: float = 0.3
    blur_probability: float = 0.35
    jpeg_probability: float = 0.3
    erase_probability: float = 0.15


def reframe(
    rgb: np.ndarray,
    depth: np.ndarray,
    focal: float,
    size: tuple[int, int],
    depth_size: tuple[int, int],
    config: AugmentConfig,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray, float]:
    """A random turn, mirror image and crop of a frame at the network's sizes.

    Args:
        rgb: uint8 [H, W, 3].
        depth: [H, W] metres along the optical axis, which none of these changes.
        focal: in image widths.
        size: (height, width) of the picture to return.
        depth_size: of the depth to return.
        config: how far.
        rng: draws.
    """
    if rng.random() < config.turn_probability:
        rgb, depth = _turn(rgb, depth, float(np.clip(rng.normal(0, config.turn), -25, 25)))
    if rng.random() < 0.5:
        rgb, depth = rgb[:, ::-1], depth[:, ::-1]
    height, width = depth.shape
    share = rng.uniform(config.smallest_crop, 1.0) if rng.random() < config.crop_probability else 1.0
    high, wide = round(height * share), round(width * share)
    # Near the middle, where the principal point stays about the centre of the crop.
    top, left = (
        round(float(np.clip(0.5 + rng.normal(0, 0.2), 0, 1)) * spare) for spare in (height - high, width - wide)
    )
    crop = (slice(top, top + high), slice(left, left + wide))
    interpolation = cv2.INTER_AREA if wide > size[1] else cv2.INTER_LINEAR
    picture = cv2.resize(np.ascontiguousarray(rgb[crop]), (size[1], size[0]), interpolation=interpolation)
    return picture, nearest(depth[crop], depth_size), focal * width / wide


def _turn(rgb: np.ndarray, depth: np.ndarray, degrees: float) -> tuple[np.ndarray, np.ndarray]:
    height, width = depth.shape
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 1.0)
    turned = cv2.warpAffine(rgb, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    known = cv2.warpAffine(
        depth.astype(np.float32), matrix, (width, height), flags=cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT
    )
    return turned, known


def match_colours(rgb: np.ndarray, other: np.ndarray, share: float) -> np.ndarray:
    """``rgb`` with mean and spread of its Lab channels moved towards those of another picture, uint8 [H, W, 3]."""
    here, there = (cv2.cvtColor(image, cv2.COLOR_RGB2LAB).astype(np.float32) for image in (rgb, other))
    mean, spread = here.mean(axis=(0, 1)), here.std(axis=(0, 1)) + 1.0
    gain = np.clip((there.std(axis=(0, 1)) + 1.0) / spread, 0.5, 2.0)
    wanted = (here - mean) * gain + there.mean(axis=(0, 1))
    mixed = here + share * (wanted - here)
    return cv2.cvtColor(np.clip(mixed, 0, 255).astype(np.uint8), cv2.COLOR_LAB2RGB)


def disturb(rgb: np.ndarray, config: AugmentConfig, rng: np.random.Generator) -> np.ndarray:
    """Exposure, tone, colour, vignetting, blur, noise and compression; uint8 [H, W, 3] to the same."""
    height, width = rgb.shape[:2]
    image = rgb.astype(np.float32) / np.float32(255)
    if rng.random() < 0.8:
        image = image ** np.float32(np.exp(rng.normal(0, 0.25)))
        gain = np.exp(rng.normal(0, 0.25)) * np.exp(rng.normal(0, 0.08, 3))
        image = image * gain.astype(np.float32)
        grey = image.mean(axis=2, keepdims=True)
        image = grey + (image - grey) * np.float32(rng.uniform(0.0, 1.4))
        middle = image.mean()
        image = middle + (image - middle) * np.float32(rng.uniform(0.6, 1.3))
        # Stray light: a veil over everything.
        image = image + np.float32(rng.uniform(-0.05, 0.08))
    if rng.random() < 0.3:
        y = np.linspace(-1, 1, height, dtype=np.float32)[:, None] - np.float32(rng.normal(0, 0.1))
        x = np.linspace(-1, 1, width, dtype=np.float32)[None] - np.float32(rng.normal(0, 0.1))
        image = image * (1 - np.float32(rng.uniform(0.1, 0.5)) * 0.5 * (x * x + y * y))[..., None]
    if rng.random() < config.blur_probability:
        image = cv2.filter2D(image, -1, _blur(rng))
    if rng.random() < 0.6:
        strength = np.float32(rng.exponential(0.018))
        noise = rng.standard_normal(image.shape, dtype=np.float32) * strength
        image = image + noise * (0.5 + np.sqrt(np.clip(image, 0, 1)))
    result = (np.clip(image, 0, 1) * 255).astype(np.uint8)
    if rng.random() < config.jpeg_probability:
        quality = int(rng.integers(25, 90))
        packed = cv2.imencode(".jpg", result, (cv2.IMWRITE_JPEG_QUALITY, quality))[1]
        result = cv2.imdecode(packed, cv2.IMREAD_COLOR)
    return result


def _blur(rng: np.random.Generator) -> np.ndarray:
    """A kernel [k, k]: the round one of a lens or the straight one of a motion."""
    if rng.random() < 0.5:
        line = cv2.getGaussianKernel(5, rng.uniform(0.4, 1.1)).astype(np.float32)
        return line @ line.T
    side = 7
    kernel = np.zeros((side, side), np.float32)
    way = rng.uniform(0.5, 3.0) * np.array([np.cos(angle := rng.uniform(0, np.pi)), np.sin(angle)])
    start, stop = (((side // 2 + sign * way) * 16).round().astype(int).tolist() for sign in (-1, 1))
    cv2.line(kernel, start, stop, 1.0, 1, cv2.LINE_AA, 4)
    return kernel / max(float(kernel.sum()), 1e-6)


def erase(rgb: np.ndarray, depth: np.ndarray, rng: np.random.Generator) -> None:
    """Paint one block in one colour and forget its depth, in place; sizes of picture and depth may differ."""
    high, wide = rng.uniform(0.1, 0.4, 2)
    top, left = rng.uniform(0, 1 - high), rng.uniform(0, 1 - wide)
    for values, paint in ((rgb, rng.integers(0, 256, 3)), (depth, 0)):
        h, w = values.shape[:2]
        values[round(top * h) : round((top + high) * h), round(left * w) : round((left + wide) * w)] = paint
