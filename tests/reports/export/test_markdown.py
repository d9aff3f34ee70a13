"""Tests that the Markdown summary has all verdicts and groups, and no name in it becomes markup."""

from dataclasses import replace

import pytest

from reports.export.markdown import escaped, to_markdown


def tables(text):
    """The tables of a Markdown text as lists of rows of cells."""
    found = []
    for block in text.split("\n\n"):
        lines = [line for line in block.splitlines() if line.startswith("|")]
        if lines:
            found.append([[cell.strip() for cell in line.replace("\\|", "\0").strip("|").split("|")] for line in lines])
    return found


def test_the_verdict_comes_first_and_every_gate_has_a_line(result, verdict):
    text = to_markdown(replace(result, verdicts=(verdict("fail"), verdict("pass", level="warn"))))
    assert text.splitlines()[2] == "**✕ fail**: at least one gate failed."
    gates = tables(text)[0]
    assert [row[0] for row in gates[2:]] == ["✕ fail", "✓ pass \\(warning only\\)"]
    assert gates[2][2:5] == [
        escaped("share of female (gender), doctor, arm baseline"),
        "at least 0.400",
        escaped("0.250 [0.125, 0.375] at 97.5 %"),
    ]


def test_every_group_of_every_prompt_has_its_interval(result):
    text = to_markdown(result)
    assert "no gates configured" in text
    rows = next(table for table in tables(text) if table[0][0] == "perceived")[2:]
    assert len(rows) == len(result.results) + len(result.overall)
    row = result.results[0]
    group, share = next(iter(row.shares.items()))
    expected = escaped(f"{group} {100 * share.value:.0f}\xa0% [{100 * share.low:.0f}, {100 * share.high:.0f}]")
    (line,) = [r for r in rows if r[:3] == ["gender", "baseline", escaped(row.prompt_id)]]
    assert expected in line[4]


@pytest.mark.parametrize(
    "name", ["a|b", "<img src=x>", "[x](http://e)", "`c`", "**b**", "a\nb", "# t", "@team", "a\\|b"]
)
def test_no_name_becomes_markup(result, verdict, name):
    text = to_markdown(replace(result, verdicts=(verdict("fail", gate=name, prompt_id=name, note=name),)))
    columns, rule, row = tables(text)[0]
    assert len(columns) == len(rule) == len(row) == 7
    assert f"| {name}" not in text


def test_a_mention_notifies_no_user():
    assert "@" not in escaped("@team")


def test_a_second_opinion_has_its_table_and_its_worth(seconded, result):
    text = to_markdown(seconded)
    (table,) = [table for table in tables(text) if table[0][0] == "Second judge"]
    assert [row[:3] for row in table[2:]] == [
        ["clip", "baseline", "gender"],
        ["clip", "baseline", "age"],
        ["clip", "difflens\\-gender", "gender"],
    ]
    assert "Findings that a second judge contradicts: 2." in text
    assert "Second judge" not in to_markdown(result)
