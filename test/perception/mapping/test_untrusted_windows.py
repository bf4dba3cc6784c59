"""A window whose images do not bear out its cameras does not enter the map."""

from __future__ import annotations

from dataclasses import replace

from vidllm_ros.perception.pipeline import Pipeline
from vidllm_ros.perception.types import AdjustmentReport, WindowStatus


def test_what_cannot_be_trusted_leaves_no_trace_and_the_stream_goes_on(model, small_config, make_frame):
    doubtful = [True, True, True, False]

    def doubt(window, reconstruction):
        return replace(reconstruction, adjustment=AdjustmentReport(problem="nothing fits" if doubtful.pop(0) else ""))

    config = small_config.replace({"register.reject": True, "refine.enabled": False, "stitch.max_rejections": 1})
    pipeline = Pipeline(model, config, doubt)
    results = []
    for number in range(24):
        window = pipeline.accept(make_frame(number))
        if window is not None and doubtful:
            results.append(pipeline.process(window))
    assert [result.status for result in results] == [WindowStatus.REJECTED] * 3 + [WindowStatus.FIRST]
    assert results[0].reason == "nothing fits"
    assert len(pipeline.path[0]) == 6
