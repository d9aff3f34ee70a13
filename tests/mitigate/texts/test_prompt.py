"""The prompt method names the assigned group in each image's prompt, and does nothing else."""

import pytest

from audit.config.mitigations.texts import PromptConfig
from audit.mitigate.method import Batch
from audit.mitigate.texts.prompt import PromptMethod
from audit.models.intervention import Intervention
from audit.records.work import Prompt

TEMPLATE = "a face photo of {a} {occupation}"
DOCTOR = Prompt("doctor", "a face photo of a doctor", "doctor")


def texts_of(mitigation, *groups):
    found = PromptMethod().ready(mitigation, None, None)(Batch(DOCTOR, groups, 4, TEMPLATE))
    assert found == Intervention(groups, range(4), texts=found.texts)
    return found.texts


def test_every_image_has_its_own_group_in_its_prompt():
    found = texts_of(PromptConfig(name="words", method="prompt", attribute="age"), "old", "young", "old")
    assert found == tuple(f"a face photo of {age} doctor" for age in ("an old", "a young", "an old"))


@pytest.mark.parametrize(
    ("attribute", "words", "expected"),
    [("skin_tone", {}, "a tan skinned doctor"), ("gender", {"tan": "brown"}, "a brown doctor")],
)
def test_a_group_is_named_as_one_says_it_or_as_the_config_does(attribute, words, expected):
    mitigation = PromptConfig(name="words", method="prompt", attribute=attribute, words=words)
    assert texts_of(mitigation, "tan") == (f"a face photo of {expected}",)
