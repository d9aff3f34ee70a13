"""Tests that a hostile run directory gives a report or one clear message, without outside files or a traceback."""

import contextlib
import copy
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from audit.records.work import ImageKey
from audit.storage.run_directory import AUDIT, RunDirectory, UnreadableRunError, image_name
from ray_jobs.cli.commands import app
from reports.export.audit_json import from_json, to_csv, to_json
from reports.export.junit import to_junit
from reports.export.markdown import to_markdown
from reports.export.model_card import to_model_card
from reports.figures.pictures import Pictures, read_pictures
from reports.html import render, write_report

PROMPTS = 2
VERSION_2 = Path(__file__).with_name("audit_v2.json")
HOSTILE_VALUES = (
    None, True, -1, 0, 0.5, 1e300, -1e-300, 10**18, "x", "", "9" * 30, "\x1b[2J", "<script>", "../../x",
    [], [1], {}, {"a": 1}, [[]],
)  # fmt: skip


@pytest.fixture
def small(result):
    """A small result as plain data."""
    data = json.loads(json.dumps(to_json(result)))
    kept = list(dict.fromkeys(row["prompt_id"] for row in data["results"]))[:PROMPTS]
    data["results"] = [row for row in data["results"] if row["prompt_id"] in kept]
    data["lens"]["features"] = data["lens"]["features"][:4]
    return data


@pytest.fixture
def run(tmp_path, small):
    run = RunDirectory(tmp_path / "run")
    run.path.mkdir()
    run.write_json(AUDIT, small)
    return run


def places(value, path=()):
    """Return every path in plain data; of a list only the first item."""
    yield path
    if isinstance(value, dict):
        for key, item in value.items():
            yield from places(item, (*path, key))
    elif value and isinstance(value, list):
        yield from places(value[0], (*path, 0))


def report_of(run):
    answer = CliRunner().invoke(app, ["report", str(run.path)])
    assert not isinstance(answer.exception, Exception) or isinstance(answer.exception, SystemExit), answer.exception
    return answer


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 100_000, "found hundreds of levels of nesting"),
        ("{}", "schema version None, expected 3 or older"),
        ('{"schema_version": 3}', "expected what audit.schema.json describes, found"),
        ('{"schema_version": 2}', "expected a result, found none (KeyError('results'))"),
        ('{"schema_version": 1}', "expected a result, found none (KeyError('results'))"),
        ('{"schema_version": 1, "results": 3}', "expected a result, found none"),
        ("\x00", "found invalid JSON"),
    ],
)
def test_an_invalid_result_is_reported_in_one_line(run, text, message):
    run.file(AUDIT).write_text(text)
    answer = report_of(run)
    assert answer.exit_code == 2
    assert message in answer.stderr
    assert len(answer.stderr.splitlines()) == 1


def test_control_characters_of_a_result_do_not_reach_the_terminal(run, small):
    run.write_json(AUDIT, small | {"verdicts": "\x1b[2J\u202e"})
    assert "\x1b" not in report_of(run).output


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.parametrize("old", [False, True])
@given(data=st.data())
def test_any_damage_gives_a_report_or_a_message(run, small, old, data):
    whole = json.loads(VERSION_2.read_text()) if old else small
    damaged = copy.deepcopy(whole)
    *way, last = data.draw(st.sampled_from([place for place in places(whole) if place]))
    holder = damaged
    for step in way:
        holder = holder[step]
    if data.draw(st.booleans()):
        holder[last] = data.draw(st.sampled_from(HOSTILE_VALUES))
    else:
        del holder[last]
    run.file(AUDIT).write_text(json.dumps(damaged))
    run.file("report.html").unlink(missing_ok=True)
    with contextlib.suppress(UnreadableRunError):  # any other exception is what this test is after
        write_report(run.path)
    assert not run.file("report.html").exists() or run.file("report.html").stat().st_size < 5_000_000


def test_an_old_file_that_names_thousands_of_groups_takes_no_memory(run):
    data = json.loads(VERSION_2.read_text())
    data["results"][0]["shares"] = {str(number): {"value": 0.0, "low": 0.0, "high": 0.1} for number in range(100_000)}
    run.write_json(AUDIT, data)
    assert "expected at most 100 groups of an attribute, found 100000" in report_of(run).stderr


