"""Two judges are compared on the images that both classified, and each finding has a second view."""

import numpy as np
import pyarrow as pa
import pytest

from audit.measure.inference.intervals import share_estimate
from audit.measure.shares.agreement import cohen_kappa
from audit.records.attributes import Attribute, SecondOpinion
from audit.records.groups import FairnessDiscrepancy, GroupResult
from audit.results.second_opinions import agreements, common_answers, second_views
from audit.storage.rows import results_schema

GENDER, TONE = Attribute("gender", ("female", "male")), Attribute("skin_tone", ("light", "tan", "dark"))
ATTRIBUTES = (GENDER, TONE)
CLIP = SecondOpinion("clip", ATTRIBUTES)


def one_hot(column, group, groups):
    return {f"{column}_{name}": None if group is None else float(name == group) for name in groups}


def image(index, first, second, arm="baseline", prompt="nurse", status="classified", tones=("light", "light")):
    """One row: the answers of both judges for gender and skin tone."""
    named = {"arm": arm, "prompt_id": prompt, "index": index, "seed": index, "status": status}
    return (
        named
        | one_hot("p_gender", first, GENDER.groups)
        | one_hot("p_skin_tone", tones[0], TONE.groups)
        | one_hot("by_clip_gender", second, GENDER.groups)
        | one_hot("by_clip_skin_tone", tones[1], TONE.groups)
    )


def table(rows, opinions=(CLIP,)):
    return pa.Table.from_pylist(rows, schema=results_schema(ATTRIBUTES, opinions))


def pairs(*counted, **fields):
    """Rows for ((first, second), count) each."""
    answers = [answer for answer, count in counted for _ in range(count)]
    return [image(index, *answer, **fields) for index, answer in enumerate(answers)]


def common(rows, arms=("baseline",), opinions=(CLIP,)):
    return tuple(common_answers(table(rows, opinions), arms, opinions))


def finding(share, prompt="nurse", attribute=GENDER, p_adjusted=0.01, target=None):
    """A row with the given shares, which departs significantly from the target by default."""
    shares = {
        group: share_estimate(round(100 * value), 100) for group, value in zip(attribute.groups, share, strict=True)
    }
    found = FairnessDiscrepancy(0.3, 0.2, 0.4, 0.09, 0.3, 0.3, 0.1, 0.001, p_adjusted, 100)
    even = (1 / len(shares),) * len(shares)
    goal = dict(zip(attribute.groups, target or even, strict=True))
    return GroupResult(prompt, "baseline", attribute.name, 100, {"classified": 100}, shares, found, target=goal)


def views(rows, *results):
    return second_views(common(rows), results)


def test_share_and_kappa_are_those_of_the_counted_table():
    rows = pairs((("female", "female"), 20), (("female", "male"), 5), (("male", "female"), 10), (("male", "male"), 15))
    gender, _ = agreements(common(rows))
    assert (gender.judge, gender.arm, gender.attribute, gender.n) == ("clip", "baseline", "gender", 50)
    assert gender.share == share_estimate(35, 50)
    assert gender.kappa.value == pytest.approx(0.4)  # a table from a textbook: (0.7 - 0.5) / (1 - 0.5)
    assert gender.kappa == cohen_kappa([[20, 5], [10, 15]])


def test_an_image_that_only_one_judge_classified_is_not_compared():
    seen = pairs((("female", "female"), 3), (("male", "male"), 4))
    unsure = image(7, "female", "male", status="low_confidence")
    silent = image(8, "female", None, tones=("light", None))
    gender, tone = agreements(common([*seen, unsure, silent]))
    assert (gender.n, gender.share) == (7, share_estimate(7, 7))
    assert tone.n == 7


