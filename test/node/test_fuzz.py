"""Whatever bytes and numbers come: a value, or the one error that is meant for it."""

import array
import importlib.util
import io
import math
import os
import subprocess
import sys

import cv2
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from places import SUPPORT
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from vidllm_ros.node.conversions import matrix_from_transform, ns_to_stamp, stamp_to_ns, transform_message
from vidllm_ros.node.frames.transforms import TransformBuffer, TransformError
from vidllm_ros.node.input.camera import CameraInfoError, CameraReader
from vidllm_ros.node.input.images import ENCODINGS, ImageError, rgb_from_compressed, rgb_from_image
from vidllm_ros.node.map_files import allowed_path
from vidllm_ros.node.questions.exchange import RequestError, check_request
from vidllm_ros.perception.errors import DropReason, FrameRejected, SaveError
from vidllm_ros.perception.types import Frame
from vidllm_ros.perception.windows.frames import check_frame

FAST = settings(max_examples=150, deadline=None)
SIZES = st.one_of(st.integers(0, 40), st.sampled_from([2**16, 2**31, 2**32 - 1]))
ANY_FLOAT = st.floats(width=64)


def is_picture(rgb: np.ndarray) -> bool:
    return rgb.dtype == np.uint8 and rgb.ndim == 3 and rgb.shape[2] == 3 and rgb.size > 0


@FAST
@given(SIZES, SIZES, SIZES, st.one_of(st.sampled_from(ENCODINGS), st.text(max_size=8)), st.binary(max_size=4000))
@example(3, 3, 6, "yuyv", bytes(18))
@example(1, 1, 1, "bayer_rggb8", b"x")
def test_images_of_any_size_step_and_encoding(width, height, step, encoding, data):
    message = Image(width=width, height=height, step=step, encoding=encoding.replace("\0", ""))
    message.data = array.array("B", data)
    try:
        rgb = rgb_from_image(message)
    except ImageError as error:
        assert str(error)
    else:
        assert is_picture(rgb) and rgb.shape[:2] == (height, width)


@FAST
@given(st.integers(1, 30), st.integers(1, 30), st.sampled_from(ENCODINGS), st.booleans(), st.integers(0, 9))
def test_images_with_enough_data_are_read_or_refused(width, height, encoding, big, padding):
    step = width * 8 + padding
    message = Image(width=width, height=height, step=step, encoding=encoding, is_bigendian=big)
    message.data = array.array("B", bytes(step * height))
    try:
        assert is_picture(rgb_from_image(message))
    except ImageError as error:  # YUV needs an even width
        assert "cannot be converted" in str(error)


def encoded(ending: str) -> bytes:
    rgb = np.random.default_rng(0).integers(0, 255, (24, 32, 3), np.uint8)
    return cv2.imencode(ending, rgb)[1].tobytes()


SOUND = {ending: encoded(ending) for ending in (".png", ".jpg", ".bmp", ".webp", ".tiff")}


@FAST
@given(
    st.sampled_from(sorted(SOUND)),
    st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 255)), max_size=12),
    st.integers(0, 5000),
    st.binary(max_size=40),
)
def test_compressed_images_with_bytes_changed_cut_off_and_added(ending, changes, length, tail):
    data = bytearray(SOUND[ending])
    for place, value in changes:
        data[place % len(data)] = value
    check_compressed(bytes(data[:length]) + tail, ending)


@FAST
@given(st.binary(max_size=500), st.text(max_size=20))
def test_compressed_images_of_any_bytes(data, form):
    check_compressed(data, form)


def check_compressed(data: bytes, form: str) -> None:
    message = CompressedImage(format=form.replace("\0", ""), data=array.array("B", data))
    try:
        rgb = rgb_from_compressed(message)
        check_frame(Frame(rgb, 1))  # a damaged header may claim any size
    except ImageError as error:
        assert str(error)
    except FrameRejected as error:
        assert error.reason is DropReason.BAD_IMAGE
    else:
        assert is_picture(rgb)


def test_a_picture_that_claims_to_be_huge_takes_no_memory():
    """A PNG header of 2^31 pixels in 60 bytes."""
    import struct
    import zlib

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    file = io.BytesIO(b"\x89PNG\r\n\x1a\n")
    file.seek(0, 2)
    file.write(chunk(b"IHDR", struct.pack(">IIBBBBB", 65535, 65535, 8, 2, 0, 0, 0)) + chunk(b"IDAT", b"x"))
    with pytest.raises(ImageError, match="damaged"):
        rgb_from_compressed(CompressedImage(format="png", data=array.array("B", file.getvalue())))


