"""A scene as the reasoning branch is trained on it: tokens where the network puts them, and what may be asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vidllm_ros.model.outputs import GeometryOutput, SceneTokens
from vidllm_ros.model.reasoning.boxes import box_vectors
from vidllm_ros.model.vidllm import VidLLM, scene_poses
from vidllm_ros.training.losses.auxiliary import at_patch_centres
from vidllm_ros.training.losses.grounding import Surroundings
from vidllm_ros.training.processes import in_float32
from vidllm_ros.training.rooms import LABELS, box_in_scene, scene_from_world, visible_boxes
from vidllm_ros.training.rooms.materials import COLOURS
from vidllm_ros.training.sample import Sample

COLOR_NAMES = tuple(COLOURS)
Question = tuple[str, str, list[int]]


@dataclass(frozen=True, eq=False)
class ReconstructedScene:
    """A room as the frozen network sees it.

    Attributes:
        placed: T semantic tokens at their points, before the position embedding.
        shown: int64 [T] index of the box that each token shows, -1 for walls, floor and ceiling.
        boxes: [A, 7] all boxes of the room in the scene frame: centre, size, yaw.
        classes: int64 [A] their classes, as indices into ``LABELS``.
        colors: int64 [A] their colours, as indices into ``COLOR_NAMES``, -1 for none.
        pairs: (question, answer, indices of the boxes it names) for each text task.
        by_label: indices of the visible boxes of each class.
    """

    placed: SceneTokens
    shown: Tensor
    boxes: Tensor
    classes: Tensor
    colors: Tensor
    pairs: list[Question]
    by_label: dict[str, list[int]]

    def shown_at(self, positions: Tensor) -> Tensor:
        """int64 [Q] index of the box that the token nearest to each of [Q, 3] shows, -1 for none."""
        if not len(self.shown):  # a young network can put every patch out of range
            return self.shown.new_full((len(positions),), -1)
        return self.shown[torch.cdist(positions, self.placed.positions.float()).argmin(dim=1)]

    def looked_up(self, values: Tensor, shown: Tensor) -> Tensor:
        """``values`` [A] of the boxes that are shown, int64 [Q]; -1 where none is."""
        return torch.cat([values, values.new_tensor([-1])])[shown]

    def surroundings(self, seeds: Tensor, named: list[list[int]]) -> Surroundings:
        """What seeds [Q, 3] show, beside the boxes that each phrase names."""
        return Surroundings(self.boxes, self.shown_at(seeds), named)


def scene_boxes(sample: Sample) -> Tensor:
    """Box vectors of all boxes of a sample in the scene frame, float32 [A, 7]."""
    T_scene_world = scene_from_world(sample.T_world_camera)
    return torch.from_numpy(box_vectors([box_in_scene(box, T_scene_world) for box in sample.boxes])).float()


@in_float32
def reconstructed_scene(model: VidLLM, output: GeometryOutput, batch: int, sample: Sample) -> ReconstructedScene:
    """Place the tokens of window ``batch`` in the sample's scene frame, beside what may be asked about it.

    Where they stand carries no gradient; the tokens themselves do, unless ``output`` was made without.
    """
    T_scene_window = scene_from_world(sample.T_world_camera) @ sample.T_world_camera[0]

    def place(values: Tensor) -> SceneTokens:
        return model.patches.place(
            values,
            output.depth[batch],
            output.intrinsics[batch],
            scene_poses(output.camera_from_world[batch], T_scene_window),
            output.patch_size,
        )

    tokens = output.semantic_tokens[batch]
    placed = place(tokens)
    # The instance at each patch's centre takes the same way as its token, so that both leave out the same patches.
    instances = at_patch_centres(torch.from_numpy(sample.instances)[None], output.patch_size)[0]
    shown = place(instances.to(tokens)[..., None].expand_as(tokens))
    by_label: dict[str, list[int]] = {}
    for index in visible_boxes(sample):
        by_label.setdefault(sample.boxes[index].label, []).append(index)
    # Clones leave inference mode, so that gradients of what follows can be recorded.
    return ReconstructedScene(
        placed=SceneTokens(placed.features.clone(), placed.positions.clone()),
        shown=shown.features[:, 0].long().clamp_min(-1),
        boxes=scene_boxes(sample).to(tokens.device),
        classes=_indices([box.label for box in sample.boxes], LABELS).to(tokens.device),
        colors=_indices(sample.colors or [""] * len(sample.boxes), COLOR_NAMES).to(tokens.device),
        pairs=[(task.question, task.answer, list(task.box_ids)) for task in sample.tasks],
        by_label=by_label,
    )


def _indices(names: Sequence[str], known: Sequence[str]) -> Tensor:
    """int64 [A] places of names among the known ones, -1 for others."""
    return torch.tensor([known.index(name) if name in known else -1 for name in names], dtype=torch.long)
