"""Text to token ids and back: the language model's vocabulary and the marks that structure a conversation."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

PAD, EOS = "<pad>", "<eos>"
SCENE_START, SCENE_END = "<scene>", "</scene>"
USER, ASSISTANT = "<user>", "<assistant>"
LOC = "<LOC>"
CONVERSATION_MARKS = (SCENE_START, SCENE_END, USER, ASSISTANT, LOC)


@dataclass(frozen=True)
class MarkIds:
    """Token ids of the marks that structure a conversation.

    Attributes:
        start: ids that open every sequence: the tokenizer's begin-of-text token, if it has one, then ``<scene>``.
        scene_end: ``</scene>``.
        user: ``<user>``, before a question.
        assistant: ``<assistant>``, before an answer.
        loc: ``<LOC>``, whose hidden state names an object to the grounding decoder.
        eos: end of an answer.
    """

    start: tuple[int, ...]
    scene_end: int
    user: int
    assistant: int
    loc: int
    eos: int


def train_tokenizer(texts: Iterable[str], vocabulary: int = 1000) -> PreTrainedTokenizerFast:
    """Learns a byte-level BPE vocabulary.

    Every byte has its own token, so that any Unicode text can be written and read back unchanged. Digits are split
    singly, so that numbers share their parts.

    Args:
        texts: the training text.
        vocabulary: the most tokens to learn, marks included; at least 512.

    Raises:
        ValueError: ``vocabulary`` is too small.
    """
    if vocabulary < 512:
        raise ValueError(f"vocabulary is {vocabulary}; it must be at least 512: all bytes, the marks and some words")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[PAD, EOS, *CONVERSATION_MARKS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        min_frequency=2,
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=EOS,
        additional_special_tokens=list(CONVERSATION_MARKS),
        clean_up_tokenization_spaces=False,
    )


def load_tokenizer(folder: str | Path) -> PreTrainedTokenizerBase:
    """Reads a tokenizer saved with ``save_pretrained``; no code from the folder is run.

    Raises:
        OSError, ValueError: the folder holds no readable tokenizer.
    """
    tokenizer = AutoTokenizer.from_pretrained(str(folder), trust_remote_code=False)
    require_vocabulary(tokenizer)
    return tokenizer


def require_vocabulary(tokenizer: PreTrainedTokenizerBase) -> None:
    """Make sure that a tokenizer can read: transformers makes an empty one where only its vocabulary file is missing.

    Raises:
        ValueError: plain words do not come back from it.
    """
    words = "how many chairs are there"
    if str(tokenizer.decode(encode_text(tokenizer, words))).split() != words.split():
        raise ValueError("its vocabulary cannot write plain words; is tokenizer.json missing?")


def add_conversation_marks(tokenizer: PreTrainedTokenizerBase) -> int:
    """Adds the conversation marks (and an end-of-text token where there is none) to a foreign tokenizer.

    Returns:
        How many tokens were new; the language model's embedding must grow to ``len(tokenizer)``.
    """
    added = 0
    if tokenizer.eos_token_id is None:
        added += tokenizer.add_special_tokens({"eos_token": EOS})
    return added + tokenizer.add_tokens(list(CONVERSATION_MARKS), special_tokens=True)


def mark_ids(tokenizer: PreTrainedTokenizerBase) -> MarkIds:
    """Looks up the conversation marks.

    Raises:
        ValueError: the tokenizer lacks one of them.
    """
    vocabulary = tokenizer.get_vocab()
    missing = [mark for mark in CONVERSATION_MARKS if mark not in vocabulary]
    if tokenizer.eos_token_id is None:
        missing.append("an end-of-text token")
    if missing:
        raise ValueError(f"the tokenizer lacks {', '.join(missing)}; pass it through add_conversation_marks first")
    begin = () if tokenizer.bos_token_id is None else (tokenizer.bos_token_id,)
    return MarkIds(
        start=(*begin, vocabulary[SCENE_START]),
        scene_end=vocabulary[SCENE_END],
        user=vocabulary[USER],
        assistant=vocabulary[ASSISTANT],
        loc=vocabulary[LOC],
        eos=tokenizer.eos_token_id,
    )


def encode_text(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Token ids of plain text. A mark spelled out in it is read as text: a question cannot act as the assistant."""
    return list(tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"])


def encode_answer(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Token ids of a training answer, in which ``<LOC>`` is the mark and everything else plain text."""
    ids: list[int] = []
    loc = tokenizer.convert_tokens_to_ids(LOC)
    assert isinstance(loc, int)
    for index, part in enumerate(text.split(LOC)):
        if index:
            ids.append(loc)
        if part:
            ids.extend(encode_text(tokenizer, part))
    return ids


class TextStream:
    """Turns a growing list of token ids into text, piece by piece, never emitting part of a character.

    Bytes that form no valid UTF-8 are dropped.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        self._ids: list[int] = []
        # Text before `_emitted` went out. Decoding starts one piece earlier, at `_context`, because some tokenizers
        # strip the space of the very first token that they decode.
        self._context = 0
        self._emitted = 0

    def _decode(self, ids: list[int]) -> str:
        return str(self._tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))

    def push(self, token: int) -> str:
        """Adds a token; returns the text that became complete, often empty."""
        self._ids.append(token)
        before = self._decode(self._ids[self._context : self._emitted])
        after = self._decode(self._ids[self._context :])
        # A trailing replacement character may stand for the first bytes of a character still to come.
        if after.endswith("\ufffd"):
            return ""
        return self._advance(before, after)

    def flush(self) -> str:
        """The text held back so far, without its unfinished characters."""
        before = self._decode(self._ids[self._context : self._emitted])
        return self._advance(before, self._decode(self._ids[self._context :]))

    def _advance(self, before: str, after: str) -> str:
        self._context, self._emitted = self._emitted, len(self._ids)
        return after[len(before) :].replace("\ufffd", "")