@FAST
@given(
    st.lists(ANY_FLOAT, min_size=9, max_size=9),
    st.lists(ANY_FLOAT, max_size=14),
    st.sampled_from(["plumb_bob", "rational_polynomial", "equidistant", "", "odd"]),
    st.tuples(*[st.integers(0, 64)] * 8),
    st.booleans(),
)
def test_any_camera_info(k, d, model, numbers, rectified):
    width, height, roi_width, roi_height, x, y, binning_x, binning_y = numbers
    message = CameraInfo(width=width, height=height, k=k, d=d, distortion_model=model)
    message.binning_x, message.binning_y = binning_x, binning_y
    message.roi.width, message.roi.height, message.roi.x_offset, message.roi.y_offset = roi_width, roi_height, x, y
    try:
        camera = CameraReader(rectified).read(message)
    except CameraInfoError as error:
        assert "camera_info" in str(error)
    else:
        assert camera is None or np.isfinite(camera.intrinsics).all()


@FAST
@given(st.lists(ANY_FLOAT, min_size=3, max_size=3), st.lists(ANY_FLOAT, min_size=4, max_size=4))
def test_any_transform_is_rigid_or_nothing(translation, rotation):
    message = transform_message(0, "a", "b", np.eye(4)).transform
    for part, values in ((message.translation, translation), (message.rotation, rotation)):
        for axis, value in zip("xyzw", values, strict=False):
            setattr(part, axis, value)
    matrix = matrix_from_transform(message)
    if matrix is not None:
        np.testing.assert_allclose(matrix[:3, :3] @ matrix[:3, :3].T, np.eye(3), atol=1e-6)
        assert np.isfinite(matrix).all()


@given(st.integers(0, 2**31 * 10**9 - 1))
def test_any_stamp_survives(stamp_ns):
    assert stamp_to_ns(ns_to_stamp(stamp_ns)) == stamp_ns


FRAMES = st.sampled_from(["map", "odom", "base", "camera", "", "/map"])
STAMPS = st.integers(-(10**11), 10**11)


@FAST
@given(
    st.lists(st.tuples(FRAMES, FRAMES, STAMPS, st.booleans()), max_size=30),
    st.lists(st.tuples(FRAMES, FRAMES, STAMPS), min_size=1, max_size=5),
)
def test_any_tree_of_transforms_answers_or_says_why_not(added, asked):
    """Loops, frames that change parents and times in any order included."""
    buffer = TransformBuffer(cache_seconds=10.0)
    for parent, child, stamp, static in added:
        buffer.add(parent.lstrip("/"), child.lstrip("/"), stamp, np.eye(4), static)
    for target, source, stamp in asked:
        try:
            np.testing.assert_allclose(buffer.lookup(target, source, stamp), np.eye(4), atol=1e-9)
        except TransformError as error:
            assert str(error)


@FAST
@given(
    st.text(max_size=300),
    st.integers(-5, 300),
    st.integers(-5, 300),
    st.integers(-(2**62), 2**62),
    st.text(max_size=10),
    st.integers(0, 65535),
    st.floats(),
)
def test_any_request(text, task, scope, stamp_ns, frame_id, tokens, timeout):
    limits = {"max_characters": 200, "default_timeout": 30.0}
    try:
        request = check_request(text, task, scope, stamp_ns, frame_id, tokens, timeout, **limits)
    except RequestError as error:
        assert str(error)
    else:
        assert 0 < len(request.text) <= 200 and math.isfinite(request.timeout) and request.timeout > 0


@FAST
@given(st.one_of(st.text(max_size=40), st.lists(st.sampled_from(["..", "/", "a", "~", ".", "\0", "//"])).map("".join)))
def test_no_path_leaves_the_folder(tmp_path_factory, name):
    root = tmp_path_factory.getbasetemp().resolve()
    try:
        path = allowed_path(name, str(root))
    except SaveError as error:
        assert str(error)
    else:
        assert path.is_relative_to(root) and ".." not in path.parts


@pytest.mark.skipif(not importlib.util.find_spec("atheris"), reason="atheris is not installed; it has no wheel here")
@pytest.mark.parametrize(("target", "runs"), [("image", 30_000), ("compressed", 30_000), ("bag", 800)])
def test_bytes_that_coverage_leads_to(target, runs, tmp_path):
    """A short run of ``coverage_fuzz.py``; a crash, a hang, much memory or a wrong error end it with another code."""
    script = SUPPORT / "coverage_fuzz.py"
    paths = os.pathsep.join([str(SUPPORT), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONPATH": paths}
    command = [sys.executable, str(script), target, f"-runs={runs}", "-seed=1"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Done" in done.stderr
