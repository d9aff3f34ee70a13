"""Tests that a report names its targets, and never describes a distance from statistics as amplification."""

from dataclasses import replace

import pytest

from audit.records.attributes import TargetSource
from reports.export.audit_json import from_json, to_json
from reports.export.markdown import to_markdown
from reports.export.model_card import to_model_card
from reports.figures.pictures import Pictures
from reports.html import render
from reports.index.story import story_of
from reports.words.headline import largest_excesses
from reports.words.targets import CAUTION, common_target, target_lines

SOURCE = TargetSource("csv", "labour.csv", "0123456789abcdef", ("invented: publisher, table, year",))


@pytest.fixture(scope="module")
def held(result):
    """The sample, compared with a file: target 80 % female in every occupation, 4 % for nurses."""

    def own(row):
        female = 0.04 if row.prompt_id == "nurse" else 0.8
        return replace(row, target={"female": female, "male": 1 - female}) if row.attribute == "gender" else row

    return replace(result, results=tuple(map(own, result.results)), targets={**result.targets, "gender": SOURCE})


def test_every_format_names_the_target_and_its_source(held):
    words = "shares set for each occupation, from labour.csv (SHA-256 0123456789ab). The file names these sources:"
    page, text = render(held, Pictures({}, {})), to_markdown(held).replace("\\", "")
    for answer in (page, text):
        assert f"Target for perceived gender: {words} invented: publisher, table, year" in answer
        assert "Target for perceived age: an even split." in answer
        assert CAUTION in answer
    assert "target: labour.csv" in to_model_card(held)


def test_even_targets_need_no_caution(result):
    assert target_lines(story_of(result)) == tuple(
        f"Target for perceived {name}: an even split." for name in ("gender", "age", "skin tone")
    )


def test_no_text_claims_that_a_model_amplified_a_difference(held):
    assert not any("amplif" in line.lower() for line in target_lines(story_of(held)))


def test_skew_is_counted_from_the_occupations_own_target(result, held):
    attribute = story_of(result).attributes[0]
    found = [largest_excesses(story_of(answer), attribute, "baseline") for answer in (result, held)]
    assert {group for _, group in found[0]} == {"female", "male"}
    assert found[1][0] == ("nurse", "female")
    assert common_target(story_of(result), attribute) == {"female": 0.5, "male": 0.5}
    assert common_target(story_of(held), attribute) is None


def test_a_share_chart_shows_each_target_if_they_differ(result, held):
    even, own = (render(answer, Pictures({}, {})) for answer in (result, held))
    assert own.count('class="reference"') > even.count('class="reference"') + 15
    assert '<td class="words">target</td>' in own
    assert '<td class="words">target</td>' not in even


def test_targets_come_back_from_audit_json_and_old_files_had_an_even_split(held):
    assert from_json(to_json(held)) == held
    data = to_json(held)
    del data["targets"]
    for row in (*data["results"], *data["overall"]):
        del row["target"]
    old = from_json(data)
    assert old.targets == {}
    assert {share for row in old.results if row.attribute == "gender" for share in row.target.values()} == {0.5}
