"""Tests that the tutorials on the first audit, its report and its result in Python work as written."""

import pytest

from tests.tutorial import walk


@pytest.mark.timeout(1800)  # it takes minutes if other work fills the cores
def test_a_first_audit_is_run_read_and_drawn(tmp_path, monkeypatch):
    walk("first-audit", tmp_path, monkeypatch)
    assert (tmp_path / "runs" / "first" / "report.html").is_file()
    names = walk("read-a-report", tmp_path, monkeypatch)
    assert names["frames"]["verdicts"]["gate"].tolist() == ["balanced"]
    names = walk("notebook", tmp_path, monkeypatch)
    assert names["shares"].shape == (2, 2)
    assert len(names["images"]) == 128
    assert (tmp_path / "shares.png").stat().st_size > 5_000


@pytest.mark.timeout(1800)
def test_a_list_of_names_is_ranked_and_its_ends_are_audited(tmp_path, monkeypatch):
    walk("explore-then-audit", tmp_path, monkeypatch)
    assert (tmp_path / "screened.yaml").is_file()
    [report] = (tmp_path / "runs").glob("screen-screened-*/report.html")
    assert report.stat().st_size > 10_000
