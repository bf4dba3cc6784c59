"""The PTB tokenizer and METEOR, where Java and the extra `captions` are installed."""

import pytest

from vidllm_ros.evaluation.errors import EvaluationError
from vidllm_ros.evaluation.metrics import java_metrics

needs_java = pytest.mark.skipif(bool(java_metrics.missing()), reason=java_metrics.missing() or "all is here")


@needs_java
def test_tokens_of_odd_captions():
    expected = {
        "It's a chair, isn't it?": "it 's a chair is n't it",
        "a (round) table {here}": "a -lrb- round -rrb- table -lcb- here -rcb-",
        "what?! really!!": "what ?! really !!",
        "well... ok … fine": "well ok fine",
        "don't; cannot gonna 'tis": "do n't can not gon na 't is",
        "o'clock l-shaped and/or 1/2 2.5 1,000": "o'clock l-shaped and/or 1/2 2.5 1,000",
        "10% 6'2\" €5 £3 ½": "10 % 6 2 $ 5 # 3 1/2",
        "U.S. t.v. etc. end.": "u.s. t.v. etc. end",
        "": "",
        "  . , ": "",
        "café ñ 椅子": "café ñ 椅子",
    }
    assert dict(zip(expected, java_metrics.ptb_tokens(list(expected)), strict=True)) == expected


@needs_java
@pytest.mark.parametrize("end", ["\n", "\r", "\r\n", "\v", "\f", "\u2028", "\u2029", "\x85", "\x1c"])
def test_what_ends_a_line_shifts_nothing(end):
    assert java_metrics.ptb_tokens(["one", f"two{end}three", "four"]) == ["one", "two three", "four"]
    broken = java_metrics.meteor([f"two{end}chairs", "a bed"], [["two chairs"], [f"a{end}bed"]])
    assert broken == java_metrics.meteor(["two chairs", "a bed"], [["two chairs"], ["a bed"]])


@needs_java
def test_empty_captions_keep_their_place():
    assert java_metrics.ptb_tokens(["", "a", "", ""]) == ["", "a", "", ""]
    assert java_metrics.ptb_tokens([]) == []
    assert java_metrics.meteor(["", "chair"], [["chair"], [""]])[1] == [0.0, 0.0]


@needs_java
def test_meteor_knows_stems_synonyms_and_the_corpus():
    # values of pycocoevalcap 1.2
    predictions = ["two chairs next to the sofa", "a picture on the wall", "bed"]
    references = [["two chairs beside the couch", "chairs"], ["pictures on a wall"], ["a table"]]
    corpus, each = java_metrics.meteor(predictions, references)
    assert each == pytest.approx([0.3170184304004672, 0.3617328777812025, 0.0], rel=1e-12)
    assert corpus == pytest.approx(0.27837565853602153, rel=1e-12)
    assert corpus != pytest.approx(sum(each) / 3, rel=0.01)


@needs_java
def test_separators_inside_captions_are_dropped():
    plain = java_metrics.meteor(["a chair"], [["a chair"]])
    assert java_metrics.meteor(["a ||| chair"], [["a chair"]]) == plain
    assert java_metrics.meteor(["a chair"], [["a |||chair"]]) == plain


@needs_java
def test_any_text_is_survived():
    assert len(java_metrics.ptb_tokens(["\ud800", "\x00", "😀", "a" * 5000])) == 4


@needs_java
def test_a_meteor_that_was_killed_is_started_again():
    before = java_metrics.meteor(["a chair"], [["a chair"]])
    java_metrics._METEORS[0].close()
    assert java_metrics.meteor(["a chair"], [["a chair"]]) == before


def test_absent_java_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    assert "no 'java' on the PATH" in java_metrics.missing()
    with pytest.raises(EvaluationError, match="install a Java runtime"):
        java_metrics.meteor(["a"], [["a"]])


def test_absent_programs_name_the_extra(monkeypatch, tmp_path):
    java = tmp_path / "java"
    java.write_text("#!/bin/sh\n")
    java.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setattr(java_metrics.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(EvaluationError, match=r"vidllm_ros\[captions\]"):
        java_metrics.ptb_tokens(["a"])
