"""Tests that the method section states what each kind of judge rests on."""

from dataclasses import replace

import pytest

from audit.records.attributes import Attribute
from reports.figures.pictures import Pictures
from reports.html import render
from reports.index.story import story_of
from reports.words.judges import judge_notes

CLASSIFIER = {
    "architecture": "torchvision/resnet50",
    "outputs": ["w", "m", "x"],
    "groups": {"gender": {"female": ["w", "x"], "male": ["m"]}},
}
VQA = {
    "questions": {
        "gender": {"question": "is it a woman or a man?", "answers": {"female": "woman", "male": "man"}},
    }
}


def notes(result, judge, attributes=None, **sections):
    story = story_of(replace(result, config={**result.config, "judge": judge, **sections}))
    if attributes is not None:
        story = replace(story, attributes=tuple(Attribute(*item) for item in attributes.items()))
    return " ".join(judge_notes(story))


def test_zero_shot_clip_states_its_published_accuracies_captions_and_temperature(result):
    plain = notes(result, {"source": "zero-shot"}, quality={"clip": "ViT-L-14:openai"})
    assert "zero-shot CLIP (ViT-L-14:openai)" in plain
    assert "gender 95.9 % and 97.2 %; age 57.1 % and 54.3 %" in plain
    assert "race" not in plain
    assert "Captions for gender: female: “a face photo of a female person”" in plain
    assert "temperature is the model's own" in plain
    own = {"captions": {"gender": {"female": ["a woman", "a lady"]}}, "temperature": 0.05}
    fitted = notes(result, {"source": "zero-shot", "zero_shot": own})
    assert "female: “a woman”, “a lady”" in fitted
    assert "temperature is set to 0.05" in fitted


def test_an_attribute_without_a_published_accuracy_is_named(result):
    attributes = {"skin_tone": ["light", "dark"], "gender": ["female", "male"]}
    found = notes(result, {"source": "zero-shot"}, attributes=attributes)
    assert "No accuracy of zero-shot CLIP is known for skin tone." in found


def test_merged_outputs_are_stated(result):
    fairface = notes(result, {"source": "fair.pt", "races": 7}, attributes={"race": ["white", "asian"]})
    assert "merged into groups of race: asian is East Asian + Southeast Asian" in fairface
    assert "black, latino, indian, middle_eastern is not audited" in fairface
    ages = notes(result, {"source": "fair.pt", "races": 4}, attributes={"age": ["young", "adult", "old"]})
    assert "young is 0-2 + 3-9 + 10-19, adult is 20-29 + 30-39 + 40-49 + 50-59, old is 60-69 + 70+" in ages
    other = notes(result, {"source": "w.pth", "classifier": CLASSIFIER}, attributes={"gender": ["female", "male"]})
    assert "It is torchvision/resnet50 on the whole picture, 224 × 224 pixels" in other
    assert "merged into groups of gender: female is w + x" in other


def test_questions_and_answers_are_stated(result):
    found = notes(result, {"source": "owner/blip", "vqa": VQA}, attributes={"gender": ["female", "male"]})
    assert "“is it a woman or a man?”; “woman” is female, “man” is male" in found
    assert "sums, over answers of equal length" in found


def test_labels_by_hand_are_named(result):
    assert "labels given by hand" in notes(result, {"source": "labels.csv"})


@pytest.mark.parametrize("judge", [None, {"source": 5}, {"source": "x", "unknown": 1}])
def test_a_judge_of_another_version_has_no_notes(result, judge):
    assert notes(result, judge) == ""


def test_the_page_shows_them_as_text(result):
    own = {"captions": {"gender": {"female": "a <b>woman</b>"}}}
    page = render(
        replace(result, config={**result.config, "judge": {"source": "zero-shot", "zero_shot": own}}), Pictures({}, {})
    )
    assert "a &lt;b&gt;woman&lt;/b&gt;" in page
    assert "Zero-shot CLIP, confidence" in page
