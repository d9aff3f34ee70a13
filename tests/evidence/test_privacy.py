"""Tests that home directories and secrets are taken out of plain data, and nothing else is."""

from pathlib import Path

import pytest

from audit.evidence.privacy import leaks, private_tree


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("/home/alice/models/sd", "~/models/sd"),
        ("/home/alice", "~"),
        ("file:///home/alice/x", "file://~/x"),
        ("read '/Users/Ann B/x'", "read '~ B/x'"),
        (r"C:\Users\ann\models", r"~\models"),
        ("/root/models", "~/models"),
        ("/root", "~"),
        ("/rooted/models", "/rooted/models"),
        ("/data/root/models", "/data/root/models"),
        ("https://example.test/home/page", "https://example.test/home/page"),
        ("runwayml/stable-diffusion-v1-5", "runwayml/stable-diffusion-v1-5"),
    ],
)
def test_a_home_directory_becomes_a_tilde_and_other_paths_stay(text, shown):
    assert private_tree(text) == shown
    assert private_tree(shown) == shown


def test_the_home_of_this_process_is_found_wherever_it_is(monkeypatch):
    monkeypatch.setattr(Path, "home", lambda: Path("/srv/people/ann"))
    assert private_tree({"a": ["/srv/people/ann/x", "/srv/people/anna/x"]}) == {"a": ["~/x", "/srv/people/anna/x"]}


def test_numbers_and_missing_values_stay(monkeypatch):
    monkeypatch.setenv("A_TOKEN", "secret-secret")
    assert private_tree({"a": 1, "b": None, "c": (True, "x secret-secret")}) == {
        "a": 1,
        "b": None,
        "c": [True, "x ***"],
    }


def test_a_file_with_the_value_of_a_secret_variable_is_named(monkeypatch):
    monkeypatch.setenv("A_TOKEN", "secret-secret")
    assert leaks({"a": b"x secret-secret y", "b": b"nothing"}) == ("a",)
