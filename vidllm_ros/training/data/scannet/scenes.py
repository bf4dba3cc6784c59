"""A finite data set: its scenes by name, each loaded when it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from vidllm_ros.training.data.errors import DataError, log
from vidllm_ros.training.data.scannet.annotations import AnnotatedScan
from vidllm_ros.training.sample import Sample


@dataclass(frozen=True)
class SceneSource:
    """Samples of one data set, one per scene, in the order of their names.

    Iterating leaves out scenes that cannot be used, with a warning each. ``scenes`` and ``load`` are for those who
    shuffle or share them out among processes; a source can be pickled.

    Attributes:
        name: the specification it was opened with, for messages.
        scenes: names of the scenes.
        load: the sample of one of them; raises DataError when the scene cannot be used.
        annotated: one of them with everything that was written about it; None for data that nobody wrote about.
    """

    name: str
    scenes: tuple[str, ...]
    load: Callable[[str], Sample]
    annotated: Callable[[str], AnnotatedScan] | None = None

    def __len__(self) -> int:
        """How many scenes there are, usable or not."""
        return len(self.scenes)

    def __iter__(self) -> Iterator[Sample]:
        """The usable scenes' samples.

        Raises:
            DataError: none is usable; the message holds the last scene's problem.
        """
        usable, problem = 0, None
        for scene in self.scenes:
            try:
                sample = self.load(scene)
            except DataError as error:
                log.warning("%s: scene %s is left out: %s", self.name, scene, error)
                problem = error
                continue
            usable += 1
            yield sample
        if problem is not None and not usable:
            raise DataError(f"{self.name}: none of its {len(self)} scenes can be used. The last one: {problem}")
