"""The paper's ablations as configurations: Table 6 (adapter, metric depth) and Figure 5 (training strategy)."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from vidllm_ros.model.config import VidLLMConfig
from vidllm_ros.training.losses.distillation import DistillationWeights

BOTH_TEACHERS = DistillationWeights()


class AblationError(ValueError):
    """Ablations that cannot be run as asked."""


@dataclass(frozen=True)
class PaperRow:
    """A row of the paper's Table 6.

    Attributes:
        scanqa: mean of the metrics of ScanQA.
        scan2cap: of Scan2Cap.
        scanrefer: of ScanRefer.
        scannet: F-score of the reconstruction of ScanNet; None where the table has a dash.
    """

    scanqa: float
    scan2cap: float
    scanrefer: float
    scannet: float | None


@dataclass(frozen=True)
class Ablation:
    """The network or its training with one thing changed.

    Attributes:
        title: the paper's name for it.
        adapter: changed values of ``config.adapter``.
        metric_depth: False leaves the Metric Depth Model, and L_MD, out.
        align: False takes the metric depth as it is.
        stage_1: weights of the distillation; None goes straight to stage 2.
        paper: the paper's figures, for rows of Table 6.
        strategy: what the paper's text says of its curve, for those of Figure 5, which has no numbers.
    """

    title: str
    adapter: dict[str, str | int] = field(default_factory=dict)
    metric_depth: bool = True
    align: bool = True
    stage_1: DistillationWeights | None = BOTH_TEACHERS
    paper: PaperRow | None = None
    strategy: str = ""

    def configured(self, config: VidLLMConfig) -> VidLLMConfig:
        """A network's configuration with the change."""
        return replace(
            config,
            adapter=replace(config.adapter, **self.adapter),  # type: ignore[arg-type]
            metric_depth=replace(config.metric_depth, enabled=self.metric_depth),
            scale=replace(config.scale, align=self.align),
        )


ABLATIONS = {
    "paper": Ablation(
        "Vid-LLM: 16 tokens, MD, two stages",
        {"variant": "bridge", "bridge_tokens": 16},
        paper=PaperRow(45.7, 53.2, 48.4, 0.582),
        strategy="the lowest loss",
    ),
    "no-adapter": Ablation("w/o CTA", {"variant": "none"}, paper=PaperRow(33.7, 36.6, 34.1, 0.402)),
    "concat": Ablation("CTA - Concat-SA", {"variant": "concat"}, paper=PaperRow(38.2, 41.9, 39.6, 0.461)),
    "no-bridge": Ablation("CTA - w/o Bridge (CA)", {"variant": "cross"}, paper=PaperRow(40.8, 45.6, 42.2, 0.473)),
    "bridge-4": Ablation("CTA - 4 tokens", {"bridge_tokens": 4}, paper=PaperRow(43.8, 50.9, 47.8, 0.501)),
    "bridge-8": Ablation("CTA - 8 tokens", {"bridge_tokens": 8}, paper=PaperRow(44.1, 52.7, 48.1, 0.529)),
    "bridge-32": Ablation("CTA - 32 tokens", {"bridge_tokens": 32}, paper=PaperRow(45.2, 52.8, 47.6, 0.564)),
    "no-metric": Ablation("w/o MD", metric_depth=False, paper=PaperRow(29.6, 35.7, 33.9, None)),
    "no-alignment": Ablation("MD - w/o Alignment", align=False, paper=PaperRow(42.1, 49.6, 43.2, 0.531)),
    "single-stage": Ablation("Single-stage", stage_1=None, strategy="slow, and a relatively high loss"),
    # The structural term compares the two streams, so it goes with the second teacher.
    "one-teacher": Ablation(
        "Two-Stage (One-Teacher)",
        stage_1=DistillationWeights(language=0.0, structure=0.0),
        strategy="less effective than two teachers",
    ),
    "no-structure": Ablation(
        "Two-Stage (w/o RelaLoss)",
        stage_1=DistillationWeights(structure=0.0),
        strategy="slower and less accurate than with it",
    ),
}


def chosen(names: Sequence[str]) -> list[str]:
    """The named ablations in the paper's order, all without names; the reference is always among them.

    Raises:
        AblationError: a name that there is not.
    """
    for name in names:
        if name not in ABLATIONS:
            near = difflib.get_close_matches(name, ABLATIONS, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise AblationError(f"there is no ablation {name!r}: choose among {', '.join(ABLATIONS)}{hint}")
    return [name for name in ABLATIONS if not names or name in names or name == "paper"]
