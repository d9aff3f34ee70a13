"""Summaries with a judge that misses faces or makes errors: gates and findings stay correct."""

import math

import numpy as np
import pyarrow as pa
import pytest

from audit.config.sections import GateConfig
from audit.measure.shares.classifier_error import ConfusionMatrix
from audit.measure.unclassified.all_images import AllImages
from audit.records.attributes import Attribute
from audit.records.work import BASELINE, Prompt, Shard
from audit.results.summary import SummaryPlan, summarise
from audit.storage.rows import row_schema
from audit.storage.run_directory import RunDirectory

GENDER = Attribute("gender", ("female", "male"))
AGE = Attribute("age", ("young", "adult", "old"))


class Drawn:
    """Images of one arm: the true group of each, and the answer of a judge."""

    def __init__(self, seed, n, prompts=1, attribute=GENDER):
        self.rng, self.n, self.attribute = np.random.default_rng(seed), n, attribute
        self.prompts = [Prompt(f"p{number}", f"a face of a p{number}", f"p{number}") for number in range(prompts)]
        self.groups = len(attribute.groups)

    def table(self, prompt, shares, missing, rates=None):
        true = self.rng.choice(self.groups, self.n, p=shares)
        seen = true
        if rates is not None:
            seen = np.array([self.rng.choice(self.groups, p=rates[group]) for group in true])
        gone = self.rng.random(self.n) < np.asarray(missing)[true]
        columns = {
            f"p_{self.attribute.name}_{group}": [
                None if g else float(s == place) for s, g in zip(seen, gone, strict=True)
            ]
            for place, group in enumerate(self.attribute.groups)
        }
        names = {"arm": [BASELINE] * self.n, "prompt_id": [prompt.id] * self.n, "index": range(self.n)}
        rows = names | columns | {"seed": range(self.n), "status": np.where(gone, "no_face", "classified")}
        schema = row_schema((self.attribute,))
        return pa.table([pa.array(rows.get(f.name, [None] * self.n), f.type) for f in schema], schema=schema)

    def summary(self, path, shares, missing, gates, rates=None, matrix=None):
        """Summarise images with these shares, one tuple per prompt, and these probabilities of being unclassified."""
        run = RunDirectory(path)
        run.create({"name": "test"}, {})
        shards = tuple(Shard(prompt, 0, tuple(range(self.n))) for prompt in self.prompts)
        for shard, own in zip(shards, shares, strict=True):
            run.write_shard(shard.id, self.table(shard.prompt, own, missing, rates))
        limits = tuple(GateConfig(name=f"g{i}", attribute=self.attribute.name, **gate) for i, gate in enumerate(gates))
        confusions = {} if matrix is None else {self.attribute.name: matrix}
        plan = SummaryPlan("r", (self.attribute,), shards, (BASELINE,), gates=limits, confusions=confusions)
        return summarise(run, plan)


@pytest.mark.parametrize(
    "gate",
    [
        {"measure": "fairness_discrepancy", "prompt": "each", "max": 0.1},
        {"measure": "share:male", "prompt": "each", "max": 0.6},
        {"measure": "total_variation", "prompt": "each", "max": 0.05},
        {"measure": "share_ratio", "prompt": "each", "min": 0.8},
    ],
    ids=lambda gate: gate["measure"],
)
def test_a_fair_model_with_unclassified_women_fails_no_gate_and_has_no_finding(tmp_path, gate):
    result = Drawn(1, 600).summary(tmp_path, [(0.5, 0.5)], (0.4, 0.0), [gate])
    [verdict], [row] = result.verdicts, result.results
    assert row.fairness_discrepancy.p_parity < 1e-4  # for the classified images alone
    assert not row.is_finding
    assert row.p_departure > 0.05
    assert verdict.verdict == "inconclusive"
    assert "of the images have no perceived group" in verdict.note
    assert verdict.from_unclassified > 0.05
    assert row.discrepancy_bounds.high > row.discrepancy_bounds.low


def test_an_overall_gate_and_its_finding_take_unclassified_images_into_account(tmp_path):
    gates = [{"measure": "fairness_discrepancy", "max": 0.15}, {"measure": "fairness_discrepancy", "max": 0.65}]
    result = Drawn(2, 300, prompts=3).summary(tmp_path, [(0.5, 0.5)] * 3, (0.4, 0.0), gates)
    assert [v.verdict for v in result.verdicts] == ["inconclusive", "pass"]
    assert not any(row.is_finding for row in (*result.results, *result.overall))


