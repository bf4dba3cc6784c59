import numpy as np
import pytest
from bag_maker import header
from places import REPOSITORY

from vidllm_ros.evaluation.errors import BagError
from vidllm_ros.evaluation.recordings import messages
from vidllm_ros.evaluation.recordings.bags import Bag
from vidllm_ros.evaluation.recordings.result_bag import ResultBag, message_types

PACKAGES = {"vision_msgs": REPOSITORY / "tools" / "vision_msgs" / "msg", "vidllm_ros": REPOSITORY / "msg"}


@pytest.fixture(scope="module")
def types():
    return message_types(PACKAGES)


def detections(types):
    t = types.types
    pose = t["geometry_msgs/msg/Pose"](
        t["geometry_msgs/msg/Point"](1.0, 2.0, 3.0), t["geometry_msgs/msg/Quaternion"](0.0, 0.0, 0.0, 1.0)
    )
    covariance = t["geometry_msgs/msg/PoseWithCovariance"](pose, np.zeros(36))
    results = [
        t["vision_msgs/msg/ObjectHypothesisWithPose"](t["vision_msgs/msg/ObjectHypothesis"](name, score), covariance)
        for name, score in (("lamp", 0.2), ("chair", 0.7))
    ]
    box = t["vision_msgs/msg/BoundingBox3D"](pose, t["geometry_msgs/msg/Vector3"](0.4, 0.5, 0.6))
    detection = t["vision_msgs/msg/Detection3D"](header(0), results, box, "")
    return t["vision_msgs/msg/Detection3DArray"](header(0), [detection])


def test_our_types_can_be_read_back_from_the_bag_alone(tmp_path, types):
    kind = "vision_msgs/msg/Detection3DArray"
    with ResultBag(tmp_path / "bag", types) as bag:
        bag.write("/vidllm/detections", kind, 5, types.serialize_cdr(detections(types), kind))
        image = types.types["sensor_msgs/msg/Image"](header(0), 1, 1, "rgb8", 0, 3, np.zeros(3, np.uint8))
        bag.write("/image", "sensor_msgs/msg/Image", 6, types.serialize_cdr(image, "sensor_msgs/msg/Image"))
    with Bag(tmp_path / "bag") as read:
        assert read.topics["/vidllm/detections"].type == kind
        data = read.message_at("/vidllm/detections", 5)
        box = messages.boxes(read.decode(data, "/vidllm/detections"))[0]
    assert (box.label, box.score) == ("chair", 0.7)
    np.testing.assert_allclose(box.center, [1, 2, 3])
    np.testing.assert_allclose(box.size, [0.4, 0.5, 0.6])


def test_our_window_description_is_a_known_type(types):
    fields = types.types["vidllm_ros/msg/WindowInfo"].__dataclass_fields__
    assert {"window_id", "status", "used_frames", "reconstruct_time"} <= set(fields)


def test_a_bag_is_never_overwritten(tmp_path, types):
    (tmp_path / "bag").mkdir()
    with pytest.raises(BagError, match="exists"):
        ResultBag(tmp_path / "bag", types)
