"""The picture of the frames is what its script draws, and shows right-handed frames that agree with the code."""

import runpy

import numpy as np
from places import REPOSITORY

from vidllm_ros.model.vidllm import LEVEL_FROM_OPTICAL

DOCS = REPOSITORY / "docs"


def test_the_picture_is_what_its_script_draws():
    assert runpy.run_path(str(DOCS / "draw_frames.py"))["picture"]() == (DOCS / "frames.svg").read_text()


def test_the_axes_are_those_of_the_code():
    drawn = runpy.run_path(str(DOCS / "draw_frames.py"))
    np.testing.assert_array_equal(drawn["OPTICAL"], LEVEL_FROM_OPTICAL[:3, :3])
    # Seen from outside, the paper's x, y and z turn anticlockwise about the viewer's line of sight when right-handed.
    paper = drawn["PAPER"] * [1, -1]
    assert np.linalg.det(np.array([paper[0], paper[1]])) > 0 and np.linalg.det(np.array([paper[1], paper[2]])) > 0
