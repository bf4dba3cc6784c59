"""Ground truth of a recording, wherever it is kept: beside the bag, in its TF, in a TUM file, in a folder's index."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from scipy.spatial.transform import Rotation

from vidllm_ros.evaluation.errors import BagError, EvaluationError
from vidllm_ros.evaluation.recordings import messages
from vidllm_ros.evaluation.recordings.bags import RAW_IMAGE, Bag, stamp_ns
from vidllm_ros.evaluation.recordings.folders import FrameFolder
from vidllm_ros.evaluation.recordings.odometry import camera_path
from vidllm_ros.evaluation.recordings.trajectory_files import read_tum
from vidllm_ros.evaluation.recordings.transforms import TransformTree
from vidllm_ros.evaluation.recordings.true_cloud import from_depth, read_cloud
from vidllm_ros.model.outputs import Box3D

BESIDE = "ground_truth"  # folder beside or inside a bag


@dataclass(frozen=True, eq=False)
class GroundTruth:
    """What is known to be true. Every part may be missing.

    Attributes:
        sources: for each known part, in words, where it came from.
        stamps_ns: int64 [M].
        T_world_camera: float64 [M, 4, 4]; world is z up.
        boxes: in the same world, or None when unknown (an empty tuple says that there are none).
        answers: accepted answers by question.
        depth: by stamp, what loads the depth image as float32 [H, W] metres, 0 or NaN where unknown.
        cloud: what loads the place as float64 [N, 3] metres in the same world; None when unknown.
    """

    sources: dict[str, str] = field(default_factory=dict)
    stamps_ns: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    T_world_camera: np.ndarray = field(default_factory=lambda: np.zeros((0, 4, 4)))
    boxes: tuple[Box3D, ...] | None = None
    answers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    depth: Mapping[int, Callable[[], np.ndarray]] = field(default_factory=dict)
    cloud: Callable[[], np.ndarray] | None = None

    @property
    def known(self) -> bool:
        """Whether anything is."""
        return bool(self.sources)


@dataclass(frozen=True)
class TruthFiles:
    """Truth that is named part by part; each part stands above what is found elsewhere.

    Attributes:
        odometry: topic of ``nav_msgs/Odometry`` in the bag.
        boxes: file, see ``read_boxes``.
        questions: file, see ``read_questions``.
        cloud: mesh or cloud file in the true world.
    """

    odometry: str = ""
    boxes: Path | None = None
    questions: Path | None = None
    cloud: Path | None = None


def load(recording: Bag | FrameFolder, given: str | Path | None = None, files: TruthFiles | None = None) -> GroundTruth:
    """Everything that is known about a recording.

    Args:
        recording: an open bag or folder.
        given: a TUM trajectory file, or a folder like ``ground_truth``; None to look where truth usually is: a folder
            ``ground_truth`` inside or beside the recording, the index of a frame folder, TF above the camera's frame
            and depth topics.
        files: single parts that replace what ``given`` or the recording says.

    Raises:
        EvaluationError: ``given`` does not exist or a truth file is damaged.
    """
    found = _found(recording, given)
    return _with_cloud(_merged(_named(recording, files), found) if files else found, recording)


def _found(recording: Bag | FrameFolder, given: str | Path | None) -> GroundTruth:
    if given is not None:
        given = Path(given)
        if given.is_dir():
            return from_files(given)
        stamps, poses = read_tum(given)
        return GroundTruth({"trajectory": str(given)}, stamps, poses)
    found = from_folder(recording) if isinstance(recording, FrameFolder) else from_bag(recording)
    for folder in (recording.path / BESIDE, recording.path.parent / BESIDE):
        if folder.is_dir():
            return _merged(from_files(folder), found)
    return found


def _named(recording: Bag | FrameFolder, files: TruthFiles) -> GroundTruth:
    sources: dict[str, str] = {}
    stamps, poses = np.zeros(0, dtype=np.int64), np.zeros((0, 4, 4))
    if files.odometry:
        if isinstance(recording, FrameFolder):
            raise BagError(f"{recording.path} is a folder of frames and has no topic {files.odometry}.")
        stamps, poses = camera_path(recording, files.odometry)
        sources["trajectory"] = f"odometry {files.odometry}"
    boxes = read_boxes(files.boxes) if files.boxes else None
    answers = read_questions(files.questions) if files.questions else {}
    for part, path in (("boxes", files.boxes), ("answers", files.questions), ("map", files.cloud)):
        if path:
            sources[part] = str(path)
    cloud = None
    if path := files.cloud:
        if not path.is_file():
            raise EvaluationError(f"there is no cloud at {path}.")
        cloud = lambda: read_cloud(path)  # noqa: E731
    return GroundTruth(sources, stamps, poses, boxes, answers, cloud=cloud)


def _with_cloud(truth: GroundTruth, recording: Bag | FrameFolder) -> GroundTruth:
    """The same, with a cloud lifted from true depth along true poses where no cloud was given."""
    if truth.cloud is not None or not truth.depth or not len(truth.stamps_ns):
        return truth
    if (camera := _intrinsics(recording)) is None:
        return truth

    def cloud() -> np.ndarray:
        matrix, width = camera
        # an image of another size saw the same view
        scale = next(iter(truth.depth.values()))().shape[1] / width
        K = np.diag([scale, scale, 1.0]) @ matrix
        return from_depth(truth.depth, K, truth.stamps_ns, truth.T_world_camera)

    return replace(truth, sources={**truth.sources, "map": "true depth along true poses"}, cloud=cloud)


def _intrinsics(recording: Bag | FrameFolder) -> tuple[np.ndarray, int] | None:
    """The colour camera's matrix [3, 3], and the width of its images."""
    info = next((frame.camera_info for frame in recording.frames()), None)
    if info is None or recording.camera_info_topic is None:
        return None
    message = recording.decode(info, recording.camera_info_topic)
    matrix = np.array(message.k, dtype=np.float64).reshape(3, 3)
    return (matrix, int(message.width)) if matrix[0, 0] > 0 and message.width else None


