"""Tests MLflow's own pages: a reviewer finds an audit, compares it with the previous one, and reads its report."""

import re
from dataclasses import replace

import pytest

from reports.html import write_report
from reports.tracking.log import log_audit

mlflow = pytest.importorskip("mlflow")
sync_api = pytest.importorskip("playwright.sync_api")
pytestmark = pytest.mark.browser
EXPERIMENT = "reviewed"
FIGURE = "baseline/age/fairness_discrepancy_rms"
PATIENCE_MS = 180_000
"""MLflow's pages load megabytes of scripts, which is slow on a busy machine."""
BEFORE, AFTER = "occupations-20260105", "occupations-20260112"


@pytest.fixture(scope="module")
def audits(mlflow_server, sample, store_run, tmp_path_factory):
    """Two weekly audits with their reports on a real server; returns their addresses."""
    shown = {}
    for name, day, seed in ((BEFORE, "05", 11), (AFTER, "12", 12)):
        result = sample(seed=seed)
        provenance = {**result.provenance, "created": f"2026-01-{day}T03:00:00+00:00"}
        run = store_run(tmp_path_factory.mktemp("weekly") / name, replace(result, run_id=name, provenance=provenance))
        write_report(run.path)
        shown[name] = log_audit(run, uri=mlflow_server.url, experiment=EXPERIMENT).tracked
    return shown


@pytest.fixture
def page(browser, mlflow_server):
    """A page that can reach only the server on loopback."""
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    context.set_default_timeout(PATIENCE_MS)
    context.route(lambda url: not url.startswith((mlflow_server.url, "blob:", "data:")), lambda route: route.abort())
    yield context.new_page()
    context.close()


def test_an_audit_is_found_and_its_report_is_read_in_place(page, mlflow_server, audits, tmp_path):
    experiment = f"{mlflow_server.url}/#/experiments/{audits[AFTER].experiment_id}"
    page.goto(f"{experiment}/runs")
    page.get_by_role("link", name=AFTER, exact=True).click()
    page.get_by_text("The model draws a nurse as female").wait_for()
    assert "\\" not in page.get_by_text("The model draws a nurse as female").text_content(), "marks of Markdown show"
    page.screenshot(path=tmp_path / "run.png")
    page.goto(f"{experiment}/runs/{audits[AFTER].run_id}/artifacts/report.html")
    report = page.frame_locator("iframe[sandbox]")
    assert report.locator("h1").text_content().startswith("The model draws")
    report.locator("nav a", has_text="Provenance").click()
    sync_api.expect(report.locator("#provenance")).to_be_in_viewport(timeout=PATIENCE_MS)  # scrolling takes a while
    page.screenshot(path=tmp_path / "report.png")


def test_two_audits_are_compared_figure_by_figure(page, mlflow_server, audits, tmp_path):
    page.goto(f"{mlflow_server.url}/#/experiments/{audits[AFTER].experiment_id}/runs")
    for name in (BEFORE, AFTER):
        page.get_by_role("row").filter(has=page.get_by_role("link", name=name, exact=True)).get_by_role(
            "checkbox"
        ).first.check()
    page.get_by_role("button", name="Compare", exact=True).click()
    page.get_by_text("Comparing 2 Runs from 1 Experiment").wait_for()
    page.get_by_text(FIGURE, exact=True).first.wait_for()
    page.get_by_text("Metrics", exact=True).last.scroll_into_view_if_needed()
    page.screenshot(path=tmp_path / "compare.png")
    client = mlflow.MlflowClient(tracking_uri=mlflow_server.url)
    values = {f"{client.get_run(audit.run_id).data.metrics[FIGURE]:.3f}" for audit in audits.values()}
    assert len(values) == 2
    for value in values:
        page.get_by_text(re.compile(rf"^{re.escape(value.rstrip('0'))}0*$")).first.wait_for()  # MLflow may drop zeros
