"""Furnished rooms: models from archives, placement, and a renderer whose depth is exact."""

import json
import zipfile

import numpy as np
import pytest

from vidllm_ros.training.metric_depth.render import furnished_views
from vidllm_ros.training.rooms.camera_path import camera_pose, intrinsic_matrix
from vidllm_ros.training.rooms.furnished.assets import catalogue, convert
from vidllm_ros.training.rooms.furnished.light import SoftRenderer
from vidllm_ros.training.rooms.furnished.scene import Furnisher, Scene
from vidllm_ros.training.rooms.furnished.wavefront import read_model

# A flight of one step: the front half, at negative z, is half as high. One face is glass.
STEP = """mtllib step.mtl
v -1 0 -1
v 1 0 -1
v 1 0 1
v -1 0 1
v -1 2 1
v 1 2 1
v -1 1 -1
v 1 1 -1
vt 0 0
vt 1 0
vt 1 1
vt 0 1
usemtl wood
f 1/1 2/2 3/3 4/4
f -1 -2 -4 -3
usemtl glass
f 3 4 5 6
"""
MATERIALS = """newmtl wood
Kd 0.5 0.25 0.125
map_Kd wood.png
newmtl glass
Kd 1 1 1
d 0.2
"""


def entry(number: int, name: str, category: str, size: tuple[float, float, float], elevation: float = 0.0) -> str:
    lines = {"name": name, "category": category, "model": "/step/step.obj", "elevation": elevation * 100}
    lines |= dict(zip(("width", "depth", "height"), (side * 100 for side in size), strict=True))
    return "".join(f"{key}#{number}={value}\n" for key, value in lines.items())


@pytest.fixture(scope="module")
def assets(tmp_path_factory):
    import cv2

    folder = tmp_path_factory.mktemp("assets")
    wood = np.random.default_rng(0).integers(0, 255, (32, 32, 3), dtype=np.uint8)
    with zipfile.ZipFile(folder / "Small.sh3f", "w") as archive:
        text = entry(1, "Desk", "Office", (1.2, 0.6, 0.75)) + entry(2, "Chair", "Office", (0.5, 0.5, 0.9))
        text += entry(3, "Cup", "Kitchen", (0.1, 0.1, 0.1)) + entry(4, "Window", "Doors and windows", (1, 0.1, 1), 1.0)
        text += entry(5, "Truck", "Vehicles", (3, 8, 3)) + entry(6, "Rug", "Living room", (2, 1, 0.02))
        archive.writestr("PluginFurnitureCatalog.properties", text)
        archive.writestr("step/step.obj", STEP)
        archive.writestr("step/step.mtl", MATERIALS)
        archive.writestr("step/wood.png", cv2.imencode(".png", wood)[1].tobytes())
    assert convert([folder / "Small.sh3f"], folder) == 5
    return folder


def test_models_get_their_listed_size_and_our_axes(assets):
    with zipfile.ZipFile(assets / "Small.sh3f") as archive:
        assert [piece["name"] for piece in catalogue(archive)] == ["Desk", "Chair", "Cup", "Window", "Truck", "Rug"]
        model = read_model(archive, "step/step.obj", (1.2, 0.6, 0.75), np.eye(3))
    used = model.vertices[np.unique(model.triangles)]
    # The glass is left out, and with it nothing of the step's extent.
    np.testing.assert_allclose(used.min(axis=0), [-0.6, -0.3, 0])
    np.testing.assert_allclose(used.max(axis=0), [0.6, 0.3, 0.375 * 2])
    # z of the file points to the front, our y to the back.
    back = model.vertices[[6, 7]]
    np.testing.assert_allclose(back[:, 1], 0.3)
    np.testing.assert_allclose(model.colours[0], [0.5, 0.25, 0.125])
    assert model.textures[0] == "step/wood.png" and model.uv.shape == (len(model.triangles), 3, 2)


def test_the_catalogue_says_where_pieces_come_from(assets):
    pieces = json.loads((assets / "catalogue.json").read_text())
    assert {p["name"] for p in pieces} == {"Desk", "Chair", "Cup", "Window", "Rug"}
    assert all(p["library"] == "Small" for p in pieces)


def test_rooms_repeat_themselves_and_leave_floor_free(assets):
    furnisher = Furnisher(assets)
    for seed in range(5):
        one, two = (furnisher.draw(np.random.default_rng(seed)) for _ in range(2))
        assert one.clear.mean() >= 0.2 and len(one.parts) == len(two.parts) > 6
        for a, b in zip(one.parts, two.parts, strict=True):
            np.testing.assert_array_equal(a[0], b[0])
        assert max(part[3].max() for part in one.parts) < len(one.colours) == len(one.textures) == len(one.glow)


def test_depth_of_a_plain_box_is_exact_and_light_is_finite():
    scene = Scene((4.0, 3.0, 2.5), np.ones((60, 80), bool))
    grey, lamp = scene.material(np.full(3, 0.5)), scene.material(np.ones(3), glow=4.0)
    x, y, z = np.diag([4.0, 3.0, 2.5])
    origin = np.zeros(3)
    for corner, along, up in ((origin, x, y), (z, x, y), (origin, x, z), (x, y, z), (x + y, -x, z), (y, -y, z)):
        scene.quad(corner, along, up, grey, None)
    scene.quad(np.array([1.5, 1.0, 2.49]), x / 4, y / 3, lamp, None)
    intrinsics = intrinsic_matrix((42, 56), 70.0)
    pose = camera_pose(np.array([1.0, 1.5, 1.2]), 0.0, 0.0, 0.0)
    rgb, depth = SoftRenderer(scene).render(pose, intrinsics, (42, 56), np.random.default_rng(0))
    assert rgb.shape == (3, 42, 56) and np.isfinite(rgb).all() and (rgb >= 0).all() and rgb.mean() > 0.01
    # The wall ahead is 3 m away wherever it is seen.
    np.testing.assert_allclose(depth[21, 24:32], 3.0, rtol=1e-5)
    floor = 1.2 * intrinsics[1, 1] / (41 - 21)
    assert depth[41, 28] == pytest.approx(min(floor, 3.0), rel=1e-4)


def test_views_have_depth_and_a_lens(assets):
    render = furnished_views(assets)
    (rgb, depth, focal), *_ = render(3, "val", 2)
    assert rgb.dtype == np.uint8 and depth.min() > 0 and 0.41 < focal < 1.13 and rgb.std() > 2
