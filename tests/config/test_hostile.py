"""Any user text, however hostile, quickly becomes either a config or a list of clean errors."""

import time

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from audit.calibration.world import World
from audit.config.file import ConfigErrors, read_config
from audit.perception.judges.label_file import LabelErrors, read_labels
from audit.planning.targets import read_targets
from audit.preflight.readiness import check_ready
from audit.records.attributes import Attribute
from benchmarks.fuzz_config import CASES, OVERRIDES, Outcome, try_case, without_network

BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{new}: &{new} [{','.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)
FEW = settings(max_examples=200, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


@FEW
@given(data=CASES, overrides=OVERRIDES)
@example(data=b'{"name": "a", "model": {"source": []}}', overrides=[])
def test_any_case_gives_a_config_or_clean_errors(tmp_path, data, overrides):
    with without_network():
        try_case(tmp_path / "hostile.yaml", data, overrides, Outcome())


def seconds_to_refuse(path, text):
    path.write_text(text)
    started = time.perf_counter()
    with pytest.raises(ConfigErrors) as caught:
        read_config(path, [], [check_ready])
    assert len(str(caught.value)) < 5_000_000
    return time.perf_counter() - started


@pytest.mark.parametrize(
    "text",
    [
        BOMB,
        "name: &a [*a]\n",
        "name: " + "[" * 30_000,
        "name: " + "{a: " * 30_000,
        "? " * 20_000,
        "name: a\nprompts:\n  occupations: [" + ",".join(["x"] * 6_000) + "]\n",
        "name: a\n" + "".join(f"key{number}: 1\n" for number in range(2_000)),
        "name: a\ngates: [" + "{}," * 1_500 + "]\n",
        "name: a\nattributes: {" + "".join(f"a{number}: [x], " for number in range(1_000)) + "}\n",
        "name: " + "&a " * 10_000,
        "name: 'a'" + "\n  b" * 10_000,
    ],
    ids=lambda text: text[:18].strip(),
)
def test_an_oversized_text_is_refused_before_it_uses_much_time_or_memory(tmp_path, text):
    assert seconds_to_refuse(tmp_path / "bomb.yaml", text) < 60


def test_a_hostile_table_of_shares_is_refused(tmp_path):
    for number, text in enumerate((BOMB, "a: &a [*a]", "[" * 20_000, "!!python/object/apply:os.system [id]", "\0")):
        path = tmp_path / f"{number}.yaml"
        path.write_text(text)
        with pytest.raises(ValueError, match=rf"{number}\.yaml") as caught:
            World.load(path)
        assert len(str(caught.value)) < 2_000


def test_a_password_in_an_invalid_value_is_not_shown(tmp_path):
    path = tmp_path / "audit.yaml"
    path.write_text(
        "name: a\nmodel: {source: rendered}\ntracking: {uri: 'ftp://ann:hunter2@host/'}\nseed: 'password=hunter2'\n"
    )
    with pytest.raises(ConfigErrors) as caught:
        read_config(path, ["sampling.steps=https://ann:hunter2@host"], [check_ready])
    assert len(caught.value.errors) == 3
    assert "hunter2" not in str(caught.value)
    assert not [error for error in caught.value.errors if "hunter2" in repr(error)]


def test_names_with_path_separators_or_control_characters_are_refused(tmp_path):
    path = tmp_path / "audit.yaml"
    for name in ("../a", "a/b", "..", ".hidden", "a\\b", "a\\0", "\\e[2J", "\\u202e"):
        path.write_text(f'name: "{name}"\n' if "\\" in name else f"name: '{name}'\n")
        with pytest.raises(ConfigErrors, match="name: expected"):
            read_config(path)
        path.write_text(f'name: a\nmitigations: [{{name: "{name}", attribute: gender}}]\n')
        with pytest.raises(ConfigErrors):
            read_config(path)
    path.write_text('name: a\nprompts: {occupations: ["nurse\\u202e", "\\0", "a\\rb"]}\n')
    with pytest.raises(ConfigErrors) as caught:
        read_config(path)
    assert sum("without control characters" in error.message for error in caught.value.errors) == 3


CSV_LIKE = st.text(alphabet="attributetruthperceivedgenderfemale,\"'\n\r;=+-@0.5\x00\u2028#", max_size=120)
HEADERS = st.sampled_from(["attribute,truth,perceived\n", "prompt,attribute,group,share\n", ""])


@FEW
@given(head=HEADERS, body=CSV_LIKE)
def test_an_arbitrary_table_of_labels_or_targets_is_refused_cleanly(tmp_path, head, body):
    path = tmp_path / "table.csv"
    path.write_bytes((head + body).encode())
    with pytest.raises(LabelErrors) as labels:
        read_labels(path)
    with pytest.raises(ConfigErrors) as targets:
        read_targets(path, ["nurse"], [Attribute("gender", ("female", "male"))])
    assert labels.value.errors
    assert targets.value.errors
