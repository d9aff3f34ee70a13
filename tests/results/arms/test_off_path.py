"""Off the path: a shift that was planted is found, one that was not is not, and what is missing has a status."""

from dataclasses import asdict, replace

import numpy as np
import pyarrow as pa
import pytest

from audit.records.arms.off_path import VECTOR_LENGTH, Measured, OffPath
from audit.records.work import BASELINE, Status
from audit.results.arm_rows import ArmRows
from audit.results.arms.off_path import PathEvidence, off_path, recorded_of
from audit.results.quality import FeatureSet
from audit.storage.rows import ACTIVATIONS, row_schema

PROMPTS, EACH, STEPS, ARM, PLACE = ("doctor", "nurse"), 40, 3, "edit", "mid_block"
KEYS = [(prompt, index) for prompt in PROMPTS for index in range(EACH)]


def vectors(seed, shift=0.0, outside=0.0):
    rng = np.random.default_rng(seed)
    scales = np.array([6.0, 3.0] + [0.02] * (VECTOR_LENGTH - 2))
    found = rng.normal(0, scales, (len(KEYS), STEPS, VECTOR_LENGTH)).astype(np.float32)
    found[..., 0] += shift
    found[..., 9] += outside
    return found


def table_of(arms):
    schema = row_schema(())
    rows = [
        {
            "arm": arm, "prompt_id": prompt, "index": index, "seed": 0, "status": "classified",
            ACTIVATIONS: None if own is None else [(PLACE, own[place].ravel())],
        }
        for arm, own in arms.items()
        for place, (prompt, index) in enumerate(KEYS)
    ]  # fmt: skip
    return pa.Table.from_pylist(rows, schema=schema)


def rows_of(arm, statuses=None):
    plain = np.array([Status.CLASSIFIED.value] * len(KEYS)) if statuses is None else np.array(statuses)
    prompts = {prompt: slice(at * EACH, (at + 1) * EACH) for at, prompt in enumerate(PROMPTS)}
    return ArmRows(arm, plain, {}, prompts, {})


def features(seed, shift=0.0, scale=1.0):
    rng = np.random.default_rng(seed)
    values = (rng.normal(0, scale, (len(KEYS), 8)) + shift).astype(np.float32)
    values[EACH:] += 20  # prompts look different
    indices = np.array([index for _, index in KEYS])
    return FeatureSet.of(values, indices, np.ones(len(KEYS), bool), KEYS)


def found(edited, *, statuses=(None, None), embedded=None, looks=True, edits=(ARM,), baseline=None):
    arms = {BASELINE: rows_of(BASELINE, statuses[0]), ARM: rows_of(ARM, statuses[1])}
    recorded = recorded_of([table_of({BASELINE: vectors(0) if baseline is None else baseline, ARM: edited})])
    [one] = off_path(arms, edits, PathEvidence(recorded, embedded or {}, looks, STEPS))
    return one


def test_an_edit_that_changes_nothing_has_the_distance_of_the_baseline_exactly():
    one = found(vectors(0)).activations
    assert one.distance.change.value == one.outside.change.value == 0
    assert one.distance.before.low < 1 < one.distance.before.high
    assert one.distance.before.n == len(KEYS)
    assert [step.step for step in one.by_step] == [0, 1, 2]


def test_a_planted_shift_along_a_component_is_found_with_its_size():
    one = found(vectors(0, shift=12.0)).activations
    assert one.components == 2
    assert one.distance.change.low < 4 / 2 < one.distance.change.high, "two standard deviations, in one of two"
    assert one.distance.change.low > 1
    assert abs(one.outside.change.value) < 0.05


def test_a_planted_shift_away_from_the_components_is_energy_outside():
    one = found(vectors(0, outside=30.0)).activations
    assert one.distance.change.value == pytest.approx(0, abs=0.05)
    assert one.outside.change.low > 0.8


def test_an_edit_in_a_window_is_measured_at_its_steps_alone():
    edited = vectors(0, shift=12.0)
    edited[:, 0] = np.nan
    one = found(edited).activations
    assert [step.step for step in one.by_step] == [1, 2]
    assert one.distance.change.low > 1


