"""The grounding decoder against independent float64 computations, and on two small scenes that it must learn."""

import math

import numpy as np
import pytest
import torch

from vidllm_ros.model.outputs import SceneTokens
from vidllm_ros.model.reasoning.boxes import box_vectors
from vidllm_ros.model.reasoning.grounding import GroundingConfig, GroundingDecoder
from vidllm_ros.model.reasoning.grounding_layers import DistanceAttention, NeighbourAttention, farthest_points
from vidllm_ros.model.reasoning.language import LanguageConfig, LanguageModel, locate_pair
from vidllm_ros.model.reasoning.overlap import oriented_box_iou
from vidllm_ros.model.reasoning.tokenizer import train_tokenizer
from vidllm_ros.training.losses.grounding import grounding_loss, info_nce

DIM, STATE = 10, 12


def decoder(**changes) -> GroundingDecoder:
    torch.manual_seed(0)
    sizes = {"feature_dim": DIM, "state_dim": STATE, "dim": 16, "heads": 2, "queries": 8, "neighbours": (4, 8)}
    return GroundingDecoder(GroundingConfig(**(sizes | changes)))


def scene(tokens: int = 30, seed: int = 0) -> SceneTokens:
    generator = torch.Generator().manual_seed(seed)
    return SceneTokens(torch.randn(tokens, DIM, generator=generator), 4 * torch.rand(tokens, 3, generator=generator))


def softmax(values: np.ndarray) -> np.ndarray:
    exponents = np.exp(values - values.max(axis=-1, keepdims=True))
    return exponents / exponents.sum(axis=-1, keepdims=True)


def parameters(layer: torch.nn.Linear) -> tuple[np.ndarray, np.ndarray]:
    return layer.weight.detach().double().numpy(), layer.bias.detach().double().numpy()


def apply(layer: torch.nn.Linear, values: np.ndarray) -> np.ndarray:
    weight, bias = parameters(layer)
    return values @ weight.T + bias


def test_distance_attention_is_softmax_of_scores_minus_sigma_distance():
    torch.manual_seed(1)
    attention = DistanceAttention(dim=8, heads=2)
    tokens, positions = torch.randn(1, 5, 8), torch.rand(4, 3)
    distances = (positions[:, None] - positions[None]).norm(dim=-1)
    x, d = tokens[0].double().numpy(), np.zeros((5, 5))
    d[:4, :4] = [[math.dist(a, b) for b in positions.tolist()] for a in positions.tolist()]
    q, k, v = np.split(apply(attention.query_key_value, x), 3, axis=-1)
    sigma = np.log1p(np.exp(apply(attention.sigma, x)))
    heads = []
    for head in range(2):
        part = slice(4 * head, 4 * head + 4)
        scores = q[:, part] @ k[:, part].T / np.sqrt(4) - sigma[:, head : head + 1] * d
        heads.append(softmax(scores) @ v[:, part])
    expected = apply(attention.out, np.concatenate(heads, axis=-1))
    np.testing.assert_allclose(attention(tokens, distances)[0].detach().numpy(), expected, atol=1e-5)


def test_neighbour_attention_reads_the_k_nearest_tokens_with_their_relative_position():
    torch.manual_seed(2)
    attention = NeighbourAttention(dim=8, heads=2, neighbours=3, frequencies=2)
    queries, tokens = torch.randn(2, 4, 8), torch.randn(9, 8)
    seeds, positions = torch.rand(4, 3), torch.rand(9, 3)
    offsets = positions[None] - seeds[:, None]
    nearest = offsets.norm(dim=-1).argsort(dim=-1)
    found = attention(queries, tokens, offsets, nearest).detach().numpy()
    relative = attention.relative(offsets).detach().double().numpy()
    for phrase in range(2):
        for index in range(4):
            by_distance = sorted(range(9), key=lambda t: math.dist(seeds[index].tolist(), positions[t].tolist()))[:3]
            both = apply(attention.key_value, tokens.double().numpy()[by_distance]) + relative[index, by_distance]
            keys, values = np.split(both, 2, axis=-1)
            query = apply(attention.query, queries[phrase, index].double().numpy())
            heads = []
            for head in range(2):
                part = slice(4 * head, 4 * head + 4)
                heads.append(softmax(keys[:, part] @ query[part] / 2) @ values[:, part])
            np.testing.assert_allclose(found[phrase, index], apply(attention.out, np.concatenate(heads)), atol=1e-5)


