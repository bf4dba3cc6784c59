"""BLEU, ROUGE-L and CIDEr-D of captions, equal to what ``pycocoevalcap`` 1.2 gives for the same strings.

Everything here takes strings that are tokenised already: tokens are what stands between white space (BLEU, CIDEr) or
between single blanks (ROUGE-L, where two blanks in a row enclose an empty token).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

ORDERS = (1, 2, 3, 4)
_GUESS_FLOOR, _MATCH_FLOOR = 1e-9, 1e-15  # keep a corpus without any match from dividing by zero
_ROUGE_BETA = 1.2
_CIDER_SIGMA = 6.0

Gram = tuple[str, ...]


def bleu(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> list[float]:
    """BLEU-1 to BLEU-4 of a corpus (Papineni et al., ACL 2002) with the closest reference length, the shorter on a tie.

    Args:
        predictions: one caption for each of N items.
        references: at least one caption for each of N items.

    Returns:
        Four values from 0 to 1; tiny rather than 0 where no n-gram matches.
    """
    matched, guessed = np.zeros(len(ORDERS)), np.zeros(len(ORDERS))
    length = closest = 0
    for prediction, wanted in zip(predictions, references, strict=True):
        words, wanted_words = prediction.split(), [reference.split() for reference in wanted]
        length += len(words)
        closest += min((abs(len(other) - len(words)), len(other)) for other in wanted_words)[1]
        limit: Counter[Gram] = Counter()
        for other in wanted_words:
            limit |= _grams(other)
        for gram, count in (_grams(words) & limit).items():
            matched[len(gram) - 1] += count
        guessed += [max(0, len(words) - n + 1) for n in ORDERS]
    precision = (matched + _MATCH_FLOOR) / (guessed + _GUESS_FLOOR)
    ratio = (length + _MATCH_FLOOR) / (closest + _GUESS_FLOOR)
    brevity = np.exp(1 - 1 / ratio) if ratio < 1 else 1.0
    return [float(np.prod(precision[:n]) ** (1 / n) * brevity) for n in ORDERS]


def rouge_l(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> np.ndarray:
    """ROUGE-L of each item (Lin, 2004): F with beta 1.2 of the best precision and the best recall over its references.

    Args:
        predictions: one caption for each of N items.
        references: at least one caption for each of N items.

    Returns:
        float64 [N], 0 to 1; two empty captions score 1.
    """
    scores = np.zeros(len(predictions))
    for k, (prediction, wanted) in enumerate(zip(predictions, references, strict=True)):
        words = prediction.split(" ")
        precision = recall = 0.0
        for reference in wanted:
            other = reference.split(" ")
            common = _longest_common_subsequence(words, other)
            precision, recall = max(precision, common / len(words)), max(recall, common / len(other))
        if precision and recall:
            weight = _ROUGE_BETA**2
            scores[k] = (1 + weight) * precision * recall / (recall + weight * precision)
    return scores


def cider(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> np.ndarray:
    """CIDEr-D of each item (Vedantam et al., CVPR 2015), times 10; papers print its mean times 100.

    The weights of n-grams come from the references of this very corpus, so a value belongs to a set of items; the
    value of a single item is 0, and so it is where no reference has a word.

    Args:
        predictions: one caption for each of N items.
        references: at least one caption for each of N items.

    Returns:
        float64 [N], 0 to 10.
    """
    ours = [_grams(prediction.split()) for prediction in predictions]
    theirs = [[_grams(reference.split()) for reference in wanted] for wanted in references]
    items_with = Counter(gram for wanted in theirs for gram in set().union(*wanted))
    log_items = np.log(max(len(theirs), 1))
    weights = {gram: float(log_items - np.log(count)) for gram, count in items_with.items()}
    scores = np.zeros(len(ours))
    for k, (counts, wanted) in enumerate(zip(ours, theirs, strict=True)):
        vector = _weighted(counts, weights, log_items)
        scores[k] = np.mean([_likeness(vector, _weighted(other, weights, log_items)) for other in wanted])
    return 10 * scores


def _grams(words: Sequence[str]) -> Counter[Gram]:
    return Counter(tuple(words[i : i + n]) for n in ORDERS for i in range(len(words) - n + 1))


def _longest_common_subsequence(a: Sequence[str], b: Sequence[str]) -> int:
    row = [0] * (len(b) + 1)
    for word in a:
        diagonal = 0
        for j, other in enumerate(b, 1):
            diagonal, row[j] = row[j], diagonal + 1 if word == other else max(row[j], row[j - 1])
    return row[-1]


_Weighted = tuple[dict[Gram, float], np.ndarray, int]


def _weighted(counts: Mapping[Gram, int], weights: Mapping[Gram, float], unseen: float) -> _Weighted:
    """tf-idf of each n-gram, the norm for each n, and the number of bigrams, which stands for the length."""
    vector = {gram: count * weights.get(gram, unseen) for gram, count in counts.items()}
    squares = np.zeros(len(ORDERS))
    for gram, value in vector.items():
        squares[len(gram) - 1] += value**2
    return vector, np.sqrt(squares), sum(count for gram, count in counts.items() if len(gram) == 2)


def _likeness(prediction: _Weighted, reference: _Weighted) -> float:
    (ours, our_norms, our_length), (theirs, their_norms, their_length) = prediction, reference
    products = np.zeros(len(ORDERS))
    for gram, value in ours.items():
        other = theirs.get(gram, 0.0)
        products[len(gram) - 1] += min(value, other) * other
    norms = our_norms * their_norms
    cosines = np.divide(products, norms, out=np.zeros_like(products), where=norms > 0)
    return float(cosines.mean() * np.exp(-((our_length - their_length) ** 2) / (2 * _CIDER_SIGMA**2)))
