"""Tests the section ``compositions``: stored only if it asks for something, and mistakes are refused in plain words."""

import pytest
from pydantic import ValidationError

from audit.config.settings import AuditConfig

PAIR = ["doctor", "nurse"]


def section(**changes):
    return AuditConfig(name="audit", compositions={"pairs": [PAIR]} | changes)


def test_an_audit_without_pairs_stores_no_section():
    assert "compositions" not in AuditConfig(name="audit").model_dump(mode="json")
    assert section().model_dump(mode="json")["compositions"]["pairs"] == [PAIR]
    assert AuditConfig(**section().model_dump()) == section()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pairs": [["nurse", "Nurse"]]}, "expected two different occupations, found 'nurse' twice"),
        ({"pairs": [PAIR, PAIR]}, "expected each pair once"),
        ({"pairs": [["nurse"]]}, "required"),
        ({"template": "a photo of {a_first}"}, "each occupation once"),
        ({"template": "{first}, {a_first} and {second}"}, "each occupation once"),
        ({"template": "{a_first} and {a_second} {third}"}, "no other braces"),
        ({"template": "{a_first} and {a_second} {"}, "no other braces"),
        ({"template": "{first.x} and {second}"}, "no other braces"),
        ({"alone": "a photo"}, "expected a text with {occupation}"),
        ({"certainty": 0.4}, "greater than or equal to 0.5"),
        ({"images": 4}, "greater than or equal to 8"),
    ],
)
def test_mistakes_are_refused(changes, message):
    with pytest.raises(ValidationError, match=message.replace("{", r"\{").replace("}", r"\}")):
        section(**changes)


def test_the_reverse_order_is_another_pair():
    assert section(pairs=[PAIR, PAIR[::-1]]).compositions.pairs == (tuple(PAIR), tuple(PAIR[::-1]))
