"""A series reports a planted change, and rarely reports one if nothing changed, for any length of the series."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest

from audit.records.attributes import Attribute
from audit.records.groups import FairnessDiscrepancy, GroupResult, PromptMean
from audit.records.result import AuditResult
from audit.records.verdicts import Verdict
from audit.records.work import ImageKey
from audit.results.comparison.slots import Journal, Slot, SlotRecord
from audit.results.comparison.trend import ERROR_RATE, earlier_points, latest_trend, read_trend, write_trend
from audit.storage.rows import results_schema
from audit.storage.run_directory import AUDIT, TREND, RunDirectory

SERIES = "weekly-0123456789ab"
START = datetime(2026, 1, 5, 3, tzinfo=UTC)
GENDER = Attribute("gender", ("female", "male"))
SHARES = {"nurse": 0.9, "guard": 0.2, "chef": 0.5}


def rows(shares, seed, images):
    drawn = []
    for prompt, share in shares.items():
        for index in range(images):
            own = ImageKey(prompt, index).seed(seed)
            female = float(np.random.default_rng(own).uniform() < share)
            drawn.append(
                {"arm": "baseline", "prompt_id": prompt, "index": index, "seed": own, "status": "classified"}
                | {"p_gender_female": female, "p_gender_male": 1 - female}
            )
    return drawn


def verdict(found, gate="fair"):
    return Verdict(
        gate, "share:female", "gender", "nurse", "baseline", 0.5, "max", 0.4, 0.3, 0.5, 0.95, 9, found, "fail", 0
    )


def result_of(run_id, verdicts=(), **provenance):
    discrepancy = FairnessDiscrepancy(0.3, 0.2, 0.4, 0.09, 0.31, 0.1, 0.25, 0.01, 0.01, 144)
    overall = GroupResult(
        None,
        "baseline",
        "gender",
        144,
        {"classified": 144},
        {},
        discrepancy,
        mean_over_prompts=PromptMean(0.4, 0.1, 0.6, 0.41, 0.1, 0.3, 3),
    )
    return AuditResult(run_id, {}, provenance, (), (overall,), (), {}, verdicts=tuple(verdicts))


def leaver(output):
    """Return a function that writes the run of a slot like an audit and returns its trend."""

    def leave(week, shares=SHARES, seed=1, images=48, verdicts=(), fingerprint="sha256:1", **provenance):
        slot = Slot(SERIES, START + timedelta(weeks=week))
        run = RunDirectory(output / slot.run_id)
        about = {"model_fingerprint": fingerprint, "instruments": {"judge": "a"}, "versions": {"torch": "2"}}
        config = {"name": "weekly", "seed": seed, "attributes": {"gender": list(GENDER.groups)}}
        run.write_json(AUDIT, {"schema_version": 2, "run_id": slot.run_id, "config": config, "provenance": about})
        run.write_results(pa.Table.from_pylist(rows(shares, seed, images), schema=results_schema([GENDER])))
        return write_trend(run, result_of(slot.run_id, verdicts, **provenance), earlier_points(output, slot))

    return leave


@pytest.fixture
def audited(tmp_path):
    return leaver(tmp_path)


def called(trend):
    return [point.changed for point in trend.points]


def test_the_first_run_has_no_comparison(audited):
    trend = audited(0)
    [point] = trend.points
    assert point.check is None
    [headline] = point.headlines
    assert (headline.value, headline.low, headline.high, headline.n) == (0.4, 0.1, 0.6, 3)


def test_an_unchanged_model_is_compared_in_pairs_without_differences(audited):
    trends = [audited(week) for week in range(4)]
    assert called(trends[-1]) == [False] * 4
    for point in trends[-1].points[1:]:
        assert point.check.paired
        assert point.check.against == trends[0].points[0].run_id
        assert point.check.inputs == ()


def test_a_planted_change_is_reported_at_the_next_slot_with_the_changed_inputs(audited):
    audited(0)
    audited(1)
    trend = audited(2, SHARES | {"nurse": 0.3}, fingerprint="sha256:2")
    assert called(trend) == [False, False, True]
    check = trend.points[-1].check
    assert {found.prompt_id for found in check.called if found.prompt_id} == {"nurse"}
    assert check.called[0].figure == "share"
    assert check.inputs == ("model_fingerprint",)
    assert all(found.low > 0 or found.high < 0 for found in check.called)
    assert all(found.adjusted_p_value <= check.error_rate for found in check.called)


def test_a_series_can_be_in_an_object_store_or_on_disk(place):
    leave = leaver(place)
    leave(0)
    leave(1)
    assert called(leave(2, SHARES | {"nurse": 0.3})) == [False, False, True]


def test_after_a_change_later_runs_are_compared_with_the_new_state(audited):
    audited(0)
    changed = SHARES | {"nurse": 0.3}
    second = audited(1, changed)
    audited(2, changed)
    assert called(audited(3, changed)) == [False, True, False, False]
    back = audited(4)
    assert called(back) == [False, True, False, False, True]
    assert back.points[-1].check.against == second.points[-1].run_id


def test_a_slow_drift_is_detected_against_the_first_run_of_the_segment(audited):
    trend = None
    for week in range(7):
        trend = audited(week, SHARES | {"guard": 0.2 + 0.1 * week}, images=96)
    first = called(trend).index(True)
    assert first >= 2  # a single step is not significant
    assert trend.points[first].check.against == trend.points[0].run_id


def test_the_error_rates_of_a_series_add_up_to_at_most_the_total(audited):
    spent = [point.check.error_rate for point in [audited(week) for week in range(6)][-1].points[1:]]
    assert spent == [pytest.approx(ERROR_RATE / (k * (k + 1))) for k in range(1, 6)]
    assert sum(ERROR_RATE / (k * (k + 1)) for k in range(1, 100_000)) < ERROR_RATE


def test_series_with_new_seeds_keep_the_rate_of_false_alarms(tmp_path, audited, monkeypatch):
    # A looser rate than the real one makes false alarms frequent enough to be counted.
    rate, alarms, series = 0.4, 0, 12
    monkeypatch.setattr("audit.results.comparison.trend.ERROR_RATE", rate)
    for number in range(series):
        for path in tmp_path.iterdir():
            path.rename(tmp_path.parent / f"{number}-{path.name}")
        trend = [audited(week, {"nurse": 0.9, "chef": 0.5}, seed=100 * number + week, images=24) for week in range(4)][
            -1
        ]
        assert not any(point.check.paired for point in trend.points[1:])
        alarms += any(called(trend))
    assert alarms <= rate * series


def test_a_deleted_earlier_run_stays_in_the_series(audited, tmp_path):
    first = audited(0).points[0].run_id
    audited(1)
    for file in (tmp_path / first).iterdir():
        file.unlink()
    (tmp_path / first).rmdir()
    trend = audited(2)
    assert trend.points[0].run_id == first
    assert trend.points[-1].check.against == trend.points[1].run_id


def test_without_a_readable_earlier_run_the_point_has_a_reason_and_no_error_rate(audited, tmp_path):
    first = audited(0).points[0].run_id
    (tmp_path / first / AUDIT).unlink()
    check = audited(1).points[-1].check
    assert (check.against, check.error_rate, check.called) == (None, 0.0, ())
    assert "expected a finished run" in check.note
    assert audited(2).points[-1].check.error_rate == pytest.approx(ERROR_RATE / 2)


def test_complete_runs_are_preferred_to_incomplete_ones_as_reference(audited):
    audited(0, unfinished_shards=["nurse-0001"])
    whole = audited(1).points[-1]
    trend = audited(2)
    assert [point.verdict for point in trend.points] == ["incomplete", "none", "none"]
    assert trend.points[-1].check.against == whole.run_id


def test_a_late_retry_of_an_old_slot_uses_only_earlier_runs(audited):
    audited(0)
    audited(2)
    assert [point.slot for point in audited(1).points] == [
        (START + timedelta(weeks=week)).isoformat() for week in (0, 1)
    ]
    assert len(audited(3).points) == 4


def test_gates_have_unique_names(audited):
    other = replace(verdict("fail"), prompt_id=None)
    trend = audited(0, verdicts=[verdict("pass"), other])
    assert trend.points[0].gates == {"fair.baseline.gender.nurse": "pass", "fair.baseline.gender": "fail"}
    assert trend.points[0].verdict == "fail"


def test_a_written_trend_is_read_back_and_an_unknown_format_is_ignored(audited, tmp_path):
    trend = audited(0)
    run = RunDirectory(tmp_path / trend.points[0].run_id)
    assert read_trend(run) == trend
    run.write_json(TREND, {**run.read_json(TREND), "version": 3})
    assert read_trend(run) is None
    run.file(TREND).write_text("{")
    assert read_trend(run) is None


def test_runs_with_mean_probabilities_stay_in_the_series_and_are_marked(audited, tmp_path):
    first = RunDirectory(tmp_path / audited(0).points[0].run_id)
    old = first.read_json(TREND) | {"version": 1}
    for point in old["points"]:
        del point["soft"]
    first.write_json(TREND, old)
    trend = audited(1, SHARES | {"nurse": 0.3})
    assert [point.soft for point in trend.points] == [True, False]
    assert called(trend) == [False, True]  # computed from the images, which the older release stored as well


def test_a_slot_without_a_result_is_a_gap_and_not_a_point(audited, tmp_path):
    audited(0)
    journal = Journal(tmp_path / "slots.jsonl")
    failed = Slot(SERIES, START + timedelta(weeks=1))
    journal.append(SlotRecord(SERIES, failed.time.isoformat(), "started"))
    journal.append(SlotRecord(SERIES, failed.time.isoformat(), "failed", "exit code 4"))
    trend = latest_trend(tmp_path, failed, journal.gaps(SERIES, failed.time))
    assert [(gap.slot, gap.note) for gap in trend.gaps] == [(failed.time.isoformat(), "exit code 4")]
    assert len(trend.points) == 1


def test_writing_a_trend_requires_the_directory_of_a_slot(tmp_path):
    with pytest.raises(ValueError, match=r"expected the directory of a scheduled run .*, found 'mine'"):
        write_trend(RunDirectory(tmp_path / "mine"), result_of("mine"), ())
