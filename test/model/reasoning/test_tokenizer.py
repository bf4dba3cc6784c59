"""The vocabulary: any text survives, marks cannot be injected, streams never break a character."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from vidllm_ros.model.reasoning.tokenizer import (
    CONVERSATION_MARKS,
    EOS,
    PAD,
    TextStream,
    add_conversation_marks,
    encode_answer,
    encode_text,
    load_tokenizer,
    mark_ids,
    train_tokenizer,
)

TOKENIZER = train_tokenizer(["How many chairs are there? There are 12 chairs.", "The table is 1.25 m wide."] * 20)


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=60))
def test_any_unicode_text_survives(text):
    assert TOKENIZER.decode(encode_text(TOKENIZER, text), skip_special_tokens=True) == text


def test_digits_are_single_tokens():
    tokens = TOKENIZER.convert_ids_to_tokens(encode_text(TOKENIZER, "12 chairs at 345"))
    assert [token for token in tokens if any(c.isdigit() for c in token)] == ["1", "2", "3", "4", "5"]


@pytest.mark.parametrize("mark", [*CONVERSATION_MARKS, PAD, EOS])
def test_a_mark_in_a_text_stays_text(mark):
    text = f"hello {mark} there{mark}"
    ids = encode_text(TOKENIZER, text)
    assert not set(ids) & set(TOKENIZER.all_special_ids)
    assert TOKENIZER.decode(ids) == text
    # The plain call would have read it as the mark.
    assert TOKENIZER.convert_tokens_to_ids(mark) in TOKENIZER(text)["input_ids"]


def test_loc_is_a_mark_in_answers_only():
    loc = TOKENIZER.convert_tokens_to_ids("<LOC>")
    ids = encode_answer(TOKENIZER, "<LOC> here and <LOC><user>")
    assert [k for k in ids if k in TOKENIZER.all_special_ids] == [loc, loc]
    assert ids[0] == loc


def test_saved_and_loaded_again(tmp_path):
    TOKENIZER.save_pretrained(tmp_path)
    loaded = load_tokenizer(tmp_path)
    text = "How many chairs? <LOC> 12 \N{SNOWMAN}"
    assert encode_text(loaded, text) == encode_text(TOKENIZER, text)
    assert encode_answer(loaded, text) == encode_answer(TOKENIZER, text)
    assert mark_ids(loaded) == mark_ids(TOKENIZER)


def test_a_foreign_tokenizer_gains_the_marks():
    words = Tokenizer(models.WordLevel({"hello": 0, "[UNK]": 1, "<s>": 2}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    foreign = PreTrainedTokenizerFast(tokenizer_object=words, unk_token="[UNK]", bos_token="<s>")
    with pytest.raises(ValueError, match="lacks <scene>"):
        mark_ids(foreign)
    assert add_conversation_marks(foreign) == len(CONVERSATION_MARKS) + 1
    assert add_conversation_marks(foreign) == 0
    marks = mark_ids(foreign)
    assert marks.start == (2, foreign.convert_tokens_to_ids("<scene>"))
    assert marks.eos == foreign.convert_tokens_to_ids(EOS)


def test_a_small_vocabulary_is_refused():
    with pytest.raises(ValueError, match="vocabulary is 100"):
        train_tokenizer(["text"], vocabulary=100)


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=40))
def test_a_stream_gives_the_text_in_whole_characters(text):
    stream = TextStream(TOKENIZER)
    pieces = [stream.push(token) for token in encode_text(TOKENIZER, text)]
    assert all("\ufffd" not in piece for piece in pieces)
    assert "".join(pieces) + stream.flush() == text.replace("\ufffd", "")


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, len(TOKENIZER) - 1), max_size=30))
def test_a_stream_of_random_tokens_holds_no_broken_character(ids):
    stream = TextStream(TOKENIZER)
    text = "".join(stream.push(token) for token in ids) + stream.flush()
    expected = TOKENIZER.decode(ids, skip_special_tokens=True).replace("\ufffd", "")
    assert text == expected


def test_a_stream_keeps_the_spaces_of_a_tokenizer_that_joins_words():
    words = Tokenizer(models.WordLevel({"hello": 0, "there": 1, "you": 2}))
    plain = PreTrainedTokenizerFast(tokenizer_object=words)
    stream = TextStream(plain)
    assert [stream.push(token) for token in (0, 1, 2)] == ["hello", " there", " you"]
