import base64
import io
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
import replay_maker

from vidllm_ros.evaluation.recordings.truth import GroundTruth
from vidllm_ros.evaluation.report import images, scene3d
from vidllm_ros.evaluation.report import page as report
from vidllm_ros.evaluation.report.summary import summary
from vidllm_ros.evaluation.results import AskedQuestion, Replay
from vidllm_ros.evaluation.scores import Scores, score


class Page(HTMLParser):
    """Text, and every address the page points to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.addresses += [value for name, value in attributes if name in ("src", "href")]
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("script", "style"):
            self.text += data


def write(tmp_path, made, truth=None) -> tuple[Page, str]:
    path = report.write_report(
        tmp_path / "report.html", made, score(made, truth or GroundTruth()), truth, made.lacking()
    )
    text = path.read_text(encoding="utf-8")
    return Page(text), text


def test_the_page_needs_nothing_else_and_stays_small(tmp_path):
    rng = np.random.default_rng(0)
    cloud = {"points": rng.uniform(-3, 3, (300_000, 3)), "colors": rng.integers(0, 255, (300_000, 3), dtype=np.uint8)}
    page, text = write(tmp_path, replay_maker.replay(**cloud), replay_maker.truth())
    assert page.addresses and all(address.startswith("data:image/") for address in page.addresses)
    assert not page.open
    assert len(text) < 8_000_000
    assert images.Image.open(tmp_path / "map.png").width == 1000


def test_the_page_shows_answers_errors_and_what_nano_is(tmp_path):
    page, _ = write(tmp_path, replay_maker.replay(), replay_maker.truth())
    words = " ".join(page.text.split())
    for expected in (
        "How many chairs are there?",
        "one",
        "right",
        "ATE, SE(3)",
        "chair",
        "2, 1 stitched",
        "no depth published",
    ):
        assert expected in words
    assert "trained on procedural rooms only" in words
    other, _ = write(tmp_path, replay_maker.replay(settings={"model": "large", "command": "", "machine": ""}))
    assert "procedural" not in other.text and "ground truth" not in other.text


def test_text_from_outside_cannot_become_markup(tmp_path):
    evil = "</script><script>alert(1)</script><b>"
    asked = (AskedQuestion(evil, evil, 0.5),)
    box = replay_maker.Box3D(np.zeros(3), np.ones(3), label=evil, score=0.5)
    page, text = write(tmp_path, replay_maker.replay(asked=asked, boxes=(box,)))
    assert "<script>alert" not in text and not page.open
    assert page.text.count(evil) >= 3


def test_a_replay_of_nothing_still_makes_a_page_that_says_so(tmp_path):
    nothing = Replay(
        {"name": "x", "topic": "/t", "frames": 3, "size": "8 x 6", "duration": 0.1},
        {"model": "nano", "command": "", "machine": ""},
        *(np.zeros(shape) for shape in (0, (0, 4, 4), (0, 3), (0, 3))),
        published=3,
    )
    page, _ = write(tmp_path, nothing)
    assert "Points missing: the map has no finite points" in page.text
    assert "No window was finished" in page.text


def test_without_plotly_the_page_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "_plotly", lambda: "")
    page, text = write(tmp_path, replay_maker.replay())
    assert "pip install plotly" in page.text and "<script" not in text


def test_the_scene_holds_points_path_and_boxes_where_they_are():
    made = replay_maker.replay()
    figure = scene3d.figure(made, None, ())
    json.dumps(figure, allow_nan=False)
    traces = {trace["name"]: trace for trace in figure["data"] if "name" in trace}

    def xyz(trace):
        columns = (np.frombuffer(base64.b64decode(trace[a]["bdata"]), "<f4") for a in "xyz")
        return np.stack(list(columns), axis=1)

    np.testing.assert_allclose(xyz(traces["camera path"]), made.T_map_camera[:, :3, 3], atol=1e-6)
    low, high = xyz(traces["map"]), xyz(traces["map above the camera"])
    assert len(low) + len(high) == 500 and low[:, 2].max() < high[:, 2].min()
    wires = xyz(traces["chair"])
    corners = np.unique(np.round(wires[~np.isnan(wires[:, 0])], 4), axis=0)
    assert len(corners) == 8
    np.testing.assert_allclose(corners.mean(axis=0), made.boxes[0].center, atol=1e-4)


def test_every_edge_of_a_box_is_drawn_once():
    corners = replay_maker.Box3D(np.zeros(3), np.array([1.0, 2.0, 3.0])).corners()
    lengths = sorted(float(np.linalg.norm(corners[a] - corners[b])) for a, b in scene3d._EDGES)
    assert lengths == [1.0] * 4 + [2.0] * 4 + [3.0] * 4


def test_map_from_above_shows_things_in_their_place():
    red = np.array([[1.0, 0.0, 0.0]] * 50), np.array([[255, 0, 0]] * 50, np.uint8)
    blue = np.array([[-1.0, 1.0, 0.0]] * 50), np.array([[0, 0, 255]] * 50, np.uint8)
    picture = images.top_down(np.concatenate([red[0], blue[0]]), np.concatenate([red[1], blue[1]]), np.zeros((0, 4, 4)))

    def centre(color):
        rows, columns = np.nonzero((np.abs(picture.astype(int) - color) < 40).all(axis=2))
        return columns.mean(), rows.mean()

    (red_x, red_y), (blue_x, blue_y) = centre([255, 0, 0]), centre([0, 0, 255])
    assert red_x > blue_x and red_y > blue_y  # x to the right, y up
    assert (red_x - blue_x) / (red_y - blue_y) == pytest.approx(2.0, rel=0.02)


def test_points_above_the_camera_are_left_out_from_above():
    poses = np.tile(np.eye(4), (2, 1, 1))
    shown = images.below_ceiling(np.array([[0, 0, 0.2], [0, 0, 0.9]]), poses)
    assert shown.tolist() == [True, False]


def test_depth_colours():
    depth = np.array([[1.0, 3.0, 0.0, np.nan, np.inf, 9.0]])
    near, far, *unknown, beyond = images.colorize_depth(depth, 1.0, 3.0)[0]
    assert near[0] > near[2] and far[2] >= far[0]  # near is red, far is blue
    assert all((value == 224).all() for value in unknown)
    np.testing.assert_array_equal(beyond, far)


def test_pictures_survive_encoding():
    picture = np.random.default_rng(0).integers(0, 255, (5, 7, 3), dtype=np.uint8)
    np.testing.assert_array_equal(np.asarray(images.Image.open(io.BytesIO(images.encode(picture)))), picture)
    assert images.data_uri(picture, "jpeg").startswith("data:image/jpeg;base64,/9j/")
    assert images.resize(picture, 14).shape == (10, 14, 3)


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (float("nan"), "–"), (0.012345, "0.0123"), (12345.6, "12,346"), (1e-15, "0"), (2.0, "2")],
)
def test_figures_are_short(value, text):
    assert report.figure(value) == text


def test_timings_are_medians_and_maxima():
    rows = report.timings([replay_maker.window(k) for k in range(3)])
    assert [(r["name"], r["median"], round(r["max"], 6)) for r in rows][1] == ("reconstruct", 0.5, 0.6)
    assert report.timings([]) == []


def test_summary_says_what_came_out():
    truth = replay_maker.truth()
    made = replay_maker.replay()
    text = summary(made, score(made, truth))
    for line in (
        "frames   12 played, 12 used; poses for 12",
        "windows  2, 1 stitched",
        "box      chair: IoU 1.00",
        "A: one  (confidence 0.80)",
    ):
        assert line in text
    refused = replay_maker.replay(asked=(AskedQuestion("Why?", "", error_code=903, message="no window yet"),))
    assert "Q: Why?\nA: ! no window yet" in summary(refused, Scores())


def test_templates_are_complete():
    source = (report.TEMPLATES / "report.html").read_text(encoding="utf-8")
    assert not re.findall(r"https?://", source)
    assert Scores().to_json() == {"sources": {}, "notes": []}


def test_errors_along_the_way_and_missed_limits_are_shown(tmp_path):
    made, true = replay_maker.replay(), replay_maker.truth(cloud=lambda: replay_maker.replay().points)
    missed = ["map.f_score>=0.9 is missed: it is 0.1"]
    page = report.write_report(tmp_path / "report.html", made, score(made, true), true, missed=missed).read_text()
    assert "Errors along the way" in page and "map F-score" in page and "map.f_score&gt;=0.9 is missed" in page
    drawn = json.loads(re.search(r'id="over_time-data">(.*?)</script>', page).group(1))
    assert [trace["name"] for trace in drawn["data"]] == ["position", "orientation"] and len(
        drawn["data"][0]["x"]
    ) == 12
    without = report.write_report(tmp_path / "report.html", made, Scores()).read_text()
    assert "Errors along the way" not in without
