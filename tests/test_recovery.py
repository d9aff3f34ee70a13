"""The auditor audited: from rendered pictures to findings, it recovers what was planted, and knows its judge's errors.

Pictures are drawn with the planted shares, judged by the bundled classifier and summarised, as in a run. A second
judge gives the same answers, but wrong ones at a known rate.
"""

from dataclasses import replace

import numpy as np
import pytest

from audit.calibration.world import ATTRIBUTES, World
from audit.config.settings import AuditConfig
from audit.config.slices import MeasurementRequest
from audit.generation.parts import load_parts
from audit.generation.settings import ShardSettings
from audit.generation.shard import do_shard
from audit.measure.shares.classifier_error import ConfusionMatrix
from audit.planning.plan import plan_shards, prompts_of
from audit.records.attributes import Attribute
from audit.results.summary import SummaryPlan, summarise
from audit.storage.run_directory import RunDirectory

IMAGES, BATCH = 240, 120
ACCURACY, LABELS = 0.85, 400
CONFIG = AuditConfig(
    name="recovery",
    model={"source": "rendered"},
    prompts={"images_per_prompt": IMAGES, "attribution": False},
    sampling={"batch": BATCH},
    quality={"clip": "none", "features": "none"},
)
REQUEST = MeasurementRequest.of(CONFIG)
WORLD = World.bundled()
PLANTED_TOGETHER = {
    ("doctor", ("gender", "age")),
    ("chef", ("age", "skin_tone")),
    ("gardener", ("gender", "skin_tone")),
}


class Remembering:
    """A generator that draws each batch once, for all judges that look at it."""

    def __init__(self, generator):
        self._generator, self._drawn = generator, {}
        self.fingerprint, self.steps = generator.fingerprint, generator.steps

    def generate(self, prompt, seeds, intervention=None, observers=None, shared=None):
        key = prompt.id, *seeds
        if key not in self._drawn:
            self._drawn[key] = self._generator.generate(prompt, seeds)
        return self._drawn[key]


class Watching:
    """A judge that looks at each remembered batch once."""

    def __init__(self, judge):
        self._judge, self._seen = judge, {}
        self.signature = judge.signature

    def perceive(self, images, occupation):
        if id(images) not in self._seen:
            self._seen[id(images)] = images, self._judge.perceive(images, occupation)
        return self._seen[id(images)][1]


class Erring:
    """A judge whose answers are wrong at a known rate, each wrong group equally often; the picture decides which."""

    def __init__(self, judge):
        self._judge = judge
        self.signature = f"{judge.signature}|accuracy:{ACCURACY}"

    def perceive(self, images, occupation):
        seen = self._judge.perceive(images, occupation)
        seeds = [int(image.long().sum()) for image in images]
        turned = {
            name: np.stack([self._turned(row, name, seed) for row, seed in zip(rows, seeds, strict=True)])
            for name, rows in seen.probabilities.items()
        }
        return replace(seen, probabilities=turned)

    @staticmethod
    def _turned(row, name, seed):
        rng = np.random.default_rng([seed, len(name)])
        shift = 0 if rng.uniform() < ACCURACY else rng.integers(1, len(row))
        return np.roll(row, shift)


def confusions():
    """Matrices from hand labels of the erring judge: a sample, as any auditor would have."""
    rng = np.random.default_rng(3)
    found = {}
    for name, groups in ATTRIBUTES.items():
        wrong = (1 - ACCURACY) / (len(groups) - 1)
        rates = np.full((len(groups), len(groups)), wrong) + np.eye(len(groups)) * (ACCURACY - wrong)
        found[name] = ConfusionMatrix.of(groups, np.stack([rng.multinomial(LABELS, row) for row in rates]))
    return found


@pytest.fixture(scope="module")
def audited(tmp_path_factory):
    """The audit by the bundled judge, and the same by the erring one."""
    parts = load_parts(REQUEST, None)
    parts = replace(parts, generator=Remembering(parts.generator))
    shards = plan_shards(prompts_of(CONFIG.prompts, WORLD.occupations), IMAGES, BATCH)
    results, judge = [], Watching(parts.judge)
    for looks, matrices in ((judge, {}), (Erring(judge), confusions())):
        run = RunDirectory(tmp_path_factory.mktemp("run"))
        run.create(CONFIG.model_dump(mode="json"), {})
        for shard in shards:
            run.write_shard(
                shard.id,
                do_shard(replace(parts, judge=looks), ShardSettings.of(REQUEST), shard).table,
            )
        attributes = tuple(Attribute(name, groups) for name, groups in ATTRIBUTES.items())
        results.append(summarise(run, SummaryPlan("recovery", attributes, shards, ("baseline",), confusions=matrices)))
    return results


