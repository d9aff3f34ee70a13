"""Tests the outbox: remaining items, and unique identifiers of audits."""

from dataclasses import replace

import pytest

from audit.config.sections import RegisteredModelConfig
from audit.storage.run_directory import OUTBOX, REPORT
from reports.tracking.outbox import TrackedRun, audit_id, filled_outbox, read_outbox

PLACE = TrackedRun("http://here", "1", "parent", {"baseline": "child"}, "m-1")


@pytest.fixture
def run(store_finished, result):
    return store_finished(result)


def fill(run, result, uri="http://here", **options):
    return filled_outbox(run, result, uri, "audits", **options)


def all_told(outbox):
    outbox = outbox.at(PLACE)
    for item in outbox.items:
        outbox = outbox.taken(item)
    return outbox


def test_a_new_audit_has_everything_left_and_its_status_after_its_files(run, result):
    assert fill(run, result).left == (
        "run",
        "arm/baseline",
        "arm/difflens-gender",
        "file/audit.json",
        "file/results.parquet",
        "file/report.html",
        "status",
    )


def test_accepted_items_stay_accepted_after_a_restart(run, result):
    fill(run, result).at(PLACE).taken("run").write(run)
    again = fill(run, result)
    assert "run" not in again.left
    assert again.tracked == PLACE


def test_only_what_changed_is_left(run, result):
    all_told(fill(run, result)).write(run)
    run.file(REPORT).write_text("rendered again")
    assert fill(run, result).left == ("file/report.html",)
    registered = RegisteredModelConfig(name="faces", version=7)
    assert fill(run, result, registered=registered).left == ("file/report.html", "registered_model")


def test_another_store_or_another_place_in_it_knows_nothing_yet(run, result):
    done = all_told(fill(run, result)).write(run)
    assert done.left == ()
    assert fill(run, result, uri="http://there").left == tuple(done.items)
    assert done.at(replace(PLACE, run_id="another")).left == tuple(done.items)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"left": []}', '{"left": [], "tracked": null, "of_the_future": 1}'])
def test_an_outbox_that_cannot_be_read_costs_a_second_telling_and_no_audit(run, result, text):
    run.file(OUTBOX).write_text(text)
    assert read_outbox(run) is None
    assert fill(run, result).told == {}


def test_a_name_is_of_the_run_the_weights_the_config_and_the_beginning(result):
    name = audit_id(result)
    assert name.startswith(result.run_id)
    assert audit_id(replace(result, config={**result.config, "gates": [1], "tracking": {}})) == name
    assert audit_id(replace(result, config={**result.config, "seed": 8})) != name
    for field in ("model_fingerprint", "created"):
        assert audit_id(replace(result, provenance={**result.provenance, field: "other"})) != name


def test_a_link_leads_into_a_servers_pages():
    assert PLACE.url == "http://here/#/experiments/1/runs/parent"
    assert replace(PLACE, uri="sqlite:///mlflow.db").url == "sqlite:///mlflow.db#parent"
