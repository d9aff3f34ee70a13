"""A line predicts linear strengths, estimates its error, and is not used if the projection is not informative."""

import numpy as np
import pytest

from audit.dissect.prediction import fit_line, fit_lines, is_trusted, prediction_of_data
from audit.dissect.strengths import GroupStrength

X = np.linspace(-2, 2, 16)


def test_linear_strengths_are_predicted_exactly_and_never_above_the_largest():
    line = fit_line(X, np.clip(1 - 0.5 * X, 0, 2))
    assert line.error < 0.05 < line.error_of_mean
    assert line.trusted
    assert line.strength(0.5).strength == pytest.approx(0.75, abs=0.01)
    assert line.strength(0.5).source == "predicted"
    assert line.strength(50).strength == 0
    assert line.strength(-50).strength == 2.0


def test_the_error_is_computed_by_leave_one_out():
    rng = np.random.default_rng(0)
    y = np.clip(1 - 0.5 * X + rng.normal(0, 0.3, 16), 0, 3)
    left_out = []
    for row in range(16):
        rest = np.arange(16) != row
        slope, intercept = np.polyfit(X[rest], y[rest], 1)
        left_out.append(np.clip(intercept + slope * X[row], 0, y[rest].max()) - y[row])
    assert fit_line(X, y).error == pytest.approx(np.sqrt(np.mean(np.square(left_out))))


def test_an_uninformative_projection_is_not_trusted():
    line = fit_line(X, np.tile([0.0, 1.0], 8))
    assert line.error < 0.75  # the median of the others would have an error of 1
    assert line.error > 0.9 * line.error_of_mean
    assert not line.trusted


def test_one_strength_for_all_is_trusted():
    assert fit_line(X, np.full(16, 1.5)).trusted


def test_a_large_error_is_not_trusted_even_if_that_of_the_mean_is_larger():
    y = 2 - X + np.tile([0.7, -0.7], 8)
    line = fit_line(X, y)
    assert line.error < 0.75 * line.error_of_mean
    assert not line.trusted


def test_three_prompts_give_no_line():
    assert fit_line([0, 1, 2], [0, 1, 2]) is None


def test_an_attribute_is_trusted_only_with_all_of_its_groups():
    projections = {f"p{i}": {"female": x, "male": -x} for i, x in enumerate(X)}
    noise = np.tile([0.0, 1.0], 8)
    strengths = {
        f"p{i}": {"female": GroupStrength(2 - x, "searched"), "male": GroupStrength(noise[i], "searched")}
        for i, x in enumerate(X)
    }
    lines = fit_lines(projections, strengths)
    assert lines["female"].trusted
    assert not is_trusted(lines, ("female", "male"))
    assert is_trusted(lines, ("female",))
    assert not is_trusted({}, ("female",))
    assert prediction_of_data({"g": {name: line.as_data() for name, line in lines.items()}}) == {"g": lines}
