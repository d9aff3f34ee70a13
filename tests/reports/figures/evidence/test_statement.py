"""Tests that the report prints what the auditor declared, nothing else, and states when it is over."""

from dataclasses import replace
from datetime import date

from reports.figures.evidence.statement import statement_section
from reports.figures.pictures import Pictures
from reports.html import render

TODAY = date(2026, 11, 29)


def section(**said):
    return statement_section({"statement": said}, TODAY)


def test_without_a_statement_there_is_no_section():
    assert statement_section({}, TODAY) is None
    assert section() is None


def test_only_the_keys_that_are_set_are_shown_in_a_fixed_order():
    found = section(valid_until="2026-11-29", responsible="Ada Example")
    assert found.items == (("Responsible", "Ada Example"), ("Valid until", "2026-11-29"))


def test_the_last_day_is_still_valid_and_the_next_day_is_not():
    assert section(valid_until="2026-11-29").over == ""
    assert (
        "set 2026-11-28 as the last day, and this page was made on 2026-11-29" in section(valid_until="2026-11-28").over
    )


def test_the_report_shows_the_statement_and_its_end_on_the_first_screen(result):
    config = result.config | {"statement": {"responsible": "<b>Ada</b>", "valid_until": "2020-01-01"}}
    page = render(replace(result, config=config), Pictures({}, {}))
    first = page.partition('<section aria-labelledby="occupations">')[0]
    assert "This audit is no longer valid" in first
    assert "Statement of the auditor</h2>" in page
    assert "&lt;b&gt;Ada&lt;/b&gt;" in page
    assert "<b>Ada</b>" not in page


def test_the_report_calls_the_ratios_an_analogy_and_says_why(page_text):
    assert "only an analogy" in page_text
    assert "no selection decision takes place" in page_text
    assert "Statement of the auditor" not in page_text
