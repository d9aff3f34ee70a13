"""Verdicts as JUnit XML, for CI systems that show test results: one test case per gate and prompt.

A failed gate is a ``failure``. An inconclusive gate is an ``error``: most systems show ``skipped`` in green, and an
inconclusive audit must not look like a passed one. A gate of level ``warn`` never breaks a build; its result is in
``system-out``.
"""

from __future__ import annotations

import re
from collections import Counter
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from audit.records.result import AuditResult
from audit.records.verdicts import Verdict
from audit.results.gates.verdicts import overall_verdict
from reports.words.verdicts import OVERALL, sentence

_NOT_IN_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_TAGS = {"fail": "failure", "inconclusive": "error"}


def to_junit(result: AuditResult) -> str:
    """Return the verdicts as one JUnit test suite; it is empty if no gates are configured.

    Characters that are not allowed in XML 1.0 are replaced by ``�``.
    """
    tags = Counter(_tag(verdict) for verdict in result.verdicts)
    counts = {"tests": len(result.verdicts), "failures": tags["failure"], "errors": tags["error"], "skipped": 0}
    numbers = {name: str(count) for name, count in counts.items()}
    root = Element("testsuites", numbers)
    suite = SubElement(root, "testsuite", {"name": _text(f"difflens-audit {result.run_id}"), **numbers})
    properties = SubElement(suite, "properties")
    for name, value in (("run_id", result.run_id), ("verdict", OVERALL[overall_verdict(result.verdicts)])):
        SubElement(properties, "property", {"name": name, "value": _text(value)})
    for verdict in result.verdicts:
        _test_case(suite, verdict)
    indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{tostring(root, encoding="unicode")}\n'


def _tag(verdict: Verdict) -> str | None:
    """Return the element for a verdict that breaks a build, None for any other verdict."""
    return _TAGS.get(verdict.verdict) if verdict.level == "fail" else None


def _test_case(suite: Element, verdict: Verdict) -> None:
    name = verdict.gate if verdict.prompt_id is None else f"{verdict.gate} [{verdict.prompt_id}]"
    case = SubElement(suite, "testcase", {"classname": _text(f"gates.{verdict.arm}"), "name": _text(name)})
    tag, text = _tag(verdict), _text(sentence(verdict))
    if tag is not None:
        SubElement(case, tag, {"type": verdict.verdict, "message": text})
    else:
        warning = verdict.level == "warn" and verdict.verdict != "pass"
        SubElement(case, "system-out").text = f"warning, {verdict.verdict}: {text}" if warning else text


def _text(text: str) -> str:
    return _NOT_IN_XML.sub("\N{REPLACEMENT CHARACTER}", text)
