"""Small parts of images found again, to a fraction of a pixel, against how they looked where they began.

A point that is followed from image to image drifts, because each step starts from where the last one ended; compared
with the patch of the image in which it began, it cannot. All patches of an image are laid side by side in one mosaic,
so that one call of Lucas and Kanade's method finds all of them.
"""

from __future__ import annotations

import cv2
import numpy as np

HALF = 15  # pixels from the middle of a patch to its border
_SIDE = 2 * HALF + 1
_COLUMNS = 16  # patches beside each other in a mosaic
_WINDOW = 15  # pixels along a side of what is compared
_REACH = HALF - _WINDOW // 2 - 1  # pixels beside its middle at which a patch can still be found
_MAX_RETURN = 0.3  # pixels beside its start to which a patch may come back
_MAX_DIFFERENCE = 25.0  # mean difference in gray levels of patches that show the same
_STOP = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 15, 0.01)


def cut(gray: np.ndarray, points: np.ndarray) -> np.ndarray:
    """The patches uint8 [N, 31, 31] around the pixels nearest to ``points`` [N, 2] (u, v); borders are mirrored."""
    if not len(points):
        return np.zeros((0, _SIDE, _SIDE), np.uint8)
    padded = cv2.copyMakeBorder(gray, HALF, HALF, HALF, HALF, cv2.BORDER_REFLECT_101)
    u, v = np.rint(points).astype(int).T
    u, v = u.clip(0, gray.shape[1] - 1), v.clip(0, gray.shape[0] - 1)
    return np.lib.stride_tricks.sliding_window_view(padded, (_SIDE, _SIDE))[v, u]


def locate(patches: np.ndarray, gray: np.ndarray, guesses: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where ``gray`` shows patches.

    Args:
        patches: uint8 [N, 31, 31].
        gray: uint8 [H, W].
        guesses: [N, 2] (u, v), a few pixels off at most.

    Returns:
        The middles of the patches, float32 [N, 2], and whether each was found, bool [N]: looked for in the other
        direction it leads back, and both look alike.
    """
    if not len(patches):
        return np.zeros((0, 2), np.float32), np.zeros(0, bool)
    whole = np.rint(guesses).astype(np.float32)
    before, after = _mosaic(patches), _mosaic(cut(gray, whole))
    places = np.arange(len(patches))
    middles = np.stack([places % _COLUMNS, places // _COLUMNS], axis=1).astype(np.float32) * _SIDE + HALF
    there, found, _ = _flow(before, after, middles, middles + (guesses - whole).astype(np.float32))
    back, found_back, difference = _flow(after, before, there, middles)
    step = there - middles
    good = found & found_back & (np.abs(step) <= _REACH).all(axis=1) & (difference < _MAX_DIFFERENCE)
    good &= np.linalg.norm(back - middles, axis=1) < _MAX_RETURN
    return whole + step, good


def _mosaic(patches: np.ndarray) -> np.ndarray:
    rows = -(-len(patches) // _COLUMNS)
    filled = np.zeros((rows * _COLUMNS, _SIDE, _SIDE), np.uint8)
    filled[: len(patches)] = patches
    together = filled.reshape(rows, _COLUMNS, _SIDE, _SIDE).transpose(0, 2, 1, 3)
    return np.ascontiguousarray(together.reshape(rows * _SIDE, _COLUMNS * _SIDE))


def _flow(
    before: np.ndarray, after: np.ndarray, points: np.ndarray, guesses: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    moved, found, difference = cv2.calcOpticalFlowPyrLK(
        before,
        after,
        points[:, None],
        guesses[:, None].copy(),
        winSize=(_WINDOW, _WINDOW),
        maxLevel=0,
        criteria=_STOP,
        flags=cv2.OPTFLOW_USE_INITIAL_FLOW,
    )
    return moved[:, 0], found.ravel() > 0, difference.ravel()
