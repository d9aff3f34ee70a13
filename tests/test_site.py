"""Tests that the documentation site builds without warnings, and its reference pages match the program."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from audit.config.schema import config_schema
from audit.config.sections import ModelConfig
from audit.mitigate.registry import METHODS
from audit.models.source import model_fingerprint
from audit.results.replay.outcome import REPLAY
from audit.storage.run_directory import RunDirectory
from docs_site.__main__ import GENERATED, MADE_PAGES, assemble
from docs_site.cli_page import cli_page
from docs_site.config_page import config_page
from docs_site.picture import PICTURE, draw, made_from
from docs_site.result_page import result_page
from ray_jobs.cli.commands import app
from reports.frames import COLUMNS

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """The inputs of `make docs`, copied to a separate folder."""
    folder = tmp_path_factory.mktemp("project")
    assemble(folder / "build" / "docs")
    shutil.copy(ROOT / "mkdocs.yml", folder)
    for package in ("audit", "reports"):
        (folder / package).symlink_to(ROOT / package)
    return folder


def build(folder):
    command = [sys.executable, "-m", "zensical", "build", "--strict"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)


def pages_of(entry):
    if isinstance(entry, str):
        return [entry]
    return [page for part in (entry.values() if isinstance(entry, dict) else entry) for page in pages_of(part)]


def test_the_site_builds_without_a_warning_and_a_broken_link_ends_the_build(project):
    pytest.importorskip("zensical")
    done = build(project)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "reports.frames.read_result" in (project / "build/site/reference/python/index.html").read_text()
    broken = project / "build" / "docs" / "index.md"
    text = broken.read_text()
    broken.write_text(text + "\n[nowhere](nowhere.md)\n")
    assert build(project).returncode != 0
    broken.write_text(text)


def test_the_picture_of_a_report_is_of_a_replayed_audit_of_the_model_that_ships():
    told = made_from(PICTURE)
    assert told["verdict"] == "identical"
    assert told["model"] == model_fingerprint(ModelConfig())


@pytest.mark.parametrize("outcome", [None, {"verdict": "different"}])
def test_a_run_that_was_not_made_again_to_identical_rows_gives_no_picture(tmp_path, outcome):
    run = RunDirectory(tmp_path / "run")
    if outcome is not None:
        run.write_json(REPLAY, outcome)
    with pytest.raises(ValueError, match=r"expected a replay with identical rows, found (no replay.json|different)"):
        draw(run, tmp_path / "report.png")
    assert not (tmp_path / "report.png").exists()


def test_every_method_has_its_own_section_on_the_page_of_config_keys():
    headings = [line for line in config_page().splitlines() if line.startswith("## ")]
    assert len(headings) == len(set(headings))
    methods = [heading for heading in headings if heading.startswith("## mitigations[], method ")]
    assert {heading.split()[-1] for heading in methods} == {*METHODS, "joint"}


def test_the_navigation_names_every_page_but_the_decisions(project):
    named = pages_of(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"])
    there = {str(page.relative_to(project / "build/docs")) for page in (project / "build/docs").rglob("*.md")}
    assert len(named) == len(set(named))
    assert {page for page in there if not page.startswith("decisions/0")} == set(named)


def test_no_generated_page_is_committed():
    assert [name for name in MADE_PAGES if (ROOT / "docs" / name).exists()] == []
    assert set(GENERATED) <= set(MADE_PAGES)


def test_the_command_line_page_has_every_command():
    page = cli_page()
    names = [command.callback.__name__ for command in app.registered_commands]
    assert len(names) > 10
    assert [name for name in names if f"\n## {name}\n" not in page] == []
    assert "`--gate-exit-code` `N`" in page


def test_the_config_page_has_every_key_of_every_section():
    page = config_page()
    schema = config_schema()
    keys = {key for part in (schema, *schema["$defs"].values()) for key in part["properties"]}
    assert {key for key in keys if f"{key}`" not in page} == set()
    assert "| `sampling.steps` | integer, ≥ 1" in page
    assert "| `name` | text | required |" in page


def test_the_result_page_has_every_field():
    page = result_page()
    assert "### promptResult" in page
    assert "| `by_<judge>_<attribute>_<group>` |" in page
    assert "| `fairness_discrepancy` |" in page


def test_the_page_on_python_documents_every_column(project):
    page = (project / "build/docs/reference/python.md").read_text()
    assert {column for columns in COLUMNS.values() for column in columns if f"| `{column}` |" not in page} == set()


def test_every_decision_is_listed(project):
    listed = (project / "build/docs/decisions/index.md").read_text()
    assert all(page.name in listed for page in (ROOT / "docs" / "decisions").glob("*.md"))