def test_farthest_points_cover_and_do_not_depend_on_the_order():
    generator = torch.Generator().manual_seed(3)
    positions = torch.rand(200, 3, generator=generator)
    chosen = farthest_points(positions, 20)
    order = torch.randperm(200, generator=generator)
    assert torch.equal(positions[chosen], positions[order][farthest_points(positions[order], 20)])
    assert len(set(chosen.tolist())) == 20
    # Each next point is the one farthest from all chosen before it.
    for count in range(1, 20):
        reach = torch.cdist(positions, positions[chosen[:count]]).amin(dim=1)
        assert reach[chosen[count]] == pytest.approx(float(reach.max()), abs=1e-6)
    assert sorted(farthest_points(positions[:5], 20).tolist()) == [0, 1, 2, 3, 4]
    assert farthest_points(positions[:0], 4).shape == (0,)


def test_boxes_and_scores_are_what_the_heads_say():
    model = decoder()
    states = torch.randn(3, STATE)
    output = model(scene(), states)
    assert (
        output.boxes.shape == (2, 3, 8, 7) and output.logits.shape == (2, 3, 8) and output.none_logits.shape == (2, 3)
    )
    assert (output.boxes[..., 3:6] > 0).all() and output.boxes[..., 6].abs().max() <= math.pi / 2
    assert output.logits.abs().max() <= 1 / 0.07 + 1e-4
    gap = output.logits[-1].double() - output.none_logits[-1].double().unsqueeze(-1)
    torch.testing.assert_close(output.scores.double(), 1 / (1 + (-gap).exp()), atol=1e-6, rtol=1e-5)
    twice = torch.atan2(output.directions[..., 0], output.directions[..., 1])
    torch.testing.assert_close(2 * output.boxes[..., 6], twice)
    # Before training a box sits at its query.
    assert (output.boxes[..., :3] - output.query_positions).norm(dim=-1).max() < 0.5
    assert not decoder(yaw=False)(scene(), states).boxes[..., 6].any()


def test_phrases_do_not_see_each_other_and_token_order_does_not_matter():
    model = decoder()
    states = torch.randn(3, STATE)
    together = model(scene(), states)
    for index in range(3):
        alone = model(scene(), states[index : index + 1])
        torch.testing.assert_close(alone.boxes[:, 0], together.boxes[:, index], atol=1e-5, rtol=1e-5)
    order = torch.randperm(30)
    shuffled = model(SceneTokens(scene().features[order], scene().positions[order]), states)
    torch.testing.assert_close(shuffled.boxes, together.boxes, atol=1e-5, rtol=1e-5)


def test_half_precision_weights_give_nearly_the_same_boxes_in_float32():
    states = torch.randn(3, STATE)
    whole, half = decoder()(scene(), states), decoder().to(torch.bfloat16)(scene(), states)
    assert half.boxes.dtype == half.logits.dtype == torch.float32
    torch.testing.assert_close(half.boxes[..., :6], whole.boxes[..., :6], atol=0.02, rtol=0.02)
    boxes = torch.tensor([[2.0, 2, 2, 2, 3, 2, 0.4]])
    assert decoder().to(torch.bfloat16).score_proposals(boxes, scene(), states).isfinite().all()


