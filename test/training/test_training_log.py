"""log.csv, TensorBoard and the page of curves."""

import csv
import sys
import time

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from vidllm_ros.training.training_log import TrainingLog, append_row, draw_curves


def test_a_value_that_comes_later_gets_a_column(tmp_path):
    path = tmp_path / "log.csv"
    for row in ({"step": 1, "loss": "0.5"}, {"step": 2, "blind": "0.3", "loss": "0.4"}, {"step": 3, "loss": "0.2"}):
        append_row(path, row)
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows == [
        {"step": "1", "loss": "0.5", "blind": ""},
        {"step": "2", "loss": "0.4", "blind": "0.3"},
        {"step": "3", "loss": "0.2", "blind": ""},
    ]
    assert [file.name for file in tmp_path.iterdir()] == ["log.csv"]


def seen_by_tensorboard(folder, name: str) -> dict[int, float]:
    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    return {event.step: round(event.value, 4) for event in events.Scalars(name)}


def test_tensorboard_shows_what_the_table_has_after_a_resume_too(tmp_path):
    first = TrainingLog(tmp_path)
    for step in (25, 50, 75):
        first.add(step, 8 * step, 2.0 * step, {"loss": 1 / step})
    first.close()
    time.sleep(1.1)  # its files are read in the order of their names, which begin with the second they were made in
    # Killed after step 75, resumed from the checkpoint of step 50.
    second = TrainingLog(tmp_path)
    for step in (75, 100):
        second.add(step, 8 * step, 2.0 * step, {"loss": 2 / step, "blind": 0.25})
    second.close()
    assert seen_by_tensorboard(tmp_path, "loss") == {25: 0.04, 50: 0.02, 75: 0.0267, 100: 0.02}
    assert seen_by_tensorboard(tmp_path, "blind") == {75: 0.25, 100: 0.25}
    assert seen_by_tensorboard(tmp_path, "frames")[100] == 800


def test_the_page_has_a_curve_for_each_value_and_needs_no_network(tmp_path):
    log = TrainingLog(tmp_path)
    for step in range(25, 101, 25):
        log.add(step, 8 * step, 2.0 * step, {"loss": 1 / step, **({"blind": 0.5} if step == 50 else {})})
    log.close()
    page = (tmp_path / "curves.html").read_text(encoding="utf-8")
    assert len(page) > 1_000_000  # the library itself
    assert '"name":"loss"' in page and '"name":"blind"' in page and '"name":"seconds"' not in page
    assert 'src="http' not in page
    assert not list(tmp_path.glob("*.partial"))


def test_a_long_log_is_thinned(tmp_path):
    lines = ["step,frames,seconds,loss", *(f"{step},{step},{step},0.5" for step in range(9000))]
    (tmp_path / "log.csv").write_text("\n".join(lines) + "\n")
    draw_curves(tmp_path / "log.csv", tmp_path / "curves.html")
    page = (tmp_path / "curves.html").read_text(encoding="utf-8")
    assert '"8995"' in page and '"8996"' not in page  # every fifth row


def test_training_goes_on_without_tensorboard_and_plotly(tmp_path, monkeypatch, capsys):
    for name in ("torch.utils.tensorboard", "plotly.graph_objects"):
        monkeypatch.setitem(sys.modules, name, None)
    log = TrainingLog(tmp_path)
    log.add(25, 200, 50.0, {"loss": 0.1})
    log.add(50, 400, 100.0, {"loss": 0.05})
    log.close()
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 2 and all("pip install 'vidllm_ros[train]'" in line for line in said)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["log.csv"]
