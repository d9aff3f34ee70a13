"""Tests the section ``explore``: later sections are stored only if they ask for something, and mistakes are refused."""

import pytest
from pydantic import ValidationError

from audit.config.settings import AuditConfig


def stored(**explore):
    return AuditConfig(name="audit", explore=explore).model_dump(mode="json").get("explore")


def test_sections_that_ask_for_nothing_are_not_stored():
    assert stored() is None
    assert {"open_set", "stress"} & set(stored(seeds=4)) == set()
    assert stored(open_set={"images": 64})["open_set"]["margin"] == 0.1
    assert stored(stress={"images": 8, "guidance": [1, 5]})["stress"]["guidance"] == [1.0, 5.0]


@pytest.mark.parametrize(
    ("explore", "message"),
    [
        ({"open_set": {"lists": ["jobs"]}}, "winobias"),
        ({"open_set": {"embedder": "dino"}}, "features"),
        ({"open_set": {"margin": 2}}, "less than or equal"),
        ({"stress": {"phrasings": ["a photo"]}}, "expected a phrasing with {occupation}"),
        ({"stress": {"guidance": [-1]}}, "greater than or equal"),
        ({"pictures": {"folder": "given", "step": 0}}, "greater than or equal to 1"),
    ],
)
def test_mistakes_are_refused(explore, message):
    with pytest.raises(ValidationError, match=message):
        AuditConfig(name="audit", explore=explore)


def test_pictures_are_stored_only_with_a_folder():
    assert "pictures" not in stored(seeds=4, pictures={"images": 30})
    assert stored(pictures={"folder": "given"})["pictures"] == {"folder": "given", "images": 24, "step": None}
