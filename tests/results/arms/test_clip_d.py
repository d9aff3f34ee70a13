"""CLIP-D of arms: means with the intervals of CLIP-T, paired changes, and runs that have none."""

from dataclasses import asdict

import numpy as np
import pyarrow as pa
import pytest

from audit.measure.prompts.stratified import stratified_mean
from audit.records.arms.clip_d import GroupSimilarity
from audit.records.attributes import Attribute
from audit.records.work import BASELINE
from audit.results.arm_rows import arm_rows
from audit.results.arms.clip_d import DirectionTexts, group_similarities
from audit.storage.rows import clip_d_columns, results_schema

GENDER = Attribute("gender", ("female", "male"))
TEXTS = DirectionTexts({"gender": {"female": ("a female person",), "male": ("a male person", "a man")}}, "net:clip")
SIZES = {"nurse": 6, "guard": 3}
KEYS = [(prompt, index) for prompt, size in SIZES.items() for index in range(size)]


def arms(near, **dropped):
    """Rows of two arms; ``near`` gives the cosine to *male* of an image, None for one that could not be made."""
    rows = []
    for arm in (BASELINE, "edited"):
        for prompt, index in KEYS:
            cosine = near(arm, prompt, index)
            found = {} if cosine is None else {"clip_d_gender_male": cosine, "clip_d_gender_female": 0.25}
            rows.append({"arm": arm, "prompt_id": prompt, "index": index, "seed": index, "status": "failed"} | found)
    table = pa.Table.from_pylist(rows, schema=results_schema([GENDER])).drop_columns(dropped.get("columns", []))
    return {arm: arm_rows(table, arm, [GENDER], SIZES) for arm in (BASELINE, "edited")}


def drawn(arm, prompt, index):
    return np.random.default_rng([len(arm), len(prompt), index]).uniform(-0.2, 0.6)


def of(found, arm, group):
    (one,) = [row for row in found if (row.arm, row.group) == (arm, group)]
    return one


def test_the_mean_and_its_interval_are_those_of_the_cosines_and_the_change_is_paired():
    found = group_similarities(arms(drawn), [GENDER], TEXTS)
    prompts = [prompt for prompt, _ in KEYS]
    before, after = ([drawn(arm, *key) for key in KEYS] for arm in (BASELINE, "edited"))
    for one, values in (
        (of(found, BASELINE, "male").cosine, before),
        (of(found, "edited", "male").cosine, after),
        (of(found, "edited", "male").change, np.subtract(after, before)),
    ):
        expected = stratified_mean(values, prompts)
        assert (one.value, one.low, one.high, one.n) == pytest.approx(
            (expected.value, expected.low, expected.high, expected.n), rel=1e-5
        )
    assert of(found, BASELINE, "male").change is None
    assert of(found, "edited", "male").texts == ("a male person", "a man")
    assert of(found, "edited", "male").signature == "metric:clip_d|net:clip|n:9"


def test_images_that_moved_alike_have_a_narrow_change_although_their_cosines_differ():
    found = group_similarities(
        arms(lambda arm, *key: drawn(BASELINE, *key) + 0.125 * (arm == "edited")), [GENDER], TEXTS
    )
    male = of(found, "edited", "male")
    assert male.change.value == pytest.approx(0.125, abs=1e-6)
    assert male.change.high - male.change.low < 1e-6 < 0.1 < male.cosine.high - male.cosine.low


def test_an_image_that_could_not_be_made_is_in_no_mean_and_in_no_pair():
    missing = {(BASELINE, "nurse", 0), ("edited", "guard", 2)}
    found = group_similarities(arms(lambda *key: None if key in missing else drawn(*key)), [GENDER], TEXTS)
    male = of(found, "edited", "male")
    assert (of(found, BASELINE, "male").cosine.n, male.cosine.n, male.change.n) == (8, 8, 7)


def test_a_single_image_has_the_whole_range_as_its_interval():
    only = {(BASELINE, "nurse", 1), ("edited", "nurse", 1)}
    male = of(group_similarities(arms(lambda *key: 0.5 if key in only else None), [GENDER], TEXTS), "edited", "male")
    assert (male.cosine.value, male.cosine.low, male.cosine.high) == (0.5, -1.0, 1.0)
    assert (male.change.value, male.change.low, male.change.high) == (0.0, -2.0, 2.0)


def test_a_text_that_the_model_cuts_has_a_row_without_a_figure():
    rows = arms(drawn)
    for arm in rows.values():
        arm.scores["clip_d_gender_female"] = np.full(len(KEYS), np.nan)
    found = group_similarities(rows, [GENDER], TEXTS)
    assert of(found, "edited", "female").cosine is of(found, "edited", "female").change is None
    assert of(found, "edited", "male").cosine is not None


def test_runs_without_clip_and_runs_of_older_versions_have_no_clip_d():
    assert group_similarities(arms(lambda *_: None), [GENDER], TEXTS) == ()
    assert group_similarities(arms(drawn, columns=clip_d_columns([GENDER])), [GENDER], TEXTS) == ()


def test_the_record_is_read_back_from_its_plain_data():
    found = group_similarities(arms(drawn), [GENDER], TEXTS)
    assert tuple(GroupSimilarity.of_data(asdict(row)) for row in found) == found
