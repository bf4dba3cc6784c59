"""What is kept and used again gives what computing from scratch gives, on the bundled network in float32."""

import pytest
import torch
from places import REPOSITORY

from vidllm_ros.model import VidLLM

NANO = REPOSITORY / "vidllm_ros" / "checkpoints" / "nano"
TOLERANCE = 1e-5
GEOMETRY = ("pose_encoding", "relative_depth", "confidence", "metric_depth", "depth", "semantic_tokens", "scale")


@pytest.fixture(scope="module")
def nano() -> VidLLM:
    return VidLLM.from_pretrained(NANO)


@pytest.fixture(scope="module")
def frames(nano) -> torch.Tensor:
    """Twelve images with structure: soft random blobs that drift, [F, 3, H, W]."""
    height, width = nano.config.image_size
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(1, 3, height // 7, width // 7 + 6, generator=generator)
    wide = torch.nn.functional.interpolate(coarse, scale_factor=7, mode="bilinear")[0]
    return torch.stack([wide[:, :, 3 * i : 3 * i + width] for i in range(12)])


def difference(got: torch.Tensor, expected: torch.Tensor) -> float:
    """The largest difference in units of the expected values' ordinary size."""
    return float((got - expected).abs().max() / expected.abs().mean())


def test_a_second_window_from_kept_features_is_the_window_from_scratch(nano, frames):
    size = nano.config.image_size
    kept = torch.cat([nano.encode(frame[None]) for frame in frames[:8]])  # one by one, as they arrive
    new = nano.encode(frames[8:])
    depth = torch.cat([nano.measure(tokens[None]) for tokens in kept])
    later_depth = torch.cat([depth[4:], nano.measure(new)])
    for tokens, metric_depth, images in (
        (kept, depth, frames[:8]),
        (torch.cat([kept[4:], new]), later_depth, frames[4:]),
    ):
        cached = nano.reconstruct(tokens=tokens[None], metric_depth=metric_depth[None], image_size=size)
        scratch = nano.reconstruct(images[None])
        for name in GEOMETRY:
            assert difference(getattr(cached, name), getattr(scratch, name)) < TOLERANCE, name


def test_a_second_question_to_a_scene_that_was_read_is_the_question_from_scratch(nano, frames):
    scene = nano.build_scene(nano.reconstruct(frames[None]))
    prefix = nano.read_scene(scene)
    first = nano.ask(prefix, "How many chairs are in the room?", max_new_tokens=8)
    for question in ("Is there a table?", "How many chairs are in the room?"):
        again, scratch = nano.ask(prefix, question, max_new_tokens=8), nano.ask(scene, question, max_new_tokens=8)
        assert again.text == scratch.text
        assert again.confidence == pytest.approx(scratch.confidence, rel=TOLERANCE)
    assert again.text == first.text
    states = [nano.language.loc_states(p, ["the table", "a chair"]) for p in (prefix, nano.read_scene(scene))]
    assert difference(*states) < TOLERANCE


def test_a_scene_in_pieces_is_the_scene_at_once(nano, frames):
    """Reading a question behind the cache equals reading scene and question as one sequence."""
    language = nano.language
    scene = nano.build_scene(nano.reconstruct(frames[None]))
    conversations = [[("Locate: a chair", "<LOC>"), ("Locate: the table", "<LOC>")]]
    coarse = nano.patches.pool(scene, nano.patches.config.language_tokens)
    with torch.no_grad():
        whole = torch.stack(language.loss([coarse], conversations).loc_states[0])
    behind_the_cache = language.loc_states(nano.read_scene(scene), ["a chair", "the table"])
    assert difference(behind_the_cache, whole) < TOLERANCE