@pytest.mark.parametrize("arm", [BASELINE, ARM])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_images_whose_activations_are_not_finite_are_left_out_and_counted(arm, value):
    own = {BASELINE: vectors(0), ARM: vectors(0, shift=12.0)}
    own[arm][3, 1, 5] = value
    one = found(own[ARM], baseline=own[BASELINE]).activations
    assert one.distance.change.n == len(KEYS) - 1
    assert [step.step for step in one.by_step] == [0, 1, 2]
    assert one.distance.change.low > 1
    own[arm][3:, 1, 5] = value
    lost = found(own[ARM], baseline=own[BASELINE])
    assert (lost.activations, lost.activations_status) == (None, Measured.NOT_FINITE)


def test_a_direction_in_which_one_image_alone_differs_gives_no_unit():
    still = np.zeros_like(vectors(0))
    still[0, :, 0] = still[1, :, 0] = 5.0  # one image of each half
    one = found(vectors(0), baseline=still)
    assert (one.activations, one.activations_status) == (None, Measured.TOO_FEW)


@pytest.mark.parametrize("steps", [STEPS, STEPS - 1, 0])  # 0: a source that states none
def test_a_sampler_may_call_the_denoiser_more_often_than_it_has_steps(steps):
    arms = {BASELINE: rows_of(BASELINE), ARM: rows_of(ARM)}
    recorded = recorded_of([table_of({BASELINE: vectors(0), ARM: vectors(0, shift=12.0)})])
    [one] = off_path(arms, (ARM,), PathEvidence(recorded, {}, looks_for_faces=True, steps=steps))
    assert [step.step for step in one.activations.by_step] == [0, 1, 2]


def test_images_far_from_all_others_are_counted_beside_what_chance_gives():
    same = found(None, embedded={BASELINE: features(0), ARM: features(0)}, edits=())
    assert same.unlike_prompt.change.value == same.unlike_all.change.value == 0
    assert 0 < same.unlike_prompt.before.value < 0.4
    assert same.unlike_prompt.change.low < 0 < same.unlike_prompt.change.high, "no change has an interval too"
    far = found(None, embedded={BASELINE: features(0), ARM: features(1, shift=60.0)})
    assert far.unlike_prompt.after.value == far.unlike_all.after.value == 1
    assert far.unlike_all.change.low > 0.4


def test_an_image_that_looks_like_another_prompt_is_unlike_its_own_prompt_alone():
    swapped = features(1)
    values = np.roll(np.concatenate(swapped.kept), EACH, axis=0)
    moved = replace(swapped, kept=(values,))
    one = found(None, embedded={BASELINE: features(0), ARM: moved})
    assert one.unlike_prompt.after.value == 1
    assert one.unlike_all.after.value < 0.5


def test_lost_faces_are_counted_among_those_that_the_baseline_shows():
    seen, none = Status.CLASSIFIED.value, Status.NO_FACE.value
    before = [none] * 4 + [seen] * (len(KEYS) - 4)
    after = [seen] * 4 + [none] * 9 + [seen] * (len(KEYS) - 13)
    lost = found(None, statuses=(before, after)).face_lost
    assert lost.n == len(KEYS) - 4
    assert lost.value == pytest.approx(9 / 36 / 2), "the mean of 9 of 36 and 0 of 40"
    assert lost.low < lost.value < lost.high


def test_what_cannot_be_measured_says_why():
    plain = found(None, looks=False, edits=())
    assert plain.activations_status == Measured.NO_MAP
    assert plain.images_status == Measured.NO_NETWORK
    assert plain.face_status == Measured.NO_FACE_CHECK
    assert found(None).activations_status == Measured.NOT_RECORDED
    gone = [Status.NO_FACE.value] * len(KEYS)
    assert found(None, statuses=(gone, None)).face_status == Measured.NO_FACES
    few = FeatureSet.of(np.ones((3, 2), np.float32), np.arange(3), np.ones(3, bool), KEYS[:3])
    assert found(None, embedded={BASELINE: few, ARM: few}).images_status == Measured.TOO_FEW


def test_the_record_survives_its_plain_data():
    for one in (found(vectors(0), embedded={BASELINE: features(0), ARM: features(1)}), found(None)):
        assert OffPath.of_data(asdict(one)) == one