@pytest.mark.parametrize("tokens", [1, 3])
def test_a_scene_smaller_than_the_queries_works(tokens):
    output = decoder()(scene(tokens), torch.randn(2, STATE))
    assert output.boxes.shape == (2, 2, tokens, 7) and output.boxes.isfinite().all()


def test_an_empty_scene_holds_nothing():
    model = decoder()
    empty = SceneTokens(torch.zeros(0, DIM), torch.zeros(0, 3))
    assert model.locate(empty, torch.randn(1, STATE), ["chair"]) == []
    loss = grounding_loss(model(empty, torch.randn(1, STATE)), [torch.zeros(0, 7)]).loss
    assert loss.isfinite()


def test_proposal_scores_are_cosines_of_mean_features_inside_and_centre():
    model = decoder()
    tokens, states = scene(), torch.randn(2, STATE)
    boxes = torch.tensor([[2.0, 2, 2, 2, 3, 2, 0.4], [1, 1, 1, 2, 2, 2, -1.0], [90, 90, 90, 1, 1, 1, 0]])
    found = model.score_proposals(boxes, tokens, states).detach().numpy()
    features = model.token_in(tokens.features).detach().double().numpy()
    position = model.position(boxes[:, :3]).detach().double().numpy()
    candidates = []
    for k, (x, y, z, dx, dy, dz, yaw) in enumerate(boxes.tolist()):
        inside = []
        for t, point in enumerate((tokens.positions.double().numpy() - [x, y, z]).tolist()):
            along = point[0] * math.cos(yaw) + point[1] * math.sin(yaw)
            across = -point[0] * math.sin(yaw) + point[1] * math.cos(yaw)
            if abs(along) <= dx / 2 and abs(across) <= dy / 2 and abs(point[2]) <= dz / 2:
                inside.append(t)
        assert bool(inside) == (k < 2)
        candidates.append((features[inside].mean(axis=0) if inside else 0) + position[k])
    objects = model.object_match(torch.tensor(np.array(candidates), dtype=torch.float32)).detach().double().numpy()
    objects = np.concatenate([objects, model.zero_proposal.detach().double().numpy()[None]])
    phrases = model.phrase_match(model.loc_in(states)).detach().double().numpy()
    cosine = phrases @ objects.T / np.linalg.norm(phrases, axis=1)[:, None] / np.linalg.norm(objects, axis=1)
    np.testing.assert_allclose(found, cosine / 0.07, atol=1e-4)


def test_bad_input_is_named():
    model = decoder()
    with pytest.raises(ValueError, match=r"min_score is 1\.5"):
        model.locate(scene(), torch.randn(1, STATE), ["chair"], 1.5)
    with pytest.raises(ValueError, match="2 labels for 1 states"):
        model.locate(scene(), torch.randn(1, STATE), ["chair", "table"])
    with pytest.raises(ValueError, match="dim is 16; it must be a multiple of grounding.heads, 3"):
        decoder(heads=3)
    with pytest.raises(ValueError, match="neighbours is "):
        decoder(neighbours=())
    with pytest.raises(ValueError, match="queries is 0"):
        decoder(queries=0)
    with pytest.raises(ValueError, match="temperature is 0"):
        decoder(temperature=0)


def furnished_scene(seed: int, objects: list[tuple[int, list[float]]]) -> tuple[SceneTokens, dict[int, torch.Tensor]]:
    """Floor tokens and, for each (kind, box), tokens within the box whose features carry the kind."""
    generator = torch.Generator().manual_seed(seed)
    floor = torch.rand(60, 3, generator=generator) * torch.tensor([5.0, 5.0, 0.05])
    positions, features = [floor], [0.1 * torch.randn(60, DIM, generator=generator)]
    boxes: dict[int, list[list[float]]] = {}
    for kind, (x, y, z, dx, dy, dz, yaw) in objects:
        local = (torch.rand(25, 3, generator=generator) - 0.5) * torch.tensor([dx, dy, dz])
        cosine, sine = math.cos(yaw), math.sin(yaw)
        turned = local @ torch.tensor([[cosine, sine, 0], [-sine, cosine, 0], [0, 0, 1]])
        positions.append(turned + torch.tensor([x, y, z]))
        features.append(2 * torch.nn.functional.one_hot(torch.full((25,), kind), DIM) + 0.1 * torch.randn(25, DIM))
        boxes.setdefault(kind, []).append([x, y, z, dx, dy, dz, yaw])
    return SceneTokens(torch.cat(features), torch.cat(positions)), {k: torch.tensor(v) for k, v in boxes.items()}


