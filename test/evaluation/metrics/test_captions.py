"""Text scores in every dialect. Constants come from the published scripts with `pycocoevalcap` 1.2 on these items."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vidllm_ros.evaluation.errors import EvaluationError
from vidllm_ros.evaluation.metrics import captions, java_metrics, qa
from vidllm_ros.evaluation.metrics.dialects import CAPTION_DIALECTS, DIALECTS

ABSENT = java_metrics.missing()
needs_java = pytest.mark.skipif(bool(ABSENT), reason=ABSENT or "all is here")
pytestmark = pytest.mark.filterwarnings("ignore:Not computed")

PREDICTIONS = {
    "a": "The brown chair.",
    "b": "none",
    "c": "TV",
    "d": "left of the café table",
    "e": "",
    "f": "a wooden chair",
    "g": "On the left side of the door, next to a window.",
    "h": "two",
}
REFERENCES = {
    "a": ["brown chair"],
    "b": ["zero", "0"],
    "c": ["tv", "a television"],
    "d": ["left of the caf table", "next to the table"],
    "e": ["yes"],
    "f": ["brown wooden chair", "wooden chair"],
    "g": ["on the left side of the door", "next to the window (left)"],
    "h": ["2"],
}
NAMES = ("CIDEr", "BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "ROUGE-L", "METEOR")
NGRAMS = {
    "scanqa": (1.7874372014910995, 0.7599999999696, 0.6815016099761352, 0.5838738106723305, 0.5311953254541611)
    + (0.5337638281118899, 0.3873467389009225),
    "leo": (3.088709833331741, 0.9473684210027701, 0.8885233165782346, 0.7902040024899833, 0.6368308666672752)
    + (0.8302631578947368, 0.5992141654865276),
    "llava3d": (3.2210640891645785, 0.9999999999473684, 0.95742710769125, 0.8825870837547412, 0.7657035783203369)
    + (0.850328947368421, 0.601275682110908),
    "video3dllm": (1.4244488369514805, 0.6399999999744, 0.5656854249222109, 0.45049915215236713, 0.36772908606542304)
    + (0.3798264467077153, 0.38615855872024485),
    "chatscene": (2.0587513902847556, 0.9473684209529085, 0.7433919415853646, 0.41031296219724206)
    + (5.82503601843698e-05, 0.6932759165613147, 0.422483750361768),
}
MATCHES = {
    "scanqa": (0.0, math.nan),
    "leo": (0.625, 1.0),
    "llava3d": (0.75, 1.0),
    "video3dllm": (0.0, math.nan),
    "chatscene": (0.375, 0.375),
}


@pytest.mark.parametrize("dialect", DIALECTS)
def test_answers_as_each_published_script_scores_them(dialect):
    result = captions.score(PREDICTIONS, REFERENCES, dialect)
    assert (result["EM@1"], result["refined EM"]) == pytest.approx(MATCHES[dialect], nan_ok=True)
    assert result["dialect"] == dialect and result["items"] == 8
    known = NAMES if not ABSENT else () if DIALECTS[dialect].tokenize else NAMES[:-1]
    for name, value in zip(NAMES, NGRAMS[dialect], strict=True):
        if name in known:
            assert result[name] == pytest.approx(value, rel=1e-12), name
        else:
            assert math.isnan(result[name])
    assert bool(result["notes"]) == bool(ABSENT)


def test_without_java_the_rest_is_scored_and_the_absence_said(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    with pytest.warns(UserWarning, match="Not computed: METEOR"):
        result = captions.score(PREDICTIONS, REFERENCES, "leo")
    assert math.isnan(result["METEOR"]) and result["CIDEr"] == pytest.approx(NGRAMS["leo"][0], rel=1e-12)
    with pytest.warns(UserWarning, match="all but exact match"):
        result = captions.score(PREDICTIONS, REFERENCES)
    assert math.isnan(result["CIDEr"]) and result["EM@1"] == 0.0
    assert "install a Java runtime" in result["notes"][0]


def matches(dialect, answer, references):
    return DIALECTS[dialect].match(answer, references)


def test_the_order_of_references_matters_in_leo_only():
    assert matches("leo", "chair", ["brown chair", "chair"]) == (False, True)
    assert matches("leo", "chair", ["chair", "brown chair"]) == (True, True)
    assert matches("llava3d", "chair", ["brown chair", "chair"]) == (True, True)


def test_an_empty_answer_is_part_of_every_answer_but_in_chat_scene():
    assert matches("leo", "", ["chair"]) == matches("llava3d", " . ", ["chair"]) == (False, True)
    assert matches("chatscene", "", ["chair"]) == matches("chatscene", ".", [""]) == (False, False)
    assert matches("scanqa", "", ["chair"]) == (False, False)
    assert qa.matches("", ["chair"]) == (False, False)


def test_raw_dialects_compare_letter_by_letter():
    assert matches("scanqa", "Chair", ["chair"])[0] is False
    assert matches("video3dllm", "chair.", ["chair"])[0] is False
    assert matches("chatscene", "Chair.", ["chair"]) == (True, True)
    assert matches("chatscene", "TV.", ["TV"]) == (True, True) and matches("chatscene", "2", ["2"]) == (False, False)


def test_clean_answer_is_the_shared_one():
    assert captions.clean_answer is qa.clean_answer


def test_sqa3d_by_kind_of_question():
    questions = {
        "1": "What is it?",
        "2": "  what colour?",
        "3": "Island or table?",
        "4": "Cane or stick?",
        "5": "Where am I?",
        "6": "How many?",
    }
    references = {"1": "chair", "2": "brown", "3": "table", "4": "stick", "5": ["left"], "6": "none"}
    predictions = {"1": "The chair", "2": "dark brown", "3": "table.", "4": "", "5": "right", "6": "0"}
    result = captions.sqa3d_score(predictions, references, questions, "leo")
    assert result["EM@1"] == 3 / 6 and result["refined EM"] == 5 / 6
    assert [result[f"items ({kind})"] for kind in captions.QUESTION_TYPES] == [2, 1, 1, 1, 0, 1]
    assert result["EM@1 (what)"] == 0.5 and result["refined EM (can)"] == 1.0 and math.isnan(result["EM@1 (which)"])
    assert captions.sqa3d_score(predictions, references, questions, "chatscene")["refined EM"] == 4 / 6
    for dialect in ("scanqa", "video3dllm"):
        strict = captions.sqa3d_score(predictions, references, questions, dialect)
        assert strict["EM@1"] == 3 / 6 and math.isnan(strict["refined EM"])


PROPOSALS = {
    "s|1|chair": [("This is a brown chair. it is next to the table, left.", 0.7), ("a chair", 0.6)],
    "s|2|table": [("a round table", 0.5)],
    "s|3|sofa": [],
}
DESCRIPTIONS = {
    "s|1|chair": ["this is a brown chair . it is next to the table .", "the chair is " + "very " * 30 + "brown"],
    "s|2|table": ["a round white table"],
    "s|3|sofa": ["there is a grey sofa by the wall"],
}
SCAN2CAP = {
    "scan2cap": (0.02359821062925571, 0.05641613948967335, 0.3791525307170365, 0.15479331574318383, 1 / 3),
    "leo": (2.477211116640149, 0.6141058144664311, 0.6785353831263401, 0.40484724400723027, 2 / 3),
    "video3dllm": (2.7038841684127193, 0.684766041894166, 0.7007509291574919, 0.40484724400723027, 2 / 3),
}


@pytest.mark.parametrize("dialect", SCAN2CAP)
def test_captions_of_objects_as_each_published_script_scores_them(dialect):
    # two boxes of one object (the last, or the better one, speaks), an IoU on the threshold, an object without a box,
    # a description of more than 30 words
    result = captions.scan2cap_score(PROPOSALS, DESCRIPTIONS, 0.5, dialect)
    cider, bleu, rouge, meteor, found = SCAN2CAP[dialect]
    assert (result["CIDEr"], result["BLEU-1"], result["ROUGE-L"]) == pytest.approx((cider, bleu, rouge), rel=1e-12)
    assert result["found"] == pytest.approx(found) and result["items"] == 3
    assert ABSENT or result["METEOR"] == pytest.approx(meteor, rel=1e-12)


@needs_java
def test_chat_scene_tokenises_captions():
    result = captions.scan2cap_score(PROPOSALS, DESCRIPTIONS, 0.5, "chatscene")
    # punctuation is gone on both sides, so the words agree better than in the dialects that keep it
    assert result["found"] == 2 / 3 and result["BLEU-1"] > SCAN2CAP["leo"][1]


def test_descriptions_may_come_as_tokens_and_objects_without_a_box_still_count():
    tokens = {key: [text.split() for text in texts] for key, texts in DESCRIPTIONS.items()}
    for dialect in ("scan2cap", "leo", "video3dllm"):
        a = captions.scan2cap_score(PROPOSALS, DESCRIPTIONS, 0.5, dialect)
        b = captions.scan2cap_score({**PROPOSALS, "s|3|sofa": []}, tokens, 0.5, dialect)
        assert a["CIDEr"] == b["CIDEr"] and a["ROUGE-L"] == b["ROUGE-L"]
    nothing = captions.scan2cap_score({}, DESCRIPTIONS, 0.5, "leo")
    assert nothing["found"] == 0.0 and nothing["ROUGE-L"] > 0.1  # "sos" and "eos" always agree
    assert captions.scan2cap_score({}, DESCRIPTIONS, 0.5, "scanqa")["dialect"] == "scan2cap"


def test_punctuation_only_and_references_without_a_token():
    result = captions.score({"a": "?!", "b": " "}, {"a": ["..."], "b": ["yes"]}, "leo")
    assert result["EM@1"] == 0.5 and result["CIDEr"] == 0.0  # "..." and "?!" both clean to nothing
    result = captions.score({"a": "..."}, {"a": ["."]}, "video3dllm")
    assert result["EM@1"] == 0.0 and 0 <= result["ROUGE-L"] <= 1


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(
        st.text(max_size=3),
        st.tuples(st.text(max_size=12), st.lists(st.text(max_size=12), min_size=1, max_size=3)),
        min_size=1,
    ),
    st.sampled_from(["leo", "video3dllm"]),
)
def test_any_text_has_defined_values(items, dialect):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(java_metrics, "missing", lambda: "METEOR is left out here.")
        result = captions.score({k: p for k, (p, _) in items.items()}, {k: r for k, (_, r) in items.items()}, dialect)
    assert 0 <= result["EM@1"] <= 1 and 0 <= result["CIDEr"] <= 10.0001
    assert all(0 <= result[name] <= 1.0001 for name in ("BLEU-1", "BLEU-4", "ROUGE-L"))


@pytest.mark.parametrize(
    ("predictions", "references", "dialect", "problem"),
    [
        ({}, {}, "leo", "nothing to score"),
        ({"a": "x"}, {"a": ["x"], "b": ["y"]}, "leo", "1 of 2 items have no prediction, for example 'b'"),
        ({"a": "x", "b": "y"}, {"a": ["x"]}, "leo", "1 predictions have no reference, for example 'b'"),
        ({"a": "x"}, {"a": []}, "leo", "at least one reference"),
        ({"a": "x"}, {"a": "x"}, "leo", "needs a list"),
        ({"a": None}, {"a": ["x"]}, "leo", "needs text, got NoneType"),
        ({"a": "x"}, {"a": [float("nan")]}, "leo", "needs text, got float"),
        ({"a": "x"}, {"a": ["x"]}, "coco", "dialect 'coco' is unknown: use one of scanqa, leo"),
    ],
)
def test_unusable_text_gives_one_clear_error(predictions, references, dialect, problem):
    with pytest.raises(EvaluationError, match=problem):
        captions.score(predictions, references, dialect)


def test_unusable_captions_give_one_clear_error():
    with pytest.raises(EvaluationError, match="without a description, for example 'x'"):
        captions.scan2cap_score({"x": []}, DESCRIPTIONS)
    with pytest.raises(EvaluationError, match="IoU of a box of 's|1|chair' is 1.5"):
        captions.scan2cap_score({"s|1|chair": [("a", 1.5)]}, DESCRIPTIONS)
    with pytest.raises(EvaluationError, match="published no script"):
        captions.scan2cap_score({}, DESCRIPTIONS, 0.5, "llava3d")
    with pytest.raises(EvaluationError, match=", ".join(CAPTION_DIALECTS)):
        captions.scan2cap_score({}, DESCRIPTIONS, 0.5, "coco")
    with pytest.raises(EvaluationError, match="1 answers have no question"):
        captions.sqa3d_score({"a": "x"}, {"a": "x"}, {})