def from_folder(folder: FrameFolder) -> GroundTruth:
    """Truth in a frame folder's index, see ``folders``."""
    poses, sources = folder.poses(), {}
    if poses:
        sources["trajectory"] = "poses in frames.json"
    boxes = read_boxes(folder.path / "boxes_gt.json") if (folder.path / "boxes_gt.json").exists() else None
    if boxes is not None:
        sources["boxes"] = "boxes_gt.json"
    if depth := folder.depth():
        sources["depth"] = "depth images of the folder"
    stamps = np.array(list(poses), dtype=np.int64)
    return GroundTruth(sources, stamps, np.array(list(poses.values())).reshape(-1, 4, 4), boxes, {}, depth)


def from_bag(bag: Bag) -> GroundTruth:
    """The camera's way according to TF, where something above its frame moves, and raw depth images of its size."""
    transforms: dict[str, list[Any]] = {"/tf": [], "/tf_static": []}
    for topic, _, data in bag.messages(*transforms):
        transforms[topic].extend(bag.decode(data, topic).transforms)
    tree = TransformTree(transforms["/tf"], transforms["/tf_static"])
    sources: dict[str, str] = {}
    stamps, poses = [], []
    frame_id = ""
    for frame in bag.frames() if transforms["/tf"] else ():
        frame_id = frame_id or str(bag.decode(frame.image, bag.image_topic).header.frame_id)
        if (pose := tree.lookup(frame_id, frame.stamp_ns)) is not None:
            stamps.append(frame.stamp_ns)
            poses.append(pose)
    if poses and tree.moves(frame_id):
        sources["trajectory"] = f"TF {tree.root(frame_id)} -> {frame_id}"
    else:
        stamps, poses = [], []
    depth = _depth_topic(bag)
    if depth:
        sources["depth"] = "depth topic of the bag"
    return GroundTruth(sources, np.array(stamps, dtype=np.int64), np.array(poses).reshape(-1, 4, 4), depth=depth)


