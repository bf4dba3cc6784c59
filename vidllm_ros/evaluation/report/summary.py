"""A replay in a few lines of text."""

from __future__ import annotations

from vidllm_ros.evaluation.results import Replay
from vidllm_ros.evaluation.scores import Scores


def summary(made: Replay, scores: Scores) -> str:
    """What came out, in a few lines."""
    stitched = sum(row["status"] == "stitched" for row in made.windows)
    lines = [
        f"frames   {made.published} played, {made.used_frames} used; poses for {len(made.T_map_camera)}",
        f"windows  {len(made.windows)}, {stitched} stitched to the one before",
        f"map      {len(made.points)} points, boxes {len(made.boxes)}",
    ]
    if scores.trajectory:
        t = scores.trajectory
        lines.append(
            f"path     ATE {t.ate_se3:.3f} m with SE(3), {t.ate_sim3:.3f} m with Sim(3) (map {1 / t.scale:.3f} times "
            f"as large); RPE {t.rpe_translation:.3f} m, {t.rpe_rotation:.2f} deg; the camera went {t.true_length:.2f} m"
        )
    if scores.depth:
        lines.append(
            f"depth    AbsRel {scores.depth.abs_rel:.3f}, RMSE {scores.depth.rmse:.3f} m, delta1 "
            f"{scores.depth.delta1:.3f} ({scores.depth_frames} frames); with fitted "
            f"medians AbsRel {scores.depth_fitted.abs_rel:.3f}"
        )
    if scores.map:
        m = scores.map
        lines.append(
            f"cloud    accuracy {m.accuracy:.3f} m, completeness {m.completeness:.3f} m, F at 5 cm {m.f_score:.3f} "
            f"(precision {m.precision:.3f}, recall {m.recall:.3f})"
        )
    if scores.timing and scores.timing.windows.count:
        w = scores.timing.windows
        lines.append(f"latency  of a window {w.p50:.2f} s (90 %: {w.p90:.2f} s, 99 %: {w.p99:.2f} s)")
    lines += [f"box      {b.label}: IoU {b.iou:.2f}, best of any label {b.iou_any:.2f}" for b in scores.boxes[:8]]
    if scores.answers:
        lines.append(f"answers  {scores.answers.exact:.0%} of {len(scores.answers.matched)} known ones match exactly")
    lines += [f"note     {note}" for note in scores.notes]
    for asked in made.asked:
        reply = f"{asked.answer}  (confidence {asked.confidence:.2f})" if not asked.error_code else f"! {asked.message}"
        lines += [f"Q: {asked.question}", f"A: {reply}"]
    return "\n".join(lines)
