"""The section on the location map: figures, controls, and what it says about the lens."""

from dataclasses import replace

import pytest

from reports.export.audit_json import from_json, to_json
from reports.export.audit_schema import first_mistake
from reports.figures.location import location_section
from reports.figures.pictures import Pictures
from reports.html import render
from reports.index.story import story_of

NONE = Pictures({}, {})


def plain(text):
    return text.replace("\N{NO-BREAK SPACE}", " ")


def test_the_section_states_decisions_controls_and_what_was_only_screened(located):
    page = plain(render(located, NONE))
    for text in (
        "Where each attribute is decided",
        "gender: the cheapest place that carries it is text:mid_block. Steps 17 to 25 of 25 suffice there.",
        "skin tone: not decided at one place (no share of 90 % or more)",
        "Age is not controllable at mid_block (share 17 %); it is decided at text:up_blocks.0.",
        "Control, values of the same run: 0 of 240 images changed (as it must be)",
        "only screened: 4 prompts, 1 seed",
    ):
        assert text in page, text
    section = location_section(story_of(located))
    cells = {row[0]: row[1:] for row in section.figures[0].table.rows}
    assert [plain(cell) for cell in cells["text:mid_block"]][1] == "0 % (0 % to 7 %)"
    assert cells["output:down_blocks.0"][0].endswith("*")
    assert len(section.details.rows) == len(located.location.places)


def test_a_result_without_a_map_has_no_section(result):
    assert location_section(story_of(result)) is None
    assert "Where each attribute is decided" not in render(result, NONE)


def test_audit_json_keeps_the_map_and_its_schema_checks_it(located):
    data = to_json(located)
    assert first_mistake(data) is None
    assert from_json(data).location == located.location
    data["location"]["places"][0]["share"]["value"] = 1.5
    assert "location" in first_mistake(data)


def test_an_older_file_without_a_map_is_read(result):
    data = to_json(result)
    del data["location"]
    assert first_mistake(data) is None
    assert from_json(data).location is None


def test_names_of_places_cannot_inject_markup(located):
    row = replace(located.location.places[0], attribute="<script>alert(1)</script>")
    page = render(replace(located, location=replace(located.location, places=(row,))), NONE)
    assert "<script>" not in page


@pytest.mark.parametrize("places", [0, 1])
def test_a_map_of_one_place_is_drawn_and_one_of_none_is_left_out(located, places):
    found = replace(located.location, places=located.location.places[:places])
    assert (location_section(story_of(replace(located, location=found))) is None) == (places == 0)