def test_a_prompt_without_classified_images_counts_with_all_its_possible_groups(tmp_path):
    drawn = Drawn(3, 100, prompts=3)
    rows = [(0.5, 0.5), (0.5, 0.5), (1.0, 0.0)]
    result = drawn.summary(tmp_path, rows, (0.0, 0.0), [{"measure": "fairness_discrepancy", "max": 0.3}])
    assert result.verdicts[0].verdict == "fail"
    blanked = Drawn(3, 100, prompts=3)
    plain = blanked.table
    blanked.table = lambda prompt, shares, missing, rates: plain(
        prompt, shares, (1.0, 1.0) if prompt.id == "p2" else missing, rates
    )
    result = blanked.summary(tmp_path / "b", rows, (0.0, 0.0), [{"measure": "fairness_discrepancy", "max": 0.3}])
    [verdict] = result.verdicts
    assert verdict.verdict == "inconclusive"
    assert verdict.high > math.sqrt(0.5 / 3)  # all images of the unclassified prompt can be of one group


RATES = np.array([[0.7, 0.3], [0.1, 0.9]])
"""A judge that classifies three of ten women as men."""


def matrix(labels, rates=RATES, groups=GENDER.groups):
    return ConfusionMatrix.of(groups, np.rint(np.asarray(rates) * labels).astype(int))


def test_a_gate_uses_shares_corrected_for_the_known_errors_of_the_judge(tmp_path):
    gate = {"measure": "share:female", "prompt": "p0", "max": 0.36}
    gates = [gate, {**gate, "correct": False}]
    result = Drawn(5, 300).summary(tmp_path, [(0.42, 0.58)], (0.0, 0.0), gates, RATES, matrix(60))
    corrected, perceived = result.verdicts
    assert (corrected.corrected, perceived.corrected) == (True, False)
    assert corrected.value == pytest.approx(result.results[0].corrected.shares["female"].value)
    assert perceived.value == pytest.approx(result.results[0].shares["female"].value)
    assert corrected.high > 0.36
    assert corrected.verdict != "pass"
    assert f"corrected for the judge's errors; as perceived: {perceived.value:.3f}" in corrected.note
    assert corrected.high - corrected.low > perceived.high - perceived.low
    assert "as perceived, not corrected for the judge's known errors" in perceived.note


def test_perceived_figures_pass_wrongly_and_corrected_ones_do_not():
    """2,000 audits by a judge that classifies almost half of the women as men; the true share violates the limit."""
    rng, wrong, truth, limit = np.random.default_rng(6), np.zeros(2), 0.418, 0.32
    rates = np.array([[0.55, 0.45], [0.04, 0.96]])
    for _ in range(2000):
        judged = ConfusionMatrix.of(GENDER.groups, rng.multinomial(60, rates))
        codes = np.repeat((0, 1), rng.multinomial(200, np.array((truth, 1 - truth)) @ rates))
        for place, known in enumerate((None, judged)):
            images = AllImages(codes, np.zeros(200, dtype=int), np.array([[0.5, 0.5]]), matrix=known)
            wrong[place] += images.share_interval(0, 0.95)[1] <= limit
    assert wrong[0] / 2000 > 0.5
    assert wrong[1] / 2000 <= 0.025


def test_for_corrected_figures_unclassified_images_can_have_any_true_group(tmp_path):
    gate = {"measure": "share:female", "prompt": "p0", "max": 0.9}
    whole = Drawn(7, 300).summary(tmp_path / "a", [(0.42, 0.58)], (0.0, 0.0), [gate], RATES, matrix(200))
    partial = Drawn(7, 300).summary(tmp_path / "b", [(0.42, 0.58)], (0.3, 0.0), [gate], RATES, matrix(200))
    [first], [second] = whole.verdicts, partial.verdicts
    assert second.corrected
    assert second.from_unclassified > 0.08
    assert second.low < 0.42 < second.high
    assert second.high - second.low > first.high - first.low + 0.05


