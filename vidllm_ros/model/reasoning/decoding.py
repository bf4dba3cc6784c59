"""The loop that turns next-token probabilities into a reply."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import count

import torch
from torch import Tensor

from vidllm_ros.model.reasoning.language_types import Generation
from vidllm_ros.model.reasoning.tokenizer import MarkIds, TextStream


def decode(
    read: Callable[[list[int]], tuple[Tensor, Tensor]],
    ids: list[int],
    marks: MarkIds,
    stream: TextStream,
    max_new_tokens: int,
    temperature: float,
    on_text: Callable[[str], bool] | None = None,
) -> Generation:
    """Generates a reply token by token until its end mark.

    Args:
        read: takes the next token ids into account; returns the logits [vocabulary] and the last hidden state [hidden]
            after them. Logits of tokens that may not be chosen are minus infinity.
        ids: the question.
        marks: the end mark and ``<LOC>``.
        stream: turns tokens into text.
        max_new_tokens: the longest reply.
        temperature: 0 always takes the most probable token; above, tokens are drawn at random.
        on_text: gets the text that each token completes, "" when none; returning False stops.

    Raises:
        ValueError: ``max_new_tokens`` is below 1, or ``temperature`` negative or not finite.
    """
    if max_new_tokens < 1:
        raise ValueError(f"max_new_tokens is {max_new_tokens}; it must be at least 1")
    if not (math.isfinite(temperature) and temperature >= 0):
        raise ValueError(f"temperature is {temperature}; it must be 0 or a positive number")
    pieces: list[str] = []
    probabilities: list[float] = []
    loc_state: Tensor | None = None
    end_probability = 0.0
    go_on = True

    def emit(piece: str) -> bool:
        pieces.append(piece)
        return on_text is None or on_text(piece) is not False

    for step in count(1):
        logits, state = read(ids)
        if ids == [marks.loc] and loc_state is None:
            loc_state = state  # the state at <LOC> exists once the token itself has been read
        if step > max_new_tokens:
            break
        token, probability = _choose(logits, temperature)
        if token == marks.eos:
            end_probability = probability
            break
        probabilities.append(probability)
        ids = [token]
        go_on = emit("" if token == marks.loc else stream.push(token))
        if not go_on or (step == max_new_tokens and token != marks.loc):
            break
    if go_on and (rest := stream.flush()):
        go_on = emit(rest)
    return Generation(
        text="".join(pieces).strip(),
        confidence=sum(probabilities) / len(probabilities) if probabilities else end_probability,
        token_count=len(probabilities),
        finished=go_on,
        loc_state=loc_state,
    )


def _choose(logits: Tensor, temperature: float) -> tuple[int, float]:
    """The next token and its probability at temperature 1."""
    probabilities = logits.softmax(-1)
    drawn = probabilities.argmax() if temperature == 0 else torch.multinomial((logits / temperature).softmax(-1), 1)
    return int(drawn), float(probabilities[int(drawn)])
