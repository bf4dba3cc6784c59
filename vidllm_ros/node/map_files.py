"""``~/save_map``: the map and the trajectory as files."""

from __future__ import annotations

from pathlib import Path

from vidllm_ros.node.parameters.config import NodeConfig
from vidllm_ros.perception.errors import SaveError
from vidllm_ros.perception.mapping.save import save_cloud, save_trajectory
from vidllm_ros.perception.pipeline import Pipeline


def allowed_path(path: str, folder: str) -> Path:
    """Where a request may write.

    Args:
        path: what was asked for; relative to ``folder`` where one is set.
        folder: the ``map.folder`` parameter; "" leaves every absolute path open.

    Raises:
        SaveError: the path leaves the folder, or says nothing about where it is.
    """
    if not path.strip() or "\0" in path:
        raise SaveError("cannot write the map: the path is empty or no path; give one such as /tmp/map.ply")
    try:
        wanted = Path(path).expanduser()
    except RuntimeError as error:  # ~somebody
        raise SaveError(f"cannot write '{path}': {error}") from error
    if not folder:
        if not wanted.is_absolute():
            raise SaveError(
                f"cannot write '{path}': give an absolute path, or set map.folder for relative ones to start from"
            )
        return wanted
    root = Path(folder).expanduser().resolve()
    resolved = (root / wanted).resolve()
    if not resolved.is_relative_to(root):
        raise SaveError(f"cannot write '{path}': it is outside map.folder ({root})")
    return resolved


def save_map(pipeline: Pipeline, name: str, overwrite: bool, config: NodeConfig) -> tuple[str, int]:
    """Writes the cloud to a file and the trajectory beside it as .tum; what was written in words, and the points.

    Args:
        pipeline: holds the map.
        name: the file, as it was asked for.
        overwrite: replace an existing one.
        config: says where files may go, and goes with perception's into the file's header.

    Raises:
        SaveError: there is no map, the path is not allowed, or a file cannot be written.
    """
    path = allowed_path(name, config.map_folder)
    comments = {"frame": config.map_frame, "checkpoint": config.checkpoint, **pipeline.config.values()}
    points, colors = pipeline.map_points()
    if not len(points):
        raise SaveError(f"cannot write '{path}': the map is empty")
    stamps, poses = pipeline.path
    trajectory = path.with_suffix(".tum")
    if trajectory.exists() and not overwrite:
        raise SaveError(f"cannot write '{trajectory}': the file exists; ask to overwrite it or choose another name")
    save_cloud(path, points, colors, comments, overwrite)
    save_trajectory(trajectory, stamps, poses, overwrite)
    return f"wrote {len(points)} points to {path} and {len(stamps)} poses to {trajectory}", len(points)
