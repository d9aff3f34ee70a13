"""Targets come out in the order of the groups, and a file's mistakes are all told at once, each at its place."""

import hashlib
from pathlib import Path

import pytest

from audit.config.errors import ConfigErrors
from audit.config.settings import AuditConfig
from audit.planning import targets as module
from audit.planning.targets import audit_targets, pooled_target, read_targets, uniform_targets
from audit.records.attributes import Attribute, TargetSource

GENDER = Attribute("gender", ("female", "male"))
RACE = Attribute("race", ("white", "black", "asian"))
HEADER = "prompt,attribute,group,share\n"
TEMPLATE = Path(__file__).parents[2] / "configs" / "targets_template.csv"


@pytest.fixture
def read(tmp_path):
    def reader(text, prompts=("doctor",), attributes=(GENDER,), categories=None):
        path = tmp_path / "targets.csv"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return read_targets(path, prompts, attributes, categories).shares

    return reader


@pytest.fixture
def mistakes(read):
    def reader(*args, **kwargs):
        with pytest.raises(ConfigErrors) as raised:
            read(*args, **kwargs)
        return [str(error).partition("targets.csv")[2].removeprefix(":") for error in raised.value.errors]

    return reader


def test_uniform_targets_are_equal_shares():
    found = uniform_targets(("doctor", "nurse"), (GENDER, RACE))
    assert found == {p: {"gender": (0.5, 0.5), "race": (1 / 3,) * 3} for p in ("doctor", "nurse")}


def config(**targets):
    return AuditConfig(name="trial", attributes={"gender": GENDER.groups, "race": RACE.groups}, targets=targets).targets


def test_inline_shares_hold_for_every_prompt_in_the_order_of_the_groups():
    found = audit_targets(config(gender={"male": 0.3, "female": 0.7}), ("doctor", "nurse"), (GENDER, RACE))
    assert found.shares["doctor"]["gender"] == found.shares["nurse"]["gender"] == pytest.approx((0.7, 0.3))
    assert found.shares["doctor"]["race"] == (1 / 3,) * 3
    assert found.sources == {"gender": TargetSource("shares"), "race": TargetSource("uniform")}


def test_attributes_may_share_a_file_and_each_says_where_it_is_from(tmp_path):
    path = tmp_path / "shares.csv"
    path.write_text(
        "prompt,attribute,group,share,source\n"
        "doctor,gender,Women,0.4,survey A\ndoctor,gender,Men,0.6,survey A\n"
        "doctor,race,white,0.5,survey B\ndoctor,race,black,0.3,\ndoctor,race,asian,0.2,survey C\n"
    )
    categories = {"Women": "female", "Men": "male"}
    choices = config(gender={"csv": str(path), "categories": categories}, race={"csv": str(path)})
    found = audit_targets(choices, ("doctor",), (GENDER, RACE))
    assert found.shares == {"doctor": {"gender": pytest.approx((0.4, 0.6)), "race": pytest.approx((0.5, 0.3, 0.2))}}
    assert [found.sources[name].origins for name in ("gender", "race")] == [("survey A",), ("survey B", "survey C")]
    assert found.sources["gender"].sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_pool_of_unequal_prompts_has_the_target_that_its_images_make():
    targets = {"doctor": {"gender": (0.2, 0.8)}, "nurse": {"gender": (0.8, 0.2)}}
    assert pooled_target(targets, {"doctor": 30, "nurse": 10}, GENDER) == pytest.approx((0.35, 0.65))
    assert pooled_target(targets, {"doctor": 0, "nurse": 0}, GENDER) == pytest.approx((0.5, 0.5))
    assert pooled_target({}, {"doctor": 3, "nurse": 1}, RACE) == (1 / 3,) * 3


def test_a_file_gives_each_prompt_its_own_shares(read):
    text = (
        HEADER + "nurse,gender,male,0.2\nnurse,gender,female,0.8\ndoctor,gender,female,0.45\ndoctor,gender,male,0.55\n"
    )
    found = read(text, prompts=("doctor", "nurse"))
    assert found == {"doctor": {"gender": pytest.approx((0.45, 0.55))}, "nurse": {"gender": pytest.approx((0.8, 0.2))}}
    assert list(found) == ["doctor", "nurse"]


def test_shares_that_were_rounded_are_scaled_and_anything_further_off_is_refused(read, mistakes):
    found = read(
        HEADER + "doctor,race,white,0.333\ndoctor,race,black,0.333\ndoctor,race,asian,0.333\n", attributes=[RACE]
    )
    assert sum(found["doctor"]["race"]) == pytest.approx(1, abs=1e-15)
    assert read(HEADER + "doctor,gender,female,0.5\ndoctor,gender,male,0.495\n")
    assert mistakes(HEADER + "doctor,gender,female,0.5\ndoctor,gender,male,0.49\n") == [
        "2:22: doctor.gender: expected shares that add up to 1 (within 0.005), found 0.99; is a category missing?"
    ]
    (above,) = mistakes(HEADER + "doctor,gender,female,0.6\ndoctor,gender,male,0.6\n")
    assert "found 1.2; do categories overlap" in above