def shares(rows, pick):
    """Pair (found, planted) of every group of every row."""
    return [
        (found, WORLD.share(row.prompt_id, row.attribute)[group]) for row in rows for group, found in pick(row).items()
    ]


def covered(pairs):
    return np.mean([found.low <= planted <= found.high for found, planted in pairs])


def distance(row):
    planted = np.array(list(WORLD.share(row.prompt_id, row.attribute).values()))
    return float(np.linalg.norm(planted - 1 / len(planted)))


def test_planted_shares_lie_in_their_intervals(audited):
    pairs = shares(audited[0].results, lambda row: row.shares)
    assert len(pairs) == 16 * (2 + 3 + 4)
    assert covered(pairs) >= 0.92
    assert np.mean([abs(found.value - planted) for found, planted in pairs]) < 0.02


def test_planted_distances_lie_in_their_intervals_and_are_findings_where_they_are_large(audited):
    rows = audited[0].results
    found = [(row.fairness_discrepancy, distance(row)) for row in rows]
    assert np.mean([d.low <= planted + 1e-9 and planted <= d.high for d, planted in found]) >= 0.92
    assert all(row.is_finding for row in rows if distance(row) > 0.2)
    findings = [row for row in rows if row.is_finding]
    assert np.mean([distance(row) < 0.01 for row in findings]) <= 0.05  # the rate of false ones that is promised


def test_attributes_that_were_planted_together_are_found_together_and_no_others(audited):
    single = [row for row in audited[0].intersections if row.prompt_id is not None and row.dependence is not None]
    found = {(row.prompt_id, row.attributes) for row in single if row.dependence.p_adjusted <= 0.05}
    assert found == PLANTED_TOGETHER
    assert len(single) == 16 * 3


def test_the_joint_shares_of_planted_dependence_lie_in_their_intervals(audited):
    names = list(ATTRIBUTES)
    inside = []
    for row in audited[0].intersections:
        if (row.prompt_id, row.attributes) in PLANTED_TOGETHER:
            (other,) = {0, 1, 2} - {names.index(name) for name in row.attributes}
            planted = WORLD.joint(row.prompt_id).sum(axis=other).ravel()
            alone = np.outer(*(list(WORLD.share(row.prompt_id, name).values()) for name in row.attributes)).ravel()
            cells = [cell.share for cell in row.cells]
            inside += [cell.low <= share <= cell.high for cell, share in zip(cells, planted, strict=True)]
            # The margins alone would not do: as independent attributes some combinations lie far outside.
            assert sum(not cell.low <= share <= cell.high for cell, share in zip(cells, alone, strict=True)) >= 2
    assert len(inside) == 6 + 12 + 8
    assert np.mean(inside) >= 0.92


def test_the_corrected_interval_covers_the_truth_where_the_raw_one_does_not(audited):
    rows = audited[1].results
    assert all(row.corrected for row in rows)
    assert covered(shares(rows, lambda row: row.corrected.shares)) >= 0.92
    assert covered(shares(rows, lambda row: row.shares)) < 0.8
    skewed = [row for row in rows if row.attribute == "gender" and distance(row) > 0.35]
    assert len(skewed) >= 8
    assert covered(shares(skewed, lambda row: row.shares)) == 0
    assert covered(shares(skewed, lambda row: row.corrected.shares)) >= 0.87  # at most one of the occupations misses


def test_errors_hide_skew_and_the_correction_brings_it_back(audited):
    rows = [row for row in audited[1].results if distance(row) > 0.35]
    raw = [row.fairness_discrepancy for row in rows]
    assert all(found.high < distance(row) for found, row in zip(raw, rows, strict=True) if row.attribute == "gender")
    held = [row.corrected.squared.low <= distance(row) ** 2 <= row.corrected.squared.high for row in rows]
    assert np.mean(held) >= 0.92
