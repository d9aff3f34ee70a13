"""Hand labels: all errors are reported with their positions, and counts are stored by the names of the groups."""

import json

import pytest

from audit.calibration.bundle import BUNDLED
from audit.calibration.labels import ATTRIBUTES
from audit.measure.shares.classifier_error import ConfusionMatrix
from audit.perception.judges.confusion_file import read_confusions, write_confusions
from audit.perception.judges.label_file import LabelErrors, read_labels

HEADER = "attribute,truth,perceived\n"


@pytest.fixture
def labels(tmp_path):
    def write(text):
        path = tmp_path / "labels.csv"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def mistakes(path, attributes=None):
    """The errors as ``line:column where``, and all messages in one text."""
    with pytest.raises(LabelErrors) as caught:
        read_labels(path, attributes)
    errors = caught.value.errors
    assert all(error.file == str(path) for error in errors)
    return [f"{error.line}:{error.column} {error.where}".strip() for error in errors], str(caught.value)


def test_labels_are_counted_by_truth_and_answer(labels):
    rows = ["gender,male,male"] * 3 + ["gender,male,female"] + ["gender,female,female"] * 2 + ["age,old,young"]
    rows += ["age,young,young", "age,old,old"]
    found = read_labels(labels(HEADER + "\n".join(rows)))
    assert found == {
        "gender": ConfusionMatrix(("female", "male"), ((2, 0), (1, 3))),
        "age": ConfusionMatrix(("old", "young"), ((1, 1), (0, 1))),
    }


def test_groups_of_a_matrix_are_in_the_order_of_the_config(labels):
    path = labels(HEADER + "age,old,young\nage,young,young\nage,adult,adult\n")
    found = read_labels(path, {"age": ("young", "adult", "old"), "gender": ("female", "male")})
    assert found == {"age": ConfusionMatrix(("young", "adult", "old"), ((1, 0, 0), (0, 1, 0), (1, 0, 0)))}


def test_columns_can_be_in_any_order_quoted_and_after_a_byte_order_mark(labels):
    text = '\ufeffimage, perceived,truth ,attribute\r\n"a,""1"".png", male,female,gender\r\n\r\n'
    text += "b.png,female,male,gender\r\n"
    assert read_labels(labels(text))["gender"].counts == ((0, 1), (1, 0))


def test_all_errors_are_reported_together_with_their_positions(labels):
    path = labels(
        "image,attribute,truth,perceived\n"
        "a.png,gender,female,female\n"
        "b.png,gender,male,mail\n"
        "c.png,gendre,male,male\n"
        'd.png,"gender",,male\n'
        "e.png,gender,male\n"
        "a.png,gender,male,male\n"
        'f.png,gender,"male,male\n'
        "  g.png,  gender,  Female,male\n"
    )
    places, told = mistakes(path, {"gender": ("female", "male")})
    assert places == [
        "3:19 perceived",
        "4:7 attribute",
        "5:16 truth",
        "6:1",
        "7:1 image",
        "8:1",
        "9:20 truth",
    ]
    assert (
        f"{path}:3:19: perceived: expected a group of gender (female, male), found 'mail'; did you mean 'male'?" in told
    )
    assert "found 'gendre'; did you mean 'gender'?" in told
    assert "expected 4 values (image, attribute, truth, perceived), found 3" in told
    assert "the first is in line 2" in told


def test_without_a_config_a_name_used_only_as_truth_or_answer_is_an_error(labels):
    path = labels(HEADER + "gender,female,female\ngender,male,male\ngender,femal,female\ngender,male,mael\n")
    places, told = mistakes(path)
    assert places == ["4:8 truth", "5:13 perceived"]
    assert "found 'femal'; did you mean 'female'?" in told


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        ("", "1:1", "expected a header with attribute,truth,perceived, found an empty line"),
        ("attribute;truth;perceived\n", "1:1", "attribute, truth, perceived is missing"),
        ("attribute,truth\n", "1:1", "perceived is missing"),
        ("attribute,truth,percieved\n", "1:17", "did you mean 'perceived'?"),
        ("attribute,truth,perceived,truth\n", "1:27", "found 'truth' again"),
        ('attribute,"truth\n', "1:1", "expected a header"),
        (HEADER, "1:1", "expected labels below the header"),
        (HEADER + "gender,male,male\n", "None:None", "at least 2 groups of gender"),
        (HEADER + "answers,a,a\nanswers,b,b\n", "2:1 attribute", "found 'answers'"),
        (b"attribute,truth,perceived\ngender,m\xe4nnlich,x\n", "2:1", "found the byte 0xe4"),
    ],
)
def test_a_file_without_countable_labels_is_refused_with_a_reason(labels, text, place, message):
    places, told = mistakes(labels(text))
    assert place in places
    assert message in told


