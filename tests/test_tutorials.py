"""Tests that tutorials without Ray work as written; tests/ray_jobs/test_tutorials.py tests the others."""

import pytest

from tests.tutorial import blocks_of, walk

NEED_RAY = ("run", "dissect", "submit", "schedule")


def test_your_own_model_is_validated_and_planned_as_the_page_says(tmp_path, monkeypatch):
    walk("your-own-model", tmp_path, monkeypatch, skipped=NEED_RAY)


def test_a_method_of_your_own_is_neutral_at_strength_0_and_steers_each_image_by_itself(tmp_path, monkeypatch):
    names = walk("add-a-method", tmp_path, monkeypatch)
    assert {"SuppressEdit", "lens", "generator"} <= set(names)


def test_a_page_that_shows_what_is_not_printed_fails(tmp_path, monkeypatch):
    (tmp_path / "docs" / "tutorials").mkdir(parents=True)
    page = tmp_path / "docs" / "tutorials" / "wrong.md"
    monkeypatch.setattr("tests.tutorial.ROOT", tmp_path)
    page.write_text("```bash\necho one  line\n```\n\n```text\none line\n```\n")
    walk("wrong", tmp_path, monkeypatch)
    page.write_text(page.read_text().replace("```text\none", "```text\nanother"))
    with pytest.raises(AssertionError, match="printed instead"):
        walk("wrong", tmp_path, monkeypatch)


def test_a_command_that_fails_fails_the_page(tmp_path, monkeypatch):
    (tmp_path / "docs" / "tutorials").mkdir(parents=True)
    monkeypatch.setattr("tests.tutorial.ROOT", tmp_path)
    (tmp_path / "docs" / "tutorials" / "failing.md").write_text("```bash\nfalse\n```\n")
    with pytest.raises(AssertionError):
        walk("failing", tmp_path, monkeypatch)


@pytest.mark.parametrize(
    "name", ["first-audit", "your-own-model", "read-a-report", "notebook", "add-a-method", "explore-then-audit"]
)
def test_every_tutorial_has_steps_that_are_walked(name):
    assert any(block.language in ("bash", "python") for block in blocks_of(name))
