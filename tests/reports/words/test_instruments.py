"""Tests that the first screen names model, sampler and judge, each with its limits."""

import re
from dataclasses import replace

import pytest

from audit.records.work import BASELINE
from reports.figures.pictures import Pictures
from reports.html import render
from reports.index.story import story_of
from reports.words.instruments import instruments

SAMPLING = {"sampler": "DDIM, deterministic (η = 0)", "published_scheduler": "PNDMScheduler"}


def changed(result, provenance=None, **sections):
    config = {**result.config, **{name: {**result.config[name], **found} for name, found in sections.items()}}
    return replace(result, config=config, provenance={**result.provenance, **(provenance or {})})


def test_the_first_screen_names_model_sampler_and_judge_before_the_first_section(result):
    html = render(changed(result, {"sampling": SAMPLING}), Pictures({}, {}))
    first = html[html.index("<main>") : html.index("</header>")]
    for words in (
        "Bundled calibration model",
        "DDIM, deterministic (η = 0), 25 steps, guidance 3.0",
        "Bundled classifier",
    ):
        assert words in first
    assert "say nothing about any published model" in first
    assert "published with PNDMScheduler, with which users get other images" in first
    assert "perceived presentation, never identity" in first


def test_a_model_from_outside_is_named_with_its_revision(result):
    model, sampler, judge = instruments(
        story_of(changed(result, model={"source": "owner/name", "revision": "abc"}, judge={"source": "w/fair.pt"}))
    )
    assert model.used == "owner/name, revision abc"
    assert "planted" not in model.limits
    assert sampler.limits == "The run does not record which sampler was used."
    assert judge.used == "fair.pt, confidence at least 0.5"


def test_drawings_have_no_sampler(result):
    sampler = instruments(story_of(changed(result, model={"source": "rendered"})))[1]
    assert sampler.used == "None; images are drawn by a program"


def test_the_judge_s_accuracy_is_shown_if_known(result):
    judge = instruments(story_of(result))[2]
    assert "Accuracy on labelled images: gender 96\N{NO-BREAK SPACE}%." in judge.limits
    assert "Errors in age, skin tone are not corrected." in judge.limits
    assert "2\N{NO-BREAK SPACE}% of the baseline's images have no gender label." in judge.limits


@pytest.mark.parametrize("arms", [(BASELINE,), (BASELINE, "difflens-gender")])
def test_only_an_audit_with_an_intervention_mentions_before_and_after(sample, arms):
    html = render(sample(arms), Pictures({}, {}))
    headings = re.findall(r"<h[23][^>]*>([^<]*)<|<label for=[^>]*>([^<]*)<", html)
    words = " ".join(a or b for a, b in headings)
    phrases = ("Before and after", "before and after", "Paired images", "Side effects and image quality")
    assert {phrase in words for phrase in phrases} == {len(arms) > 1}


def test_an_odd_number_of_tiles_leaves_none_empty(result):
    html = render(result, Pictures({}, {}))
    tiles = html[html.index('<dl class="tiles">') : html.index("</dl>")].count("<dt>")
    assert tiles == 5
    assert ".tiles > div:last-child:nth-child(odd) { grid-column: 1 / -1; }" in html
