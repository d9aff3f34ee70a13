"""Shares that are not a distribution over the groups, and mappings that omit a group, are reported as errors."""

import pytest

from audit.config.shares import category_problems, normalised, share_problems

GENDER = ("female", "male")


@pytest.mark.parametrize(
    ("shares", "place", "message"),
    [
        ({"female": 0.5, "man": 0.5}, ("man",), "expected a group (female, male), found 'man'"),
        ({"female": 1.0}, (), "found none for male; write 0"),
        ({"female": 0.5, "male": 0.4}, (), "found 0.9; is a category missing?"),
        ({"female": 0.6, "male": 0.6}, (), "found 1.2; do categories overlap"),
        ({"female": 1.5, "male": -0.5}, ("male",), "from 0 to 1, found -0.5"),
        ({"female": float("nan"), "male": 0.5}, ("female",), "from 0 to 1, found nan"),
    ],
)
def test_invalid_shares_are_reported_at_their_location(shares, place, message):
    problems = {problem.location: problem.message for problem in share_problems(("target",), shares, GENDER)}
    assert message in problems["target", *place]


def test_rounded_shares_are_accepted_and_normalised():
    shares = {"male": 0.334, "female": 0.664}
    assert list(share_problems((), shares, GENDER)) == []
    assert normalised(shares, GENDER) == pytest.approx((0.664 / 0.998, 0.334 / 0.998))


@pytest.mark.parametrize(
    ("mapping", "place", "message"),
    [
        ({"Women": "woman", "Men": "male"}, ("Women",), "expected a group (female, male), found 'woman'"),
        ({"Women": "female", "women ": "female", "Men": "male"}, ("women ",), "found both 'women ' and 'Women'"),
        ({"Women": "female"}, (), "found none for male"),
        ({"Women": "female", "Men": None}, (), "found none for male"),
    ],
)
def test_an_invalid_mapping_is_reported_at_its_location(mapping, place, message):
    problems = {problem.location: problem.message for problem in category_problems((), mapping, GENDER)}
    assert message in problems[place]
