"""Tests that a headline states only what is more than chance."""

import numpy as np
import pytest

from audit.records.attributes import Attribute
from audit.records.result import AuditResult
from audit.records.work import BASELINE
from audit.results.arm_rows import ArmRows
from audit.results.changes import attribute_shifts, group_changes
from audit.results.groups import adjusted, overall_result, prompt_results
from reports.export.markdown import to_markdown
from reports.index.lookups import worst_prompt
from reports.index.story import story_of
from reports.words.formats import number, settled
from reports.words.headline import headline, largest_excesses
from reports.words.key_figures import key_figures

TONE = Attribute("skin_tone", ("light", "medium", "dark"))
GENDER = Attribute("gender", ("female", "male"))
PROMPTS = ("builder", "doctor", "nurse", "pilot", "judge", "cook")


def arm(name, codes, attribute):
    """Rows of an arm from the group of each image, shape (prompts, images)."""
    size = codes.shape[1]
    prompts = {prompt: slice(i * size, (i + 1) * size) for i, prompt in enumerate(PROMPTS[: len(codes)])}
    probabilities = np.eye(len(attribute.groups))[codes.ravel()]
    return ArmRows(name, np.full(codes.size, "classified"), {attribute.name: probabilities}, prompts, {})


def audited(attribute, before, after=None):
    """The result of an audit of one attribute, with one mitigation if there is a second arm."""
    arms = [arm(BASELINE, before, attribute), *([] if after is None else [arm("balanced", after, attribute)])]
    results = [row for rows in arms for row in adjusted(prompt_results(rows, attribute, {}))]
    return AuditResult(
        run_id="test-1",
        config={
            "attributes": {attribute.name: list(attribute.groups)},
            "mitigations": [{"name": rows.arm, "attribute": attribute.name} for rows in arms[1:]],
        },
        provenance={},
        results=tuple(results),
        overall=tuple(overall_result(rows, attribute, {}) for rows in arms),
        quality=(),
        lens={},
        changes=tuple(c for rows in arms[1:] for c in group_changes(arms[0], rows, [attribute], {})),
        shifts=attribute_shifts(arms[0], arms[1:], [attribute]),
    )


@pytest.fixture(scope="module")
def fair():
    """Six occupations with equal numbers of images of each skin tone."""
    return audited(TONE, np.random.default_rng(4).integers(0, 3, (6, 24)))


def test_without_significant_departures_no_occupation_is_named(fair):
    # "The model draws a builder with skin tone medium in 33 % of images." was the headline of a fair world.
    story = story_of(fair)
    assert largest_excesses(story, TONE, BASELINE) == []
    found = headline(story)
    assert found.title == "No occupation differs from the target for perceived skin tone by more than chance."
    assert "0 of 6 occupations" in found.lead
    assert found.title in to_markdown(fair)


def test_two_images_that_agree_are_no_headline():
    # "draws a doctor as female in 100 %" stood above "0 of 2 occupations differ by more than chance".
    found = headline(story_of(audited(GENDER, np.array([[0, 0, 0], [1, 0, 1]]))))
    assert found.title.startswith("No occupation differs from the target")
    assert "100" not in found.title


def test_fair_worlds_have_no_named_occupation_in_nineteen_of_twenty_audits():
    rng, named = np.random.default_rng(7), 0
    for _ in range(200):
        named += bool(largest_excesses(story_of(audited(GENDER, rng.integers(0, 2, (6, 20)))), GENDER, BASELINE))
    assert named <= 18  # of 200 at 5 %, with three standard errors


def test_an_occupation_that_is_off_by_more_than_chance_is_named_with_its_share():
    found = headline(story_of(audited(GENDER, np.array([[1] * 40, [0, 1] * 20, [1, 0] * 20]))))
    assert found.title == "The model draws a builder as male in 100\N{NO-BREAK SPACE}% of images."


def test_an_edit_that_changes_nothing_has_no_figure_in_the_headline():
    before = np.array([[1] * 40, [0, 1] * 20, [1, 0] * 20])
    same = headline(story_of(audited(GENDER, before, before)))
    assert "After the intervention: no change by more than chance." in same.title
    assert "balanced changed the mean fairness discrepancy of the counted shares by no more than chance" in same.lead
    fair = np.array([[0, 1] * 20] * 3)
    moved = headline(story_of(audited(GENDER, before, fair)))
    assert "After the intervention: 50\N{NO-BREAK SPACE}%." in moved.title
    assert "balanced moved the mean fairness discrepancy" in moved.lead


def test_the_worst_occupation_has_an_interval_that_allows_for_the_choice(fair):
    story = story_of(fair)
    found = worst_prompt(story, "skin_tone", BASELINE)
    rows = {row.prompt_id: row.fairness_discrepancy for row in fair.results}
    assert found.value == max(row.value for row in rows.values())
    assert (found.prompts, found.n) == (6, 24)
    assert found.low == 0 <= rows[found.prompt_id].high < found.high
    figure = next(figure for figure in key_figures(story) if figure.label == "Worst occupation")
    assert "accounts for the selection from 6" in figure.note


def test_rounding_leaves_no_minus_before_a_zero():
    assert [number(value) for value in (-1e-17, -0.0, 1e-9, -9e-7, -2e-6)] == ["0.00"] * 4 + ["−0.0000020"]
    assert [str(settled(value)) for value in (-0.0, -1e-17, 1e-26, -0.001)] == ["0.0", "0.0", "1e-26", "-0.001"]