def from_files(folder: Path) -> GroundTruth:
    """Truth in files: ``trajectory.tum``, ``boxes.json``, ``questions.json``, ``cloud.ply``; each may be missing."""
    sources: dict[str, str] = {}
    stamps, poses = np.zeros(0, dtype=np.int64), np.zeros((0, 4, 4))
    if (folder / "trajectory.tum").exists():
        stamps, poses = read_tum(folder / "trajectory.tum")
        sources["trajectory"] = "ground_truth/trajectory.tum"
    boxes = None
    if (folder / "boxes.json").exists():
        boxes = read_boxes(folder / "boxes.json")
        sources["boxes"] = "ground_truth/boxes.json"
    answers: dict[str, tuple[str, ...]] = {}
    if (folder / "questions.json").exists():
        answers = read_questions(folder / "questions.json")
        sources["answers"] = "ground_truth/questions.json"
    cloud = None
    if (path := folder / "cloud.ply").exists():
        cloud = lambda: read_cloud(path)  # noqa: E731
        sources["map"] = "ground_truth/cloud.ply"
    return GroundTruth(sources, stamps, poses, boxes, answers, cloud=cloud)


def _merged(first: GroundTruth, second: GroundTruth) -> GroundTruth:
    """Each part from ``first`` where it has it, else from ``second``."""
    way = first if len(first.stamps_ns) else second
    return GroundTruth(
        sources={**second.sources, **first.sources},
        stamps_ns=way.stamps_ns,
        T_world_camera=way.T_world_camera,
        boxes=second.boxes if first.boxes is None else first.boxes,
        answers=first.answers or second.answers,
        depth=first.depth or second.depth,
        cloud=first.cloud or second.cloud,
    )


def read_boxes(path: str | Path) -> tuple[Box3D, ...]:
    """Boxes of a JSON file: a list, or ``{"boxes": list}``, of ``label``, ``center``, ``size``/``size_full``, ``yaw``.

    The turn about z may also be given as ``yaw_rad`` (radians as well) or as a 3 x 3 ``rotation``. Boxes whose
    ``pixels`` is 0 were never in view and are left out.
    """
    content = _json(Path(path))
    rows = content.get("boxes") if isinstance(content, dict) else content
    try:
        return tuple(_box(row) for row in rows if row.get("pixels", 1))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise EvaluationError(f"{path} holds no boxes with label, center, size and yaw: {error!r}") from error


def read_questions(path: str | Path) -> dict[str, tuple[str, ...]]:
    """Accepted answers by question, from JSON or YAML.

    A list, or ``{"questions": list}``, of ``question`` with ``answer`` (one) or ``answers`` (several).
    """
    path = Path(path)
    content = _yaml(path) if path.suffix in (".yaml", ".yml") else _json(path)
    rows = content.get("questions") if isinstance(content, dict) else content
    try:
        accepted = {row["question"]: row["answers"] if "answers" in row else [row["answer"]] for row in rows}
        if any(isinstance(answers, str) or not answers for answers in accepted.values()):
            raise TypeError("answers must be a list of at least one")
        return {str(question): tuple(map(_word, answers)) for question, answers in accepted.items()}
    except (KeyError, TypeError) as error:
        raise EvaluationError(f"{path} holds no list of questions and answers: {error!r}") from error


def _box(row: dict[str, Any]) -> Box3D:
    if "rotation" in row:
        rotation = np.array(row["rotation"], dtype=np.float64).reshape(3, 3)
    else:
        rotation = Rotation.from_euler("z", float(row.get("yaw", row.get("yaw_rad", 0.0)))).as_matrix()
    center = np.array(row["center"], dtype=np.float64).reshape(3)
    size = np.array(row.get("size", row.get("size_full")), dtype=np.float64).reshape(3)
    return Box3D(center, size, rotation, str(row["label"]), float(row.get("score", 1.0)))


def _word(value: Any) -> str:
    """An answer as text; YAML reads a bare yes or no as a truth value."""
    return ("yes" if value else "no") if isinstance(value, bool) else str(value)


def _yaml(path: Path) -> Any:
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise EvaluationError(f"{path} cannot be read: {error}") from error


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise EvaluationError(f"{path} cannot be read: {error}") from error


def _depth_topic(bag: Bag) -> dict[int, Callable[[], np.ndarray]]:
    """Depth images of the first raw image topic whose name says depth."""
    names = [t.name for t in bag.topics.values() if t.type == RAW_IMAGE and t.count and "depth" in t.name.lower()]
    if not names:
        return {}

    def loader(log_time: int) -> Callable[[], np.ndarray]:
        return lambda: messages.depth_image(bag.decode(bag.message_at(names[0], log_time), names[0]))

    return {stamp_ns(bag.decode(data, topic)): loader(time) for topic, time, data in bag.messages(names[0])}
