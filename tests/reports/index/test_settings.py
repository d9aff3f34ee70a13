"""What a report reads in the config that its result holds."""

import pytest

from audit.config.settings import AuditConfig
from reports.index.settings import hidden_words


@pytest.mark.parametrize(
    ("outside", "words"),
    [
        ({}, "the face"),
        ({"hidden": ["face", "hair"]}, "the face"),
        ({"hidden": ["face"]}, "face"),
        (
            {"source": "clipseg", "parts": {"cab": "a cab", "wheel": "a wheel"}, "hidden": ["cab", "wheel"]},
            "cab and wheel",
        ),
        (
            {
                "source": "clipseg",
                "parts": {"cab": "a cab", "door": "a door", "wheel": "a wheel"},
                "hidden": ["cab", "door", "wheel"],
            },
            "cab, door and wheel",
        ),
    ],
)
def test_a_figure_names_the_parts_that_were_hidden(outside, words):
    config = AuditConfig.model_validate({"name": "x", "quality": {"outside": outside}})
    assert hidden_words(config.model_dump(mode="json")) == words


def test_a_config_without_hidden_parts_has_the_usual_words():
    assert hidden_words(AuditConfig(name="x").model_dump(mode="json")) == hidden_words({}) == "the face"
