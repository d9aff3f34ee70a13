"""Tests that JUnit XML is well-formed for any names, and an inconclusive gate does not look like a passed one."""

from dataclasses import replace
from xml.etree import ElementTree

import pytest

from reports.export.junit import to_junit

HOSTILE = "a\x00b\x1b[31m<script>&\"']]>\ufffe\U0001f600"


def suite_of(result, *verdicts):
    return ElementTree.fromstring(to_junit(replace(result, verdicts=verdicts))).find("testsuite")


@pytest.mark.parametrize(
    ("kind", "level", "tag"),
    [
        ("pass", "fail", "system-out"),
        ("fail", "fail", "failure"),
        ("inconclusive", "fail", "error"),
        ("pass", "warn", "system-out"),
        ("fail", "warn", "system-out"),
        ("inconclusive", "warn", "system-out"),
    ],
)
def test_each_verdict_has_its_own_element(result, verdict, kind, level, tag):
    suite = suite_of(result, verdict(kind, level=level))
    (case,) = suite.findall("testcase")
    assert [child.tag for child in case] == [tag]
    assert (case.get("name"), case.get("classname")) == ("even [doctor]", "gates.baseline")
    counts = {"tests": "1", "failures": str(int(tag == "failure")), "errors": str(int(tag == "error"))}
    assert {name: suite.get(name) for name in counts} == counts


def test_a_failure_contains_the_expected_and_the_found_value(result, verdict):
    (failure,) = suite_of(result, verdict("fail", note="few faces")).iter("failure")
    assert failure.get("message") == (
        "share of female (gender), doctor, arm baseline: expected at least 0.400, "
        "found 0.250 [0.125, 0.375] at 97.5\xa0%, n = 63 (few faces)"
    )


def test_a_warning_is_reported_as_a_warning(result, verdict):
    (case,) = suite_of(result, verdict("fail", level="warn")).findall("testcase")
    assert case.find("system-out").text.startswith("warning, fail: ")


def test_hostile_names_stay_text(result, verdict):
    hostile = verdict("fail", gate=HOSTILE, arm=HOSTILE, prompt_id=HOSTILE, note=HOSTILE)
    text = to_junit(replace(result, run_id=HOSTILE, verdicts=(hostile,)))
    root = ElementTree.fromstring(text)
    shown = HOSTILE.replace("\x00", "\ufffd").replace("\x1b", "\ufffd").replace("\ufffe", "\ufffd")
    assert root.find("testsuite/testcase").get("name") == f"{shown} [{shown}]"
    assert not [element for element in root.iter() if element.tag == "script"]


def test_without_gates_the_suite_is_empty(result):
    suite = suite_of(result)
    assert (suite.get("tests"), suite.findall("testcase")) == ("0", [])
    assert "no gates configured" in suite.find("properties/property[@name='verdict']").get("value")
