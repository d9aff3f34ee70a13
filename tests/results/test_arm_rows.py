"""An image outside the groups of one attribute is unknown there and keeps its groups of other attributes."""

import numpy as np
import pyarrow as pa
import pytest

from audit.measure.unclassified.bounds import unknown_images
from audit.records.attributes import Attribute
from audit.records.work import Status
from audit.results.arm_rows import arm_rows
from audit.results.groups import prompt_results
from audit.results.intersections import intersections
from audit.storage.rows import results_schema

GENDER, RACE = Attribute("gender", ("female", "male")), Attribute("race", ("white", "black"))
ATTRIBUTES = (GENDER, RACE)


def image(index, gender, race, arm="baseline", status="classified"):
    """One row; ``race`` None is a face that the judge classifies neither as white nor as black."""
    found = {"arm": arm, "prompt_id": "nurse", "index": index, "seed": index, "status": status}
    found |= {f"p_gender_{group}": float(group == gender) for group in GENDER.groups}
    found |= {f"p_race_{group}": None if race is None else float(group == race) for group in RACE.groups}
    return found | {"outside_gender": False, "outside_race": race is None}


def rows_of(images, arm="baseline"):
    table = pa.Table.from_pylist(images, schema=results_schema(ATTRIBUTES))
    return arm_rows(table, arm, ATTRIBUTES, {"nurse": len(images)})


TWENTY = [
    *(image(i, "female", None) for i in range(8)),
    *(image(i, "male", "white") for i in range(8, 18)),
    image(18, "female", None, status="low_confidence"),
    image(19, "male", "black", status="no_face"),
]
"""Twenty images: ten white men, eight women of another race, one of low confidence, one without a face."""


def test_images_outside_the_groups_are_unknown_only_in_that_attribute():
    rows = rows_of(TWENTY)
    assert rows.counts("race") == {
        "classified": 10, "outside_groups": 8, "low_confidence": 1, "no_face": 1, "failed": 0, "unlabelled": 0
    }  # fmt: skip
    assert rows.counts("gender")["classified"] == 18
    assert rows.codes("race").tolist() == [-1] * 8 + [0] * 10 + [-1] * 2
    assert rows.known("gender", "nurse").sum() == 18
    assert rows.complete().sum() == 10
    assert len(rows.classified("race")) == 10
    assert not np.isnan(rows.classified("race")).any()


def test_images_outside_the_groups_count_in_bounds_but_not_in_shares():
    [gender] = prompt_results(rows_of(TWENTY), GENDER, {})
    [race] = prompt_results(rows_of(TWENTY), RACE, {})
    assert race.statuses["outside_groups"] == 8
    assert unknown_images(race.statuses) == 10
    assert (race.n, race.shares["white"].value) == (10, 1.0)
    assert (race.bounds["white"].low, race.bounds["white"].high) == (0.5, 1.0)
    assert (race.bounds["black"].low, race.bounds["black"].high) == (0.0, 0.5)
    assert race.discrepancy_bounds.low == 0.0
    assert gender.statuses["outside_groups"] == 0
    assert gender.shares["female"].value == pytest.approx(8 / 18)


def test_a_prompt_with_all_images_outside_has_no_shares():
    [race] = prompt_results(rows_of([image(i, "female", None) for i in range(4)]), RACE, {})
    assert (race.n, race.shares, race.fairness_discrepancy) == (0, {}, None)
    assert race.bounds["white"].high == 1.0


def test_a_combination_counts_only_images_with_a_group_of_both_attributes():
    [overall, *_] = intersections({"baseline": rows_of(TWENTY)}, ATTRIBUTES)
    assert overall.n == 10


def test_a_classified_image_without_probabilities_is_refused():
    odd = [image(0, "female", None) | {"outside_race": False}]
    with pytest.raises(ValueError, match="expected probabilities of race for every classified image"):
        rows_of(odd)


def test_outside_groups_is_refused_as_the_status_of_a_row():
    with pytest.raises(ValueError, match="expected a status among"):
        rows_of([image(0, "female", "white", status=Status.OUTSIDE_GROUPS.value)])
