"""Whole audits are drawn as their scenario says, and no more of them end in a wrong verdict than is promised."""

import numpy as np
import pytest
from scipy.stats import binom

from audit.records.work import Status
from benchmarks.coverage.audits import LABELLED, SCENARIOS, SHARE, Scenario, _rows, settings, study, verdicts
from benchmarks.coverage.tally import OURS

SAMPLES = 60
LEVEL = 0.05


def rows_of(scenario):
    shard = scenario.shards[0]
    return _rows(scenario, shard, np.random.default_rng(1))


def test_images_show_the_groups_that_the_scenario_draws_and_a_judge_errs_as_it_says():
    scenario = Scenario((0.5, 0.5), (0.7, 0.3), 20_000, accuracy=0.9, missing=(0.2, 0.0))
    table = rows_of(scenario)
    seen = np.array(table["status"].to_pylist()) == Status.CLASSIFIED
    perceived = table["p_group_g0"].to_numpy()[seen]
    assert seen.mean() == pytest.approx(1 - 0.7 * 0.2, abs=0.01)
    assert perceived.mean() == pytest.approx((0.56 * 0.9 + 0.3 * 0.1) / 0.86, abs=0.015)
    assert (scenario.rates * LABELLED).round(9).tolist() == [[180, 20], [20, 180]]


def test_a_limit_is_the_truth_over_all_images():
    scenario = SCENARIOS["16 gates, target .05 .15 .8"]
    assert scenario.limit(SHARE) == 0.12
    assert scenario.limit("fairness_discrepancy") == pytest.approx(np.sqrt(0.07**2 + 0.03**2 + 0.1**2))


def test_a_gate_that_cannot_be_missed_is_decided(tmp_path):
    """The count of wrong verdicts would be worth nothing if no verdict were ever given."""
    fair, unfair = (
        Scenario((0.5, 0.5), (0.5, 0.5), 400, allowed=0.5),
        Scenario((0.5, 0.5), (0.9, 0.1), 400, allowed=0.1),
    )
    rng = np.random.default_rng(2)
    assert list(verdicts(fair, rng, tmp_path / "a")) == ["pass"]
    assert list(verdicts(unfair, rng, tmp_path / "b")) == ["fail"]


@pytest.mark.parametrize("name", [
    "8 gates, target .02 .03 .95",
    "mean over 2 prompts",
    "1 gate, images of one group missing",
    "1 gate, parity, images of one group missing",
    "1 gate, a judge that errs",
    "8 gates, a judge that errs and images missing",
])  # fmt: skip
def test_no_more_audits_are_wrong_than_chance_explains(name):
    """Of 60 audits of which 5 % may be wrong, more than 8 are once in 500 times."""
    [setting] = [setting for setting in settings(False) if setting.detail == name]
    for tally in study(setting, SAMPLES):
        wrong = round((1 - tally.coverage[OURS]) * SAMPLES)
        assert binom.sf(wrong - 1, SAMPLES, LEVEL) > 0.002, (tally.figure, wrong)