@pytest.mark.slow
def test_language_and_grounding_learn_two_scenes_together():
    names = ["chair", "table", "lamp"]
    scenes = [
        furnished_scene(
            0,
            [
                (0, [1, 1, 0.5, 0.5, 0.5, 1, 0]),
                (0, [4, 1, 0.5, 0.5, 0.5, 1, 0.4]),
                (1, [2, 4, 0.4, 1.6, 0.8, 0.8, 1.0]),
            ],
        ),
        furnished_scene(1, [(1, [1.5, 1.5, 0.4, 1.4, 0.7, 0.8, -0.5]), (2, [4, 4, 0.8, 0.3, 0.3, 1.6, 0])]),
    ]
    torch.manual_seed(0)
    llm = {
        "model_type": "qwen2",
        "hidden_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 64,
    }
    tokenizer = train_tokenizer(["Locate: chair", "Locate: table", "Locate: lamp"] * 5)
    language = LanguageModel(LanguageConfig(DIM, llm | {"num_key_value_heads": 2}, 32), tokenizer)
    grounding = decoder(state_dim=32, dim=32, queries=24, neighbours=(8, 16))
    trained = [*language.parameters(), *grounding.parameters()]
    optimizer = torch.optim.AdamW(trained, 3e-3, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 160)
    for _ in range(160):
        spoken = language.loss([tokens for tokens, _ in scenes], [[locate_pair(name) for name in names]] * 2)
        loss = spoken.loss
        for (tokens, boxes), states in zip(scenes, spoken.loc_states, strict=True):
            targets = [boxes.get(kind, torch.zeros(0, 7)) for kind in range(3)]
            loss = loss + grounding_loss(grounding(tokens, torch.stack(states)), targets).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        schedule.step()
    for tokens, boxes in scenes:
        found = grounding.locate(tokens, language.loc_states(language.read_scene(tokens), names), names, min_score=0.5)
        for kind, name in enumerate(names):
            vectors = box_vectors([box for box in found if box.label == name])
            wanted = boxes.get(kind, torch.zeros(0, 7)).double().numpy()
            assert (len(wanted) > 0) == (len(vectors) > 0), f"{name} is there: {len(wanted)}, found: {len(vectors)}"
            if len(wanted):
                overlaps = oriented_box_iou(vectors, wanted)
                assert overlaps.max(axis=0).min() > 0.5, f"a {name} was missed"
                assert overlaps.max(axis=1).min() > 0.2, f"a {name} was found where none is"


def test_proposal_scoring_learns_to_choose_and_to_decline():
    tokens, boxes = furnished_scene(0, [(0, [1, 1, 0.5, 0.5, 0.5, 1, 0]), (1, [3, 3, 0.4, 1.6, 0.8, 0.8, 1.0])])
    model, states = decoder(), torch.randn(3, STATE)
    proposals = torch.cat([boxes[0], boxes[1]])
    positives = torch.tensor([[True, False], [False, True], [False, False]])
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    for _ in range(60):
        logits = model.score_proposals(proposals, tokens, states)
        optimizer.zero_grad()
        info_nce(logits[:, :-1], logits[:, -1], positives).mean().backward()
        optimizer.step()
    assert model.score_proposals(proposals, tokens, states).argmax(dim=-1).tolist() == [0, 1, 2]
