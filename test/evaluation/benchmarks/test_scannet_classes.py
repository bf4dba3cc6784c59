import pytest

from vidllm_ros.evaluation.benchmarks import scannet
from vidllm_ros.evaluation.errors import EvaluationError

TABLE = "id\traw_category\tcategory\tcount\tnyu40id\teigen13id\tnyuClass\tnyu40class\n" + "".join(
    f"{k}\t{raw}\t{raw}\t1\t{number}\t0\tx\tx\n"
    for k, (raw, number) in enumerate(
        {"office chair": 5, "chair": 5, "table": 7, "coffee table": 7, "wall": 1, "floor": 2, "lamp": 35}.items()
    )
)


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "scannetv2-labels.combined.tsv"
    path.write_text(TABLE)
    return scannet.read_class_table(path)


def test_two_chairs_are_multiple_whatever_they_are_called(table):
    rows = [
        ("s1", "1", "office_chair"),
        ("s1", "2", "chair"),
        ("s1", "1", "office_chair"),  # a second description of the same chair
        ("s1", "3", "coffee_table"),
        ("s2", 1, "chair"),  # another scene
    ]
    assert scannet.unique_objects(rows, table) == [False, False, False, True, True]


def test_names_that_are_not_in_the_table_are_others(table):
    assert scannet.object_class("flux capacitor", table) == scannet.object_class("lamp", table) == scannet.OTHERS
    assert scannet.unique_objects([("s", "1", "lamp"), ("s", "2", "flux_capacitor")], table) == [False, False]


def test_the_first_name_of_an_object_decides(table):
    assert scannet.unique_objects([("s", "1", "chair"), ("s", "1", "table"), ("s", "2", "table")], table) == [True] * 3


def test_walls_and_floors_are_where_the_rules_differ(table):
    rows = [("s", "1", "wall"), ("s", "2", "lamp"), ("s", "3", "floor")]
    assert scannet.unique_objects(rows, table, "scanrefer") == [False, False, False]
    assert scannet.unique_objects(rows, table, "m3dref-clip") == [True, True, True]


def test_other_files_and_rules_say_so(tmp_path, table):
    (tmp_path / "other.tsv").write_text("a\tb\n1\t2\n")
    with pytest.raises(EvaluationError, match="other.tsv is no label table"):
        scannet.read_class_table(tmp_path / "other.tsv")
    with pytest.raises(EvaluationError, match="is no label table"):
        scannet.read_class_table(tmp_path / "absent.tsv")
    with pytest.raises(EvaluationError, match="rule 'nyu' is unknown"):
        scannet.unique_objects([("s", "1", "chair")], table, "nyu")