def test_a_group_without_labels_is_named(labels):
    path = labels(HEADER + "age,young,young\nage,old,adult\n")
    _, told = mistakes(path, {"age": ("young", "adult", "old")})
    assert "expected images whose age is adult, found none" in told


def test_a_missing_file_is_an_error(tmp_path):
    _, told = mistakes(tmp_path / "absent.csv")
    assert "expected a readable CSV file" in told


def test_matrices_are_read_in_the_requested_order(tmp_path):
    path = tmp_path / "confusion.json"
    matrix = ConfusionMatrix(("female", "male"), ((90, 10), (5, 95)))
    write_confusions(path, {"gender": matrix})
    assert json.loads(path.read_text()) == {"answers": {"gender": ["female", "male"]}, "gender": [[90, 10], [5, 95]]}
    found = read_confusions(path, {"gender": ("male", "female"), "age": ("young", "old")})
    assert found == {"gender": ConfusionMatrix(("male", "female"), ((95, 5), (10, 90)))}
    assert list(tmp_path.iterdir()) == [path]


def test_the_matrices_of_the_bundled_judge_can_be_read():
    found = read_confusions(BUNDLED / "judge" / "confusion.json", ATTRIBUTES)
    assert {name: matrix.groups for name, matrix in found.items()} == ATTRIBUTES
    assert all(matrix.accuracy.value > 0.9 and matrix.correctable for matrix in found.values())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("no json", "found invalid JSON"),
        ("[]", "found a list instead of an object"),
        ('{"gender": [[1, 0], [0, 1]]}', "the names of the groups"),
        ('{"answers": {}, "gender": [[1, 0], [0, 1]]}', "the names of the groups"),
        ('{"answers": {"age": ["a", "b"]}, "gender": [[1, 0], [0, 1]]}', "no groups of 'gender'"),
        (
            '{"answers": {"gender": ["female", "other"]}, "gender": [[1, 0], [0, 1]]}',
            "expected the groups female, male",
        ),
        ('{"answers": {"gender": ["female", "male"]}, "gender": [[1, 0]]}', "2 rows of 2"),
        ('{"answers": {"gender": ["female", "male"]}, "gender": "x"}', "confusion matrices of gender"),
    ],
)
def test_a_file_without_confusion_matrices_is_refused(tmp_path, text, message):
    path = tmp_path / "confusion.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as caught:
        read_confusions(path, {"gender": ("female", "male")})
    assert str(path) in str(caught.value)


def test_writing_no_matrix_or_a_reserved_name_is_refused(tmp_path):
    matrix = ConfusionMatrix(("a", "b"), ((1, 0), (0, 1)))
    for matrices in ({}, {"answers": matrix}):
        with pytest.raises(ValueError, match="at least one attribute"):
            write_confusions(tmp_path / "confusion.json", matrices)


def test_labels_may_name_groups_that_the_judge_knows_and_the_config_does_not_audit(tmp_path):
    pairs = [("young", "young"), ("old", "old"), ("adult", "adult"), ("adult", "old"), ("young", "adult")]
    path = tmp_path / "labels.csv"
    path.write_text(HEADER + "".join(f"age,{truth},{perceived}\n" for truth, perceived in pairs))
    two = {"age": ("young", "old")}
    found = read_labels(path, two, {"age": ("adult", "ancient")})["age"]
    assert found.groups == ("young", "old", "adult")
    assert found.counts == ((1, 0, 1), (0, 1, 0), (0, 1, 1))
    with pytest.raises(LabelErrors, match="expected a group of age"):
        read_labels(path, two)