@pytest.mark.parametrize(
    "gate",
    [
        {"measure": "fairness_discrepancy", "prompt": "p0", "max": 0.3},
        {"measure": "fairness_discrepancy", "max": 0.3},
        {"measure": "share:female", "prompt": "p0", "max": 0.3},
        {"measure": "share_ratio", "prompt": "p0", "min": 0.3},
        {"measure": "normalised_entropy", "min": 0.3},
    ],
    ids=lambda gate: f"{gate['measure']} {gate.get('prompt', 'overall')}",
)
def test_a_judge_with_very_large_errors_decides_no_gate_and_gives_no_finding(tmp_path, gate):
    hopeless = np.array([[0.52, 0.48], [0.48, 0.52]])
    gates = [gate, {**gate, "correct": False}]
    result = Drawn(8, 100, prompts=2).summary(
        tmp_path, [(1.0, 0.0)] * 2, (0.0, 0.0), gates, matrix=matrix(100, hopeless)
    )
    first, second = result.verdicts
    assert (first.verdict, first.value) == ("inconclusive", None)
    assert "the judge's errors cannot be corrected: expected a confusion matrix with a condition number" in first.note
    assert "`correct: false`" in first.note
    assert second.value is not None
    assert all(row.uncorrectable and not row.is_finding for row in result.results)


def test_a_bias_of_the_judge_is_not_a_finding_and_a_departure_hidden_by_it_is(tmp_path):
    lopsided = np.array([[0.98, 0.02], [0.25, 0.75]])
    fair = Drawn(9, 500).summary(tmp_path / "a", [(0.5, 0.5)], (0, 0), [], lopsided, matrix(2000, lopsided))
    hidden = Drawn(9, 500).summary(tmp_path / "b", [(0.34, 0.66)], (0, 0), [], lopsided, matrix(2000, lopsided))
    [fair_row], [hidden_row] = fair.results, hidden.results
    assert fair_row.fairness_discrepancy.p_parity < 0.001
    assert not fair_row.is_finding
    assert hidden_row.fairness_discrepancy.p_parity > 0.05
    assert hidden_row.is_finding
    assert hidden_row.most_above_target == "male"


def test_three_groups_are_corrected_and_bounded_jointly(tmp_path):
    rates = np.array([[0.8, 0.15, 0.05], [0.1, 0.8, 0.1], [0.05, 0.15, 0.8]])
    gates = [
        {"measure": "fairness_discrepancy", "prompt": "p0", "max": 0.7},
        {"measure": "fairness_discrepancy", "max": 0.7},
        {"measure": "total_variation", "prompt": "p0", "max": 0.7},
    ]
    truth = (0.6, 0.3, 0.1)
    result = Drawn(10, 400, prompts=2, attribute=AGE).summary(
        tmp_path, [truth] * 2, (0.1, 0.0, 0.05), gates, rates, matrix(200, rates, AGE.groups)
    )
    true = math.dist(truth, (1 / 3,) * 3)
    for verdict, figure in zip(result.verdicts, (true, true, 0.6 - 1 / 3), strict=True):
        assert verdict.corrected
        assert verdict.low <= figure <= verdict.high
        assert verdict.low <= verdict.value <= verdict.high


def test_the_uncertainty_of_the_matrix_does_not_average_out_over_prompts(tmp_path):
    gate = {"measure": "fairness_discrepancy", "max": 0.7}
    shares, n = (0.75, 0.25), 400

    def width(labels, prompts, where):
        found = Drawn(11, n, prompts=prompts).summary(where, [shares] * prompts, (0, 0), [gate], RATES, matrix(labels))
        return found.verdicts[0].high - found.verdicts[0].low

    few = [width(60, prompts, tmp_path / f"few{prompts}") for prompts in (2, 16)]
    many = [width(10**7, prompts, tmp_path / f"many{prompts}") for prompts in (2, 16)]
    assert many[1] < many[0] / 2  # the uncertainty of the images does
    assert few[1] > 0.7 * few[0]


def test_intervals_of_mean_corrected_squares_cover_the_true_mean():
    rng, target, truths = (
        np.random.default_rng(12),
        np.full((3, 2), 0.5),
        np.array([[0.8, 0.2], [0.6, 0.4], [0.3, 0.7]]),
    )
    true, held = float(((truths - 0.5) ** 2).sum(axis=1).mean()), []
    for _ in range(600):
        judged = ConfusionMatrix.of(GENDER.groups, rng.multinomial(60, RATES))
        counts = np.stack([rng.multinomial(80, row @ RATES) for row in truths])
        codes, owners = np.repeat(np.tile((0, 1), 3), counts.ravel()), np.repeat(np.arange(3), 80)
        low, high = AllImages(codes, owners, target, matrix=judged).mean_square_interval(0.95)
        held.append((low <= true, true <= high))
    assert (1 - np.mean(held, axis=0) <= 0.025 + 3 * np.sqrt(0.025 / 600)).all()
