"""WindowResult to WindowInfo."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from std_msgs.msg import Header

from vidllm_ros.msg import WindowInfo
from vidllm_ros.node.conversions import drop_lists, ns_to_stamp
from vidllm_ros.perception.types import ScaleSource, WindowResult, WindowStatus
from vidllm_ros.perception.windows.frames import FrameCounts

_STATUS = {
    WindowStatus.FIRST: WindowInfo.STATUS_FIRST,
    WindowStatus.STITCHED: WindowInfo.STATUS_STITCHED,
    WindowStatus.ANCHORED: WindowInfo.STATUS_ANCHORED,
    WindowStatus.REJECTED: WindowInfo.STATUS_REJECTED,
}
_SCALE = {
    ScaleSource.METRIC: WindowInfo.SCALE_METRIC,
    ScaleSource.EXTERNAL: WindowInfo.SCALE_EXTERNAL,
    ScaleSource.UNRELIABLE: WindowInfo.SCALE_UNRELIABLE,
}
_GRAVITY = {
    "tf": WindowInfo.GRAVITY_TF,
    "floor": WindowInfo.GRAVITY_FLOOR,
    "vertical edges": WindowInfo.GRAVITY_EDGES,
}


def window_info(
    head: Header,
    result: WindowResult,
    counts: FrameCounts,
    dropped: Mapping[str, int],
    *,
    locate_time: float,
    publish_time: float,
    latency: float,
) -> WindowInfo:
    """Describes one window.

    Args:
        head: stamp of the newest frame, map frame.
        result: the window.
        counts: of frames, from the pipeline.
        dropped: images that never became frames, by reason.
        locate_time: seconds.
        publish_time: seconds.
        latency: seconds from the acquisition of the newest frame.
    """
    reconstruction = result.reconstruction
    reasons, drop_counts = drop_lists({**{r.value: n for r, n in counts.dropped.items()}, **dropped})
    to_input = np.linalg.inv(reconstruction.image_to_network)
    confidence = result.point_confidence
    return WindowInfo(
        header=head,
        window_id=result.window_id,
        first_stamp=ns_to_stamp(reconstruction.stamps_ns[0]),
        last_stamp=ns_to_stamp(reconstruction.stamps_ns[-1]),
        frame_count=len(reconstruction.stamps_ns),
        shared_frames=result.window.shared,
        status=_STATUS[result.status],
        reason=result.reason,
        scale_source=_SCALE[result.scale_source],
        scale=reconstruction.scale,
        scale_spread=reconstruction.scale_spread,
        scale_ratio=result.scale_ratio,
        gravity_source=_GRAVITY.get(result.gravity_source, WindowInfo.GRAVITY_ASSUMED),
        mean_confidence=float(confidence.mean()) if len(confidence) else 0.0,
        point_count=len(result.points),
        k=(to_input @ np.median(reconstruction.intrinsics, axis=0)).ravel(),
        received_frames=counts.received + sum(dropped.values()),
        used_frames=counts.used,
        waiting_frames=counts.waiting,
        drop_reasons=reasons,
        drop_counts=drop_counts,
        encode_time=result.timings.encode,
        reconstruct_time=result.timings.reconstruct,
        fuse_time=result.timings.fuse,
        locate_time=locate_time,
        publish_time=publish_time,
        latency=latency,
    )
