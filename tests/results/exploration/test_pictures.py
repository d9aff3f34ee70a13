"""Scores of pictures: intervals cover noise and the place of the middle, and nearest texts are those of most cosine."""

import numpy as np
import pytest

from audit.analyses.directions import Directions
from audit.analyses.given.picture_maps import PictureMaps
from audit.records.inside.read_pictures import ReadPictures
from audit.results.exploration.pictures import read_pictures_of

TEXTS = {
    "prompts": [("doctor", "a doctor"), ("nurse", "a nurse")],
    "descriptors": [("cold", "a cold person")],
}


def maps(scores, own, halves=None):
    n = len(scores)
    halves = np.tile(np.eye(2, 4)[:n], (2, 1, 1)) if halves is None else halves
    return PictureMaps(tuple(f"p{row}.png" for row in range(n)), ("gender",), scores[:, None], halves, own, 4)


def directions():
    texts = ("neutral", "a doctor", "a nurse", "a cold person")
    vectors = np.array([[0, 0, 0, 0], [1, 0, 0, 5], [0, 1, 0, 5], [0, 0, 1, 0]], dtype=float)
    return Directions(texts, ("gender",), np.zeros((4, 1, 2)), np.stack([vectors] * 2), np.zeros((4, 1)), 4)


def test_an_interval_covers_the_true_score_as_often_as_it_says():
    random, inside, truth = np.random.default_rng(0), 0, 0.4
    for _ in range(120):
        own = np.stack([random.normal(end, 0.6, 12) for end in (-1, 1)])
        middle = own.mean()
        scores = truth - middle + random.normal(0, 0.3, (1, 8))
        [one] = read_pictures_of(maps(scores, own[None]), directions(), TEXTS, 5).scores
        inside += one.low <= truth <= one.high
    assert inside / 120 >= 0.92  # 8 seeds give the quantile for both sources of error, which is conservative


def test_the_nearest_text_is_the_one_of_most_cosine_without_their_common_part():
    own = np.stack([np.linspace(-2, -1, 8), np.linspace(1, 2, 8)])[None]
    found = read_pictures_of(maps(np.zeros((2, 4)), own), directions(), TEXTS, 5)
    assert [one.name for one in found.prompts["p0.png"]] == ["doctor", "nurse"]
    assert [one.name for one in found.prompts["p1.png"]] == ["nurse", "doctor"]
    assert found.prompts["p0.png"][0].cosine == pytest.approx(0.5**0.5)
    assert found.descriptors["p0.png"][0].cosine == pytest.approx(0)
    assert ReadPictures.of_data(found.as_data()) == found


@pytest.mark.parametrize(("shift", "area"), [(4.0, 1.0), (-4.0, 0.0), (0.0, 0.5)])
def test_the_area_of_an_axis_says_how_well_it_separates_the_ends(shift, area):
    low = np.linspace(-1, 1, 9)
    found = read_pictures_of(maps(np.zeros((1, 2)), np.stack([low, low + shift])[None]), directions(), TEXTS, 5)
    [axis] = found.axes
    assert axis.area == pytest.approx(area)
    assert axis.low <= axis.area <= axis.high


def test_one_seed_has_no_interval():
    found = read_pictures_of(maps(np.zeros((1, 1)), np.zeros((1, 2, 8))), directions(), TEXTS, 5)
    assert (found.scores[0].low, found.scores[0].high, found.agreement["p0.png"]) == (None, None, None)