def test_no_picture_from_outside_gets_into_a_report(run, small, tmp_path):
    prompt = small["results"][0]["prompt_id"]
    private = tmp_path / "private.webp"
    private.write_bytes(b"RIFF\0\0\0\0WEBP-private")
    pictures = run.path / "images" / prompt
    pictures.mkdir(parents=True)
    (pictures / "00000-baseline.webp").symlink_to(private)
    (pictures / "00001-baseline.webp").write_bytes(b"root:x:0:0 is no picture")
    (pictures / "00002-baseline.webp").write_bytes(b"RIFF\0\0\0\0WEBP-own")
    (run.path / "images" / "linked").symlink_to(tmp_path)
    (run.path / "lens").mkdir()
    (run.path / "lens" / "own.webp").write_bytes(b"RIFF\0\0\0\0WEBP-lens")
    keys = [ImageKey(prompt, index) for index in range(3)]
    found = read_pictures(run, keys, ["baseline", "x/../../../../private"], {"7": ["../../private.webp", "own.webp"]})
    assert {key.index: arms for key, arms in found.shown.items()} == {2: {"baseline": b"RIFF\0\0\0\0WEBP-own"}}
    assert found.features == {7: (b"RIFF\0\0\0\0WEBP-lens",)}
    for name in ("images/linked/private.webp", "../private.webp", str(private), "a\0b", image_name("../..", 0, "x")):
        assert run.read_picture(name) is None


def test_a_result_behind_a_link_is_refused(run, tmp_path, small):
    (tmp_path / "elsewhere.json").write_text(json.dumps(small))
    run.file(AUDIT).unlink()
    run.file(AUDIT).symlink_to(tmp_path / "elsewhere.json")
    answer = report_of(run)
    assert answer.exit_code == 2
    assert "found 'audit.json', which points outside it" in answer.stderr


def test_a_report_replaces_a_link_and_does_not_follow_it(run, tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("precious")
    run.file("report.html").symlink_to(victim)
    write_report(run.path)
    assert victim.read_text() == "precious"
    assert not run.file("report.html").is_symlink()


ATTACKS = (
    "<script>alert(1)</script>", "\"><img src=x onerror=alert(1)>", "' onload='alert(1)", "{{ 7007*7 }}{% raw %}",
    "</style><svg onload=x>",
    "javascript:alert(1)", "![x](http://evil.test/p.png)", "=HYPERLINK(\"http://evil.test\")", "@SUM(1)",
    "]]><x/>", "a\x00b\x1b[2J", "---\n- x",
)  # fmt: skip


@pytest.mark.parametrize("attack", ATTACKS)
def test_no_name_or_prompt_becomes_markup_formula_or_template(result, verdict, attack):
    """Occupation, template, group, attribute, arm, run id and gate all contain the attack."""
    data = json.dumps(to_json(replace(result, verdicts=(verdict("fail", gate="even", note="note of a gate"),))))
    for harmless in (
        "doctor",
        "female",
        "gender",
        result.run_id,
        "note of a gate",
        "even",
        "a face photo of {a} {occupation}",
    ):
        data = data.replace(json.dumps(harmless)[1:-1], json.dumps(attack)[1:-1])
    hostile = from_json(json.loads(data))
    tags = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag, attributes):
            tags.append((tag, attributes))

    html = render(hostile, Pictures({}, {}))
    Reader().feed(html)
    assert not [tag for tag, _ in tags if tag in ("script", "img", "iframe", "object", "link", "x")]
    assert not [name for _, found in tags for name, _ in found if name.startswith("on")]
    assert "49049" not in html
    summary = to_markdown(hostile)
    assert not re.findall(r"(?<!\\)<[a-z/]|(?<!\\)\]\(", summary)
    cells = [cell for line in to_csv(hostile).splitlines()[1:] for cell in line.split(",")]
    assert not [cell for cell in cells if cell.strip('" ')[:1] in ("=", "@")]
    ElementTree.fromstring(to_junit(hostile))
    front, end = to_model_card(hostile).removeprefix("---\n").rsplit("---\n", 1)
    assert list(yaml.safe_load(front)) == ["model-index"]
    assert not end
