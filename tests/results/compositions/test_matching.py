"""Persons are matched with occupations by the larger of both sums, whatever their order, and not below a certainty."""

import numpy as np
import pytest

from audit.results.compositions.matching import balanced_text, match_persons

TEXTS = np.eye(2)


def test_the_more_probable_way_counts_whoever_is_on_the_left():
    persons = np.array([[[0.8, 0.6], [0.6, 0.8]], [[0.6, 0.8], [0.8, 0.6]]])
    found = match_persons(persons, TEXTS, scale=10.0, certainty=0.8)
    assert found.first.tolist() == [0, 1]
    evidence = 10 * ((0.8 + 0.8) - (0.6 + 0.6))  # the two sums of cosines
    assert found.certainty == pytest.approx(1 / (1 + np.exp(-evidence)))
    codes = np.array([[7, 9], [7, 9]])
    assert found.of_first_and_second(codes).tolist() == [[7, 9], [9, 7]]


def test_an_uncertain_match_and_missing_persons_are_not_told_apart():
    persons = np.array([[[0.71, 0.70], [0.70, 0.71]], [[np.nan] * 2] * 2, [[1.0, 0.0], [1.0, 0.0]]])
    found = match_persons(persons, TEXTS, scale=10.0, certainty=0.8)
    assert found.apart.tolist() == [False, False, False]
    assert np.isnan(found.certainty[1])
    assert found.of_first_and_second(np.zeros((3, 2), int)).tolist() == [[-1, -1]] * 3
    equal = match_persons(persons[2:], TEXTS, scale=10.0, certainty=0.5)
    assert not equal.apart.any()


def test_a_balanced_text_does_not_depend_on_what_all_groups_share_in_opposite_directions():
    """The two texts of an occupation differ by a gender axis, which their mean does not have."""
    gender, work = np.eye(3)[0], np.eye(3)[1]
    texts = np.stack([work + 0.5 * gender, work - 0.5 * gender])
    assert balanced_text(texts / np.linalg.norm(texts, axis=1, keepdims=True)) == pytest.approx(work)