def test_categories_of_the_source_are_added_up_by_the_group_that_they_map_to(read):
    text = (
        HEADER
        + "doctor,race,White,0.6\ndoctor,race,Black,0.2\ndoctor,race,Asian,0.15\ndoctor,race,Pacific Islander,.05\n"
    )
    mapping = {"White": "white", "Black": "black", "Asian": "asian", "Pacific Islander": "asian"}
    found = read(text, attributes=[RACE], categories={"race": mapping})
    assert found["doctor"]["race"] == pytest.approx((0.6, 0.2, 0.2))


def test_a_category_that_overlaps_others_is_refused_unless_it_is_left_out(read, mistakes):
    text = (
        "prompt,attribute,group,share,overlaps\n"
        "doctor,race,White,0.7,\ndoctor,race,Black,0.2,\ndoctor,race,Asian,0.1,\n"
        'doctor,race,Hispanic,0.15,"White, Black"\n'
    )
    mapping = {"White": "white", "Black": "black", "Asian": "asian"}
    assert mistakes(text, attributes=[RACE], categories={"race": {**mapping, "Hispanic": "white"}}) == [
        "5:27: overlaps: expected categories that exclude each other, found 'Hispanic', which overlaps White, Black; "
        "take figures that count them apart, or map it to nothing where the others add up to 1 without it"
    ]
    found = read(text, attributes=[RACE], categories={"race": {**mapping, "Hispanic": None}})
    assert found["doctor"]["race"] == pytest.approx((0.7, 0.2, 0.1))


def test_every_mistake_of_a_file_is_told_with_line_and_column(mistakes):
    text = (
        "# a comment\n"
        + HEADER
        + "docter,gender,female,0.5\n"
        + "\n"
        + "doctor,age,old,0.5\n"
        + "doctor,gender,woman,0.5\n"
        + "nurse,gender,female,80\n"
        + "nurse,gender,female,0.8\n"
        + 'nurse,gender,"male",x\n'
        + "nurse,gender\n"
        + '"cook,gender,male,1\n'
    )
    assert mistakes(text, prompts=("doctor", "nurse")) == [
        "3:1: prompt: expected the id of a prompt (doctor, nurse), found 'docter'; did you mean 'doctor'?; "
        "or remove the row",
        "5:8: attribute: expected an attribute with targets in this file (gender), found 'age'; or remove the row",
        "6:15: group: expected a group (female, male), found 'woman'",
        "7:21: share: expected a share from 0 to 1, found '80'; write 0.8 for 80\xa0%",
        "8:14: group: expected each category once for a prompt, found 'female' again after line 7; keep one",
        "9:21: share: expected a share from 0 to 1, found 'x'",
        "10:1: expected 4 values as the header has, found 2; quote a value with a comma",
        "11:1: expected comma-separated values on one line, found a mistake: unexpected end of data",
    ]


def test_missing_groups_and_missing_prompts_are_told(mistakes):
    assert mistakes(HEADER + "doctor,gender,female,1\n", prompts=("doctor", "nurse")) == [
        "2:15: doctor.gender: expected a share for each group (female, male), found none for male; write 0 for none",
        " gender: expected rows for every prompt, found none for nurse; add them",
    ]


def test_a_share_of_nothing_is_allowed_where_it_is_said(read):
    assert read(HEADER + "doctor,gender,female,1\ndoctor,gender,male,0\n") == {"doctor": {"gender": (1.0, 0.0)}}


@pytest.mark.parametrize("share", ["nan", "inf", "-0.1", "", "1,0"])
def test_what_is_no_share_is_refused(mistakes, share):
    assert mistakes(HEADER + f'doctor,gender,female,"{share}"\ndoctor,gender,male,0.5\n')[0].startswith("2:22: share:")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "1:1: header: expected a header"),
        (
            "prompt,attribute,group\n",
            "1:1: header: expected the columns prompt, attribute, group, share, found no share",
        ),
        ("prompt,atribute,group,share\n", "1:8: header: expected a column (prompt, attribute, group, share, overlaps"),
        ("prompt,attribute,group,share,share\n", "1:30: header: expected each column once"),
        (b"prompt,attribute\n\xff\n", "2:1: expected UTF-8 text, found the byte 0xff"),
    ],
)
def test_a_file_of_another_form_is_refused(mistakes, text, message):
    assert any(mistake.startswith(message) for mistake in mistakes(text))


def test_a_missing_file_is_told_without_a_traceback_of_its_own(tmp_path):
    with pytest.raises(ConfigErrors, match="expected a readable CSV file, found none"):
        read_targets(tmp_path / "absent.csv", ("doctor",), (GENDER,))


def test_spreadsheets_may_write_their_byte_order_mark_and_line_ends(read):
    text = (HEADER + "doctor,gender,female,0.5\ndoctor,gender,male,0.5\n").replace("\n", "\r\n")
    assert read(b"\xef\xbb\xbf" + text.encode())["doctor"]["gender"] == (0.5, 0.5)


def test_the_template_is_readable_and_says_that_its_shares_are_invented():
    found = read_targets(TEMPLATE, ("doctor", "nurse"), (GENDER,)).shares
    assert sum(found["nurse"]["gender"]) == pytest.approx(1)
    text = TEMPLATE.read_text()
    rows = [line for line in text.splitlines() if not line.startswith(("#", "prompt,"))]
    assert "INVENTED" in text
    assert rows
    assert all("invented" in row for row in rows)


def test_a_distance_from_statistics_is_never_given_another_name():
    texts = (Path(module.__file__).read_text(), TEMPLATE.read_text())
    assert not any("amplif" in text.lower() for text in texts)
