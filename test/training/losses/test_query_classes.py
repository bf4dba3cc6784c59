"""The class reading of the grounding queries against cross-entropy computed by hand."""

import numpy as np
import torch

from vidllm_ros.model.outputs import SceneTokens
from vidllm_ros.model.reasoning.grounding import GroundingConfig, GroundingDecoder
from vidllm_ros.training.losses.query_classes import QueryClassifier

CLASSES, STRUCTURE_WEIGHT = 3, 0.2


def decoder() -> GroundingDecoder:
    torch.manual_seed(0)
    return GroundingDecoder(GroundingConfig(feature_dim=8, state_dim=8, dim=16, heads=2, queries=5, neighbours=(4, 4)))


def test_every_layer_and_phrase_counts_and_structure_counts_less():
    model = decoder()
    classifier = QueryClassifier(model, CLASSES)
    scene = SceneTokens(torch.randn(9, 8), torch.rand(9, 3))
    shown = torch.tensor([0, -1, 2, -1, 1])
    for phrases in (1, 4):  # a second run replaces the first
        model(scene, torch.randn(phrases, 8))
        queries = [layer.detach().double().numpy() for layer in classifier.queries]
        assert [q.shape for q in queries] == [(phrases, 5, 16)] * 2
        weight, bias = (p.detach().double().numpy() for p in (classifier.head.weight, classifier.head.bias))
        total = weights = 0.0
        for logits in np.concatenate(queries) @ weight.T + bias:
            for row, label in zip(logits, shown.tolist(), strict=True):
                w = STRUCTURE_WEIGHT if label < 0 else 1.0
                total += w * (np.log(np.exp(row).sum()) - row[label])  # -1 is the last: structure
                weights += w
        np.testing.assert_allclose(classifier(shown).item(), total / weights, rtol=1e-5)


def test_it_teaches_the_decoder():
    model = decoder()
    classifier = QueryClassifier(model, CLASSES)
    model(SceneTokens(torch.randn(9, 8), torch.rand(9, 3)), torch.randn(2, 8))
    classifier(torch.tensor([0, 1, 2, -1, -1])).backward()
    assert all(p.grad is not None and p.grad.any() for p in model.token_in.parameters())
