"""Scores of pictures: intervals cover noise and the place of the middle, and nearest texts are those of most cosine."""

import tracemalloc

import numpy as np
import pytest

from audit.analyses.directions import Directions
from audit.analyses.given.picture_maps import PictureMaps
from audit.records.inside.read_pictures import ReadPictures
from audit.results.exploration.pictures import _area, read_pictures_of

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
    """The images of both ends share their noise, so that the errors of both ends have the same sign."""
    random, inside, truth = np.random.default_rng(0), 0, 0.4
    for _ in range(120):
        shared = random.normal(0, 0.6, 12)
        own = np.stack([end + shared + random.normal(0, 0.1, 12) for end in (-1, 1)])
        middle = own.mean()
        scores = truth - middle + random.normal(0, 0.1, (1, 16))
        [one] = read_pictures_of(maps(scores, own[None]), directions(), TEXTS, 5).scores
        inside += one.low <= truth <= one.high
    assert 0.92 <= inside / 120 <= 0.99


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


def test_the_area_counts_ties_half_and_needs_little_memory():
    random = np.random.default_rng(0)
    lower, upper = random.integers(0, 9, 40) / 4, random.integers(2, 11, 30) / 4
    difference = upper[:, None] - lower[None]
    assert _area(lower, upper) == pytest.approx((difference > 0).mean() + (difference == 0).mean() / 2)
    many = random.normal(0, 1, (2, 3000))
    tracemalloc.start()
    assert _area(*many) == pytest.approx(0.5, abs=0.05)
    assert tracemalloc.get_traced_memory()[1] < 1e6
    tracemalloc.stop()


def test_one_seed_has_no_interval():
    found = read_pictures_of(maps(np.zeros((1, 1)), np.zeros((1, 2, 8))), directions(), TEXTS, 5)
    assert (found.scores[0].low, found.scores[0].high, found.agreement["p0.png"]) == (None, None, None)
