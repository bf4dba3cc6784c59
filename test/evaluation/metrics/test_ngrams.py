"""BLEU, ROUGE-L and CIDEr against values by hand and against `pycocoevalcap` 1.2 (constants, found with it)."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vidllm_ros.evaluation.metrics import ngrams

PREDICTIONS = [
    "a brown chair next to the table",
    "the the the the",
    "two",
    "it 's on the left of the sofa ( big )",
    "",
]
REFERENCES = [
    ["the brown chair is next to the table", "brown chair"],
    ["the table is in the corner", "a table"],
    ["two", "2"],
    ["it is on the left of the sofa", "left of the big sofa"],
    ["a bed", "yes"],
]


def test_bleu_by_hand():
    # 3 of 4 words and 2 of 3 bigrams match, clipped; the closest reference has 5 words
    values = ngrams.bleu(["a red red chair"], [["there is a red chair", "one two three four five six seven"]])
    brevity = math.exp(1 - 5 / 4)
    assert values[0] == pytest.approx(3 / 4 * brevity)
    assert values[1] == pytest.approx(math.sqrt(3 / 4 * 2 / 3) * brevity)
    assert values[2] < 1e-4 and values[3] > 0  # nothing matches, and still not zero


def test_bleu_takes_the_shorter_of_two_references_equally_far():
    # lengths 2 and 4 are equally far from 3: with 2 there is no brevity penalty
    assert ngrams.bleu(["a b c"], [["a b c d", "a b"]])[0] == pytest.approx(1.0, abs=1e-8)


def test_rouge_by_hand():
    precision, recall, weight = 2 / 3, 2 / 4, 1.44
    expected = (1 + weight) * precision * recall / (recall + weight * precision)
    assert ngrams.rouge_l(["a chair here"], [["there a big chair"]])[0] == pytest.approx(expected)
    # the best precision and the best recall may come from different references
    both = ngrams.rouge_l(["a chair here"], [["a chair here and there", "chair"]])[0]
    assert both == pytest.approx(1.0)


def test_rouge_counts_a_double_blank_as_a_token():
    assert ngrams.rouge_l([""], [[""]])[0] == 1.0
    assert ngrams.rouge_l(["sos  eos"], [["sos a bed eos"]])[0] < ngrams.rouge_l(["sos eos"], [["sos a bed eos"]])[0]


def test_cider_by_hand():
    # each word occurs in one of two items, so all weigh log 2 and an exact copy has cosine 1; no item has a trigram
    scores = ngrams.cider(["red chair", "blue"], [["red chair"], ["green"]])
    np.testing.assert_allclose(scores, [10 * 2 / 4, 0.0])
    # two bigrams less cost exp(-4 / 72); the words in common: cosine 2 / sqrt(2 * 4); bigrams: 1 / sqrt(1 * 3)
    longer = ngrams.cider(["red chair", "blue"], [["red chair by sofa"], ["green"]])[0]
    assert longer == pytest.approx(10 * math.exp(-4 / 72) * (2 / math.sqrt(8) + 1 / math.sqrt(3)) / 4)


def test_corpora_of_one_two_and_three_items():
    assert ngrams.cider(PREDICTIONS[:1], REFERENCES[:1])[0] == 0.0  # every weight is log 1
    expected = {2: 1.7286495081973807, 3: 1.645547909766677, 5: 1.7048341168314516}
    for count, value in expected.items():
        assert ngrams.cider(PREDICTIONS[:count], REFERENCES[:count]).mean() == pytest.approx(value, abs=1e-12)


def test_a_corpus_as_the_reference_scores_it():
    expected = [0.7391304347504726, 0.5917046699514237, 0.5082535497231605, 0.4483214054901015]
    np.testing.assert_allclose(ngrams.bleu(PREDICTIONS, REFERENCES), expected, rtol=1e-12)
    expected = [0.9360613810741688, 0.3860759493670886, 1.0, 0.7584369449378331, 0.0]
    np.testing.assert_allclose(ngrams.rouge_l(PREDICTIONS, REFERENCES), expected, rtol=1e-12)


def test_nothing_at_all_has_a_value():
    assert ngrams.cider(["", ""], [[""], ["", ""]]).tolist() == [0.0, 0.0]
    assert ngrams.bleu([""], [[""]])[3] < 1e-3
    assert ngrams.cider([], []).shape == (0,)


texts = st.lists(st.sampled_from(["a", "b", "the", "chair", "é", "1/2"]), max_size=7).map(" ".join)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(texts, st.lists(texts, min_size=1, max_size=3)), min_size=1, max_size=5), st.randoms())
def test_the_order_of_items_and_references_changes_nothing(items, random):
    predictions, references = [p for p, _ in items], [r for _, r in items]
    order = list(range(len(items)))
    random.shuffle(order)
    shuffled = [predictions[k] for k in order], [references[k][::-1] for k in order]
    np.testing.assert_allclose(ngrams.bleu(*shuffled), ngrams.bleu(predictions, references), rtol=1e-12)
    rouge, cider = ngrams.rouge_l(predictions, references), ngrams.cider(predictions, references)
    np.testing.assert_allclose(ngrams.rouge_l(*shuffled), rouge[order], rtol=1e-12)
    np.testing.assert_allclose(ngrams.cider(*shuffled), cider[order], atol=1e-12)
    assert ((rouge >= 0) & (rouge <= 1 + 1e-12)).all() and ((cider >= 0) & (cider <= 10 + 1e-9)).all()
