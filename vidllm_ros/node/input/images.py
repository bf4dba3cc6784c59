"""Image messages to RGB arrays."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from sensor_msgs.msg import CompressedImage, Image

try:  # the builds of Humble and Jazzy do not import beside NumPy 2
    from cv_bridge import CvBridge, CvBridgeError
except Exception:
    CvBridge = None


class ImageError(ValueError):
    """An image message that cannot be read; the text names the value and what would be right."""


@dataclass(frozen=True)
class _Layout:
    """How an encoding lies in memory.

    Attributes:
        dtype: of one sample.
        channels: samples per pixel; 2 for the packed YUV encodings.
        to_rgb: OpenCV conversion to RGB, None when it is RGB.
    """

    dtype: type
    channels: int
    to_rgb: int | None


# REP 118 and sensor_msgs/image_encodings; OpenCV names a Bayer pattern by its second row and column.
_LAYOUTS = {
    "rgb8": _Layout(np.uint8, 3, None),
    "bgr8": _Layout(np.uint8, 3, cv2.COLOR_BGR2RGB),
    "rgba8": _Layout(np.uint8, 4, cv2.COLOR_RGBA2RGB),
    "bgra8": _Layout(np.uint8, 4, cv2.COLOR_BGRA2RGB),
    "mono8": _Layout(np.uint8, 1, cv2.COLOR_GRAY2RGB),
    "8UC1": _Layout(np.uint8, 1, cv2.COLOR_GRAY2RGB),
    "8UC3": _Layout(np.uint8, 3, cv2.COLOR_BGR2RGB),
    "8UC4": _Layout(np.uint8, 4, cv2.COLOR_BGRA2RGB),
    "rgb16": _Layout(np.uint16, 3, None),
    "bgr16": _Layout(np.uint16, 3, cv2.COLOR_BGR2RGB),
    "rgba16": _Layout(np.uint16, 4, cv2.COLOR_RGBA2RGB),
    "bgra16": _Layout(np.uint16, 4, cv2.COLOR_BGRA2RGB),
    "mono16": _Layout(np.uint16, 1, cv2.COLOR_GRAY2RGB),
    "yuv422": _Layout(np.uint8, 2, cv2.COLOR_YUV2RGB_UYVY),
    "uyvy": _Layout(np.uint8, 2, cv2.COLOR_YUV2RGB_UYVY),
    "yuv422_yuy2": _Layout(np.uint8, 2, cv2.COLOR_YUV2RGB_YUY2),
    "yuyv": _Layout(np.uint8, 2, cv2.COLOR_YUV2RGB_YUY2),
    "bayer_rggb8": _Layout(np.uint8, 1, cv2.COLOR_BayerBG2RGB),
    "bayer_bggr8": _Layout(np.uint8, 1, cv2.COLOR_BayerRG2RGB),
    "bayer_gbrg8": _Layout(np.uint8, 1, cv2.COLOR_BayerGR2RGB),
    "bayer_grbg8": _Layout(np.uint8, 1, cv2.COLOR_BayerGB2RGB),
}

ENCODINGS = tuple(_LAYOUTS)


def rgb_from_image(message: Image) -> np.ndarray:
    """The image as RGB uint8 [H, W, 3]; of 16 bits the upper 8.

    The result may share the message's memory.

    Raises:
        ImageError: an unknown encoding, no pixels, or a step or data that do not fit the size.
    """
    if message.width == 0 or message.height == 0:
        raise ImageError(f"the image is {message.width} x {message.height}: it has no pixels")
    layout = _LAYOUTS.get(message.encoding)
    if layout is None:
        return _rgb_from_cv_bridge(message)
    samples = _samples(message, layout)
    if layout.dtype is np.uint16:
        samples = (samples >> 8).astype(np.uint8)
    if layout.to_rgb is None:
        return samples
    try:
        return cv2.cvtColor(samples, layout.to_rgb)
    except cv2.error as error:
        raise ImageError(
            f"the image of {message.width} x {message.height} {message.encoding} cannot be converted: {error.err}"
        ) from error


def rgb_from_compressed(message: CompressedImage) -> np.ndarray:
    """The decoded image as RGB uint8 [H, W, 3].

    Raises:
        ImageError: not a colour or grey image that OpenCV can decode.
    """
    if "compressedDepth" in message.format:
        raise ImageError(f"the compressed image has the format '{message.format}'; a colour image is needed, not depth")
    data = np.frombuffer(message.data, np.uint8)
    image = None
    problem = ""
    if data.size:
        try:
            image = cv2.imdecode(data, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
        except cv2.error as error:  # absurd sizes
            problem = f": {error.err}"
    if image is None:
        raise ImageError(
            f"the compressed image ({data.size} bytes, format '{message.format}') is damaged or of no format that "
            f"OpenCV decodes (JPEG, PNG, ...){problem}"
        )
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def _samples(message: Image, layout: _Layout) -> np.ndarray:
    """[H, W] or [H, W, channels] in native byte order, without row padding."""
    dtype = np.dtype(layout.dtype)
    row = message.width * layout.channels * dtype.itemsize
    if message.step < row:
        raise ImageError(
            f"the image has step {message.step}, but a row of {message.width} {message.encoding} pixels takes "
            f"{row} bytes"
        )
    needed = message.step * message.height
    data = np.frombuffer(message.data, np.uint8)
    if data.size < needed:
        raise ImageError(
            f"the image has {data.size} bytes, but {message.height} rows of step {message.step} take {needed}"
        )
    rows = data[:needed].reshape(message.height, message.step)[:, :row]
    if message.step != row:
        rows = np.ascontiguousarray(rows)
    if dtype.itemsize > 1:
        dtype = dtype.newbyteorder(">" if message.is_bigendian else "<")
    samples = rows.reshape(-1).view(dtype)
    shape = (message.height, message.width) + ((layout.channels,) if layout.channels > 1 else ())
    return samples.reshape(shape)


def _rgb_from_cv_bridge(message: Image) -> np.ndarray:
    """What our table does not hold, by cv_bridge where it is installed."""
    problem = ImageError(f"the image has the unknown encoding '{message.encoding}'; known are {', '.join(ENCODINGS)}")
    if CvBridge is None:
        raise problem
    try:
        image = np.asarray(CvBridge().imgmsg_to_cv2(message, desired_encoding="rgb8"))
    except (CvBridgeError, ValueError, TypeError, KeyError) as error:
        raise problem from error
    return image
