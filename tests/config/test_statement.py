"""Tests the section ``statement``: dates, paragraphs, and that it is no part of what names a run."""

import pytest
from pydantic import ValidationError

from audit.config.settings import AuditConfig
from audit.results.comparison.slots import series_of
from audit.storage.run_directory import decisive

SAID = {"responsible": "Ada Example", "known_gaps": "One.\nTwo.\n", "valid_until": "2027-01-31"}


def test_a_config_without_a_statement_stores_none():
    assert "statement" not in AuditConfig(name="audit").model_dump(mode="json")


def test_only_the_keys_that_are_set_are_stored_and_a_block_loses_its_last_line_break():
    stored = AuditConfig(name="audit", statement=SAID).model_dump(mode="json")["statement"]
    assert stored == SAID | {"known_gaps": "One.\nTwo."}


def test_a_statement_survives_json():
    config = AuditConfig(name="audit", statement=SAID)
    assert AuditConfig.model_validate_json(config.model_dump_json()) == config


@pytest.mark.parametrize("bad", ["2027-1-31", "20270131", "2027-02-30", "next year", ""])
def test_only_a_date_can_end_a_statement(bad):
    with pytest.raises(ValidationError, match="expected a date such as 2027-01-31"):
        AuditConfig(name="audit", statement={"valid_until": bad})


def test_a_statement_names_neither_a_run_nor_a_series():
    plain, said = AuditConfig(name="audit"), AuditConfig(name="audit", statement=SAID)
    assert decisive(plain.model_dump(mode="json")) == decisive(said.model_dump(mode="json"))
    assert series_of(plain) == series_of(said)


def test_control_characters_are_refused():
    with pytest.raises(ValidationError, match="pattern"):
        AuditConfig(name="audit", statement={"population": "a\x1b[2Jb"})
