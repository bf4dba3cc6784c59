"""From the camera's image to the network's and back."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vidllm_ros.perception.geometry.images import fit_image, image_to_network, to_tensor

SIZES = [
    ((480, 640), (84, 112)),
    ((720, 1280), (84, 112)),
    ((640, 480), (84, 112)),
    ((30, 40), (84, 112)),
    ((84, 112), (84, 112)),
]


@pytest.mark.parametrize(("image_size", "network_size"), SIZES)
def test_a_pixel_is_found_where_the_matrix_says(image_size, network_size):
    """An image whose red is its column and whose green is its row tells where every network pixel came from."""
    height, width = image_size
    v, u = np.mgrid[:height, :width]
    image = np.stack([u * 255 / width, v * 255 / height, np.zeros_like(u)], -1)
    fitted = fit_image(np.rint(image).astype(np.uint8), network_size)
    assert fitted.shape == (*network_size, 3)
    back = np.linalg.inv(image_to_network(image_size, network_size))
    for row, column in ((10, 10), (network_size[0] // 2, network_size[1] // 2), (network_size[0] - 10, 20)):
        expected = back @ [column, row, 1]
        found = fitted[row, column, :2] * np.array([width, height]) / 255
        np.testing.assert_allclose(found, expected[:2], atol=max(width, height) / 255 + 0.5)


@pytest.mark.parametrize(("image_size", "network_size"), SIZES)
def test_the_image_fills_the_network_and_its_centre_stays_the_centre(image_size, network_size):
    matrix = image_to_network(image_size, network_size)
    centre = matrix @ [(image_size[1] - 1) / 2, (image_size[0] - 1) / 2, 1]
    np.testing.assert_allclose(centre[:2], [(network_size[1] - 1) / 2, (network_size[0] - 1) / 2], atol=0.51)
    back = np.linalg.inv(matrix)
    corners = np.array([[-0.5, -0.5, 1], [network_size[1] - 0.5, network_size[0] - 0.5, 1]]) @ back.T
    assert (corners[:, :2] >= -0.51).all()
    assert corners[1, 0] <= image_size[1] and corners[1, 1] <= image_size[0]


def test_a_ray_stays_a_ray():
    """The direction of a pixel by the image's K is that of the mapped pixel by the network's K."""
    K = np.array([[525.0, 0, 319.5], [0, 520.0, 239.5], [0, 0, 1]])
    matrix = image_to_network((480, 640), (84, 112))
    pixel = np.array([123.0, 400.0, 1.0])
    np.testing.assert_allclose(np.linalg.inv(matrix @ K) @ (matrix @ pixel), np.linalg.inv(K) @ pixel, atol=1e-12)


def test_the_same_size_is_left_alone():
    image = np.random.default_rng(0).integers(0, 256, (84, 112, 3), np.uint8)
    np.testing.assert_array_equal(fit_image(image, (84, 112)), image)
    np.testing.assert_allclose(image_to_network((84, 112), (84, 112)), np.eye(3), atol=1e-15)


def test_images_that_are_views_with_any_stride_work():
    image = np.random.default_rng(0).integers(0, 256, (100, 200, 3), np.uint8)
    flipped = image[::-1, ::-1]
    np.testing.assert_array_equal(fit_image(flipped, (84, 112)), fit_image(flipped.copy(), (84, 112)))


def test_to_tensor():
    images = [np.full((2, 3, 3), value, np.uint8) for value in (0, 51, 255)]
    tensor = to_tensor(images, torch.device("cpu"))
    assert tensor.shape == (3, 3, 2, 3) and tensor.dtype == torch.float32
    torch.testing.assert_close(tensor[:, 0, 0, 0], torch.tensor([0.0, 0.2, 1.0]))
