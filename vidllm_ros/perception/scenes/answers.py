"""Questions to scenes; what the language model has read of a scene is kept for the next question."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from vidllm_ros.model import ScenePrefix, VidLLM
from vidllm_ros.perception.scenes.scene import box_to_map
from vidllm_ros.perception.types import Answer, Box3D, Scene


class SceneReader:
    """Asks the language model about scenes. Belongs to the thread that owns the model.

    Args:
        model: the network.
    """

    def __init__(self, model: VidLLM) -> None:
        self._model = model
        self._read: tuple[Scene, ScenePrefix] | None = None

    def ask(
        self,
        scene: Scene,
        question: str,
        max_new_tokens: int,
        temperature: float,
        on_text: Callable[[str], bool] | None = None,
    ) -> Answer:
        """The reply, its boxes in map."""
        answer = self._model.ask(
            self._prefix(scene), question, max_new_tokens=max_new_tokens, temperature=temperature, on_text=on_text
        )
        boxes = tuple(box_to_map(box, scene.T_map_scene) for box in answer.boxes)
        return replace(answer, boxes=boxes, window_id=scene.window_id)

    def locate(self, scene: Scene, labels: Sequence[str], min_score: float) -> list[Box3D]:
        """Boxes of ``labels``, in map."""
        if not labels:
            return []
        boxes = self._model.locate(self._prefix(scene), list(labels), min_score=min_score)
        return [box_to_map(box, scene.T_map_scene) for box in boxes]

    def forget(self) -> None:
        """Frees the key/value cache."""
        self._read = None

    def _prefix(self, scene: Scene) -> ScenePrefix:
        read = self._read
        if read is None or read[0] is not scene:
            self._read = None  # one cache at a time, the old one freed first
            read = self._read = (scene, self._model.read_scene(scene.tokens))
        return read[1]
