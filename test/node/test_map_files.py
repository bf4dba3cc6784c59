from pathlib import Path

import pytest

from vidllm_ros.node.map_files import allowed_path
from vidllm_ros.perception.errors import SaveError


def test_absolute_paths_are_open_without_a_folder(tmp_path):
    assert allowed_path(str(tmp_path / "map.ply"), "") == tmp_path / "map.ply"


def test_a_relative_path_needs_a_folder(tmp_path):
    with pytest.raises(SaveError, match="absolute path"):
        allowed_path("map.ply", "")
    assert allowed_path("sub/map.ply", str(tmp_path)) == tmp_path.resolve() / "sub" / "map.ply"


@pytest.mark.parametrize("path", ["../map.ply", "/etc/map.ply", "a/../../map.ply", "link/map.ply"])
def test_nothing_leaves_the_folder(tmp_path, path):
    (tmp_path / "maps").mkdir()
    (tmp_path / "maps" / "link").symlink_to(Path("/tmp"))
    with pytest.raises(SaveError, match="outside map.folder"):
        allowed_path(path, str(tmp_path / "maps"))


@pytest.mark.parametrize("path", ["", "  ", "a\0b.ply"])
def test_no_path(path):
    with pytest.raises(SaveError, match="no path"):
        allowed_path(path, "")
