import array

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sensor_msgs.msg import CompressedImage, Image

from vidllm_ros.node.input.images import ENCODINGS, ImageError, rgb_from_compressed, rgb_from_image


def message(pixels: np.ndarray, encoding: str, padding: int = 0, bigendian: bool = False) -> Image:
    """An image of [H, W, C] or [H, W] pixels, with unused bytes at the end of each row."""
    pixels = pixels.astype(pixels.dtype.newbyteorder(">" if bigendian else "<"))
    rows = np.ascontiguousarray(pixels).view(np.uint8).reshape(pixels.shape[0], -1)
    rows = np.pad(rows, ((0, 0), (0, padding)), constant_values=77)
    return Image(
        height=pixels.shape[0],
        width=pixels.shape[1],
        encoding=encoding,
        step=rows.shape[1],
        is_bigendian=int(bigendian),
        data=array.array("B", rows.tobytes()),
    )


@pytest.fixture
def rgb() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)


@pytest.mark.parametrize("padding", [0, 5])
@pytest.mark.parametrize(
    ("encoding", "order"),
    [("rgb8", [0, 1, 2]), ("bgr8", [2, 1, 0]), ("8UC3", [2, 1, 0]), ("rgba8", [0, 1, 2, 0]), ("bgra8", [2, 1, 0, 0])],
)
def test_colour_orders_and_row_padding(rgb, encoding, order, padding):
    assert np.array_equal(rgb_from_image(message(rgb[..., order], encoding, padding)), rgb)


@pytest.mark.parametrize("bigendian", [False, True])
@pytest.mark.parametrize("encoding", ["rgb16", "bgr16", "rgba16", "bgra16"])
def test_of_16_bits_the_upper_8_count_in_both_byte_orders(rgb, encoding, bigendian):
    order = [2, 1, 0] if encoding.startswith("bgr") else [0, 1, 2]
    order += [0] if "a" in encoding else []
    pixels = rgb[..., order].astype(np.uint16) * 256 + 3
    assert np.array_equal(rgb_from_image(message(pixels, encoding, 2, bigendian)), rgb)


@pytest.mark.parametrize(("encoding", "factor"), [("mono8", 1), ("8UC1", 1), ("mono16", 256)])
def test_grey_has_three_equal_channels(rgb, encoding, factor):
    grey = rgb[..., 0]
    pixels = grey if factor == 1 else grey.astype(np.uint16) * factor
    assert np.array_equal(rgb_from_image(message(pixels, encoding)), np.repeat(grey[..., None], 3, 2))


@pytest.mark.parametrize(
    ("encoding", "luma"), [("uyvy", slice(1, None, 2)), ("yuv422", slice(1, None, 2)), ("yuyv", slice(0, None, 2))]
)
def test_packed_yuv(encoding, luma):
    """Grey by the definition of BT.601 studio swing: U = V = 128, Y from 16 to 235."""
    pixels = np.full((4, 16), 128, np.uint8)
    pixels[:, luma] = np.array([16, 235, 16, 235, 126, 126, 126, 126], np.uint8)
    result = rgb_from_image(message(pixels.reshape(4, 8, 2), encoding)).astype(int)
    expected = np.array([0, 255, 0, 255, 128, 128, 128, 128])
    assert np.abs(result - expected[None, :, None]).max() <= 1


@pytest.mark.parametrize("pattern", ["rggb", "bggr", "gbrg", "grbg"])
def test_bayer_patterns_give_back_a_plain_colour(pattern):
    colour = {"r": 200, "g": 120, "b": 30}
    tile = np.array([[colour[pattern[0]], colour[pattern[1]]], [colour[pattern[2]], colour[pattern[3]]]], np.uint8)
    result = rgb_from_image(message(np.tile(tile, (6, 6)), f"bayer_{pattern}8"))
    assert np.array_equal(result[4:-4, 4:-4], np.broadcast_to(np.array([200, 120, 30]), (4, 4, 3)))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"encoding": "argyle7"}, ["argyle7", "rgb8", "bayer_rggb8"]),
        ({"encoding": "32FC1"}, ["32FC1", "mono8"]),
        ({"width": 0}, ["0 x 6", "no pixels"]),
        ({"height": 0}, ["8 x 0", "no pixels"]),
        ({"step": 23}, ["step 23", "24 bytes"]),
        ({"step": 0}, ["step 0", "24 bytes"]),
        ({"height": 7}, ["144 bytes", "168"]),
        ({"data": array.array("B")}, ["0 bytes", "144"]),
    ],
)
def test_what_cannot_be_read_is_named(rgb, changes, words):
    image = message(rgb, "rgb8")
    for name, value in changes.items():
        setattr(image, name, value)
    with pytest.raises(ImageError) as caught:
        rgb_from_image(image)
    assert all(word in str(caught.value) for word in words)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from([*ENCODINGS, "", "rgb9"]),
    st.integers(0, 40),
    st.integers(0, 40),
    st.integers(0, 400),
    st.binary(max_size=3000),
)
def test_any_message_gives_an_rgb_image_or_an_image_error(encoding, width, height, step, data):
    image = Image(width=width, height=height, step=step, encoding=encoding, data=array.array("B", data))
    try:
        rgb = rgb_from_image(image)
    except ImageError as error:
        assert str(error)
    else:
        assert rgb.shape == (height, width, 3) and rgb.dtype == np.uint8


def compressed(data: bytes, form: str = "rgb8; png compressed bgr8") -> CompressedImage:
    return CompressedImage(format=form, data=array.array("B", data))


def test_png_is_exact_and_grey_jpeg_gets_three_channels(rgb):
    png = cv2.imencode(".png", rgb[..., ::-1])[1].tobytes()
    assert np.array_equal(rgb_from_compressed(compressed(png)), rgb)
    jpeg = cv2.imencode(".jpg", np.full((16, 16), 90, np.uint8))[1].tobytes()
    assert np.abs(rgb_from_compressed(compressed(jpeg, "jpeg")).astype(int) - 90).max() <= 1


@pytest.mark.parametrize("data", [b"", b"no image", b"\xff\xd8\xff\xe0" + bytes(40)])
def test_a_damaged_compressed_image_is_named(data):
    with pytest.raises(ImageError, match=f"{len(data)} bytes.*damaged"):
        rgb_from_compressed(compressed(data))


def test_compressed_depth_is_refused():
    with pytest.raises(ImageError, match="not depth"):
        rgb_from_compressed(compressed(b"x", "16UC1; compressedDepth png"))


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=400), st.integers(0, 400))
def test_any_bytes_decode_or_are_refused(noise, position):
    png = bytearray(cv2.imencode(".png", np.zeros((8, 8, 3), np.uint8))[1].tobytes())
    png[position : position + len(noise)] = noise
    try:
        assert rgb_from_compressed(compressed(bytes(png))).shape[2] == 3
    except ImageError as error:
        assert str(error)
