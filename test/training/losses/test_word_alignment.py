"""Scene tokens against words: the loss by hand, and that words are read as they stand in a sentence."""

import numpy as np
import pytest
import torch
from miniature import vidllm

from vidllm_ros.model.reasoning.tokenizer import encode_text
from vidllm_ros.training.losses.word_alignment import alignment_loss, word_embeddings


def test_the_loss_is_the_cross_entropy_of_cosines():
    torch.manual_seed(0)
    tokens, words, wanted = torch.randn(4, 8), torch.randn(3, 8), torch.tensor([2, -1, 0, 1])
    a, b = (x.double().numpy() / np.linalg.norm(x.double().numpy(), axis=1, keepdims=True) for x in (tokens, words))
    expected = [
        np.log(np.exp(row / 0.1).sum()) - row[k] / 0.1 for row, k in zip(a @ b.T, wanted, strict=True) if k >= 0
    ]
    assert float(alignment_loss(tokens, words, wanted)) == pytest.approx(np.mean(expected), rel=1e-5)


def test_nothing_known_costs_nothing():
    tokens = torch.randn(4, 8, requires_grad=True)
    loss = alignment_loss(tokens, torch.randn(3, 8), torch.full((4,), -1))
    loss.backward()
    assert loss == 0 and not tokens.grad.any()


def test_a_word_of_several_tokens_is_their_mean():
    language = vidllm().language
    table = language.llm.get_input_embeddings().weight
    found = word_embeddings(language, ["chair", "refrigerator"])
    for row, word in zip(found, ["chair", "refrigerator"], strict=True):
        torch.testing.assert_close(row, table[encode_text(language.tokenizer, " " + word)].mean(dim=0))