def test_each_arm_judge_and_attribute_has_its_own_row_in_a_fixed_order():
    other = SecondOpinion("other", (TONE,))
    before = [image(0, "female", "female"), image(1, "male", "male")]
    after = [image(0, "female", "male", arm="mended"), image(1, "male", "female", arm="mended")]
    rows = [row | one_hot("by_other_skin_tone", "dark", TONE.groups) for row in (*after, *before)]
    found = agreements(common(rows, ("baseline", "mended"), (CLIP, other)))
    assert [(row.judge, row.arm, row.attribute, row.share.value) for row in found] == [
        ("clip", "baseline", "gender", 1.0),
        ("clip", "baseline", "skin_tone", 1.0),
        ("clip", "mended", "gender", 0.0),
        ("clip", "mended", "skin_tone", 1.0),
        ("other", "baseline", "skin_tone", 0.0),
        ("other", "mended", "skin_tone", 0.0),
    ]


def test_a_single_answer_for_all_images_has_a_share_and_no_kappa():
    gender, _ = agreements(common(pairs((("male", "male"), 9))))
    assert (gender.share.value, gender.kappa) == (1.0, None)


def test_without_a_common_image_there_is_no_figure():
    rows = [image(0, "female", None, tones=("light", None)), image(1, "male", "male", status="no_face")]
    assert [(row.n, row.share, row.kappa) for row in agreements(common(rows))] == [(0, None, None)] * 2
    assert agreements(common([])) == tuple(agreements(common(rows)))


@pytest.mark.parametrize(
    ("women", "direction"), [(40, "same"), (28, "unclear"), (25, "unclear"), (22, "unclear"), (10, "opposite")]
)
def test_a_second_view_is_the_same_if_its_interval_excludes_the_target(women, direction):
    rows = pairs((("female", "female"), women), (("female", "male"), 50 - women))
    (view,) = views(rows, finding((0.8, 0.2)))
    assert (view.group, view.target, view.direction) == ("female", 0.5, direction)
    assert view.share == share_estimate(women, 50)


def test_a_second_view_is_about_the_group_furthest_above_its_target():
    rows = pairs((("female", "female"), 60))
    (view,) = views(rows, finding((0.5, 0.5), target=(0.9, 0.1)))
    assert (view.group, view.target, view.direction) == ("male", 0.1, "opposite")
    tone = finding((0.2, 0.5, 0.3), attribute=TONE)
    dark = [image(i, "female", "female", tones=("tan", "dark")) for i in range(30)]
    (view,) = views(dark, tone)
    assert (view.group, view.share.value, view.direction) == ("tan", 0.0, "opposite")


def test_a_second_view_uses_only_the_images_of_its_prompt():
    rows = pairs((("female", "female"), 30)) + pairs((("female", "male"), 30), prompt="guard")
    found = views(rows, finding((0.9, 0.1), "guard"), finding((0.9, 0.1), "nurse"))
    assert [(view.prompt_id, view.direction) for view in found] == [("guard", "opposite"), ("nurse", "same")]


def test_only_findings_have_a_second_view_which_is_unclear_without_common_images():
    rows = pairs((("female", "female"), 30))
    assert views(rows, finding((0.6, 0.4), p_adjusted=0.2)) == ()
    (view,) = views(rows, finding((0.9, 0.1), "guard"))
    assert (view.share, view.direction) == (None, "unclear")


def test_probabilities_count_by_the_most_probable_group():
    rng = np.random.default_rng(0)
    first, second = rng.dirichlet((1, 1, 1), size=(2, 200))
    rows = [
        image(i, "female", "female")
        | {f"p_skin_tone_{g}": p for g, p in zip(TONE.groups, a, strict=True)}
        | {f"by_clip_skin_tone_{g}": p for g, p in zip(TONE.groups, b, strict=True)}
        for i, (a, b) in enumerate(zip(first, second, strict=True))
    ]
    _, tone = agreements(common(rows))
    assert tone.share == share_estimate(int((first.argmax(1) == second.argmax(1)).sum()), 200)


def test_images_outside_the_groups_of_a_judge_are_not_compared():
    """Of four images, one is outside the groups for the main judge, and another for the second judge."""
    rows = pairs((("female", "female"), 4))
    rows[0] |= {"p_gender_female": None, "p_gender_male": None, "outside_gender": True}
    rows[1] |= {"by_clip_gender_female": None, "by_clip_gender_male": None}
    gender, tone = agreements(common(rows))
    assert (gender.attribute, gender.n) == ("gender", 2)
    assert (tone.attribute, tone.n) == ("skin_tone", 4)
