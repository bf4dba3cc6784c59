"""Pairs of stamps as the tools of the TUM RGB-D benchmark make them; ``trajectory.associate`` makes evo's."""

from __future__ import annotations

import numpy as np


def one_to_one(
    predicted_stamps: np.ndarray, truth_stamps: np.ndarray, max_difference: float = 0.02, offset: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Pair stamps greedily by growing difference, each at most once (``associate.py`` of Sturm et al., IROS 2012).

    Differs from ``trajectory.associate`` where the rates differ: there a pose of the denser list may serve twice.

    Args:
        predicted_stamps: integer nanoseconds [K].
        truth_stamps: integer nanoseconds [M].
        max_difference: seconds, exclusive.
        offset: seconds added to the truth's stamps.

    Returns:
        Indices into the prediction, in order of its stamps, and into the truth, of equal length.
    """
    predicted = np.asarray(predicted_stamps, dtype=np.int64)
    truth = np.asarray(truth_stamps, dtype=np.int64) + round(offset * 1e9)
    order = np.argsort(truth, kind="stable")
    reach = round(max_difference * 1e9)
    first = np.searchsorted(truth, predicted - reach, side="right", sorter=order)
    last = np.searchsorted(truth, predicted + reach, side="left", sorter=order)
    near = [(i, int(order[m])) for i in range(len(predicted)) for m in range(first[i], last[i])]
    # ties go to the earlier stamps, as sorted tuples do in the original
    near.sort(key=lambda pair: (abs(predicted[pair[0]] - truth[pair[1]]), predicted[pair[0]], truth[pair[1]]))
    taken_i: set[int] = set()
    taken_j: set[int] = set()
    pairs = []
    for i, j in near:
        if i not in taken_i and j not in taken_j:
            taken_i.add(i)
            taken_j.add(j)
            pairs.append((i, j))
    pairs.sort(key=lambda pair: predicted[pair[0]])
    indices = np.array(pairs, dtype=np.intp).reshape(-1, 2)
    return indices[:, 0], indices[:, 1]
