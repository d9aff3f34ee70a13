"""Markdown summary of an audit, for pull requests and release notes: verdicts, shares, quality."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from audit.records.result import POPULATION, AuditResult
from audit.records.work import Status
from audit.results.gates.verdicts import overall_verdict
from reports.figures.arms.clip_d import ASSUMED, clip_d_table, clip_d_texts
from reports.figures.arms.if_needed import if_needed_notes
from reports.figures.evidence_tables import agreement_table, contradicted
from reports.figures.steering import steering_notes
from reports.index.lookups import quality_figures, status_counts
from reports.index.story import Story, label, story_of
from reports.words.closed_models import is_closed, method_sentence
from reports.words.formats import figure_text, number, quality_text, share_text
from reports.words.headline import headline
from reports.words.outside_groups import outside_lines
from reports.words.sampling import sampling_words
from reports.words.targets import target_lines
from reports.words.verdicts import MARKS, OVERALL, found, limit, subject

# A backslash escapes the older marks in every Markdown dialect. It escapes the others in CommonMark only, and MLflow
# would show the backslash, so these become entities. Full stops inside a line and a colon before a space are safe.
_MARKED = re.compile(r"([\\`*_{}\[\]()#+!|~-])")
_NOT_EVERYWHERE = re.compile(r"[<>&$@=^\"']|:(?=\S)")


def to_markdown(result: AuditResult) -> str:
    """Return a Markdown summary of one audit; every text in it is escaped.

    Raises:
        ValueError: If the result has no rows.
    """
    story = story_of(result)
    sections = (
        _top(story),
        _gates(result),
        _groups(story),
        _quality(story),
        _clip_d(story),
        _steering(story),
        _agreement(story),
    )
    return "\n\n".join(filter(None, (*sections, _foot(story)))) + "\n"


def escaped(text: str) -> str:
    """Return ``text`` as one line of Markdown that displays literally and cannot mention a user."""
    line = "".join(character if character.isprintable() else " " for character in text)
    known = _NOT_EVERYWHERE.sub(lambda match: f"\0{ord(match[0])};", line)  # the line holds no \0: it is not printable
    return _MARKED.sub(r"\\\1", known).replace("\0", "&#").replace("&#64;", "&#64;\N{WORD JOINER}")


def _top(story: Story) -> str:
    words = headline(story)
    verdict = overall_verdict(story.result.verdicts)
    answer = f"**{MARKS[verdict]} {verdict}**: {OVERALL[verdict]}."
    return f"## Bias audit {escaped(story.result.run_id)}\n\n{answer}\n\n{escaped(words.title)} {escaped(words.lead)}"


def _gates(result: AuditResult) -> str:
    rows = [
        (
            f"{MARKS[verdict.verdict]} {verdict.verdict}{' (warning only)' if verdict.level == 'warn' else ''}",
            verdict.gate,
            subject(verdict),
            limit(verdict),
            found(verdict),
            str(verdict.n),
            verdict.note,
        )
        for verdict in result.verdicts
    ]
    return _section("Gates", ("verdict", "gate", "figure", "limit", "found", "n", "note"), rows) if rows else ""


def _groups(story: Story) -> str:
    rows = [
        (
            label(row.attribute),
            row.arm,
            "all prompts pooled" if row.prompt_id is None else story.occupation(row.prompt_id),
            str(row.n),
            ", ".join(f"{group} {share_text(share)}" for group, share in row.shares.items())
            or "nothing could be classified",
            figure_text(row.fairness_discrepancy),
            number(row.fairness_discrepancy.soft if row.fairness_discrepancy else None),
        )
        for row in (*story.result.overall, *story.result.results)
    ]
    columns = (
        "perceived",
        "arm",
        "prompt",
        "n",
        "shares [95 % interval]",
        "fairness discrepancy, counted",
        "soft discrepancy",
    )
    return _section("Perceived groups", columns, rows)


def _quality(story: Story) -> str:
    figures = quality_figures(story)
    rows = [
        (row.arm, *(quality_text(row, name) for name in figures), _unclassified(story, row.arm))
        for row in story.result.quality
    ]
    columns = ("arm", *figures.values(), "unclassified images")
    outside = "".join(f"\n\n{escaped(line)}" for line in outside_lines(story))
    return _section("Quality", columns, rows) + outside if rows else ""


def _clip_d(story: Story) -> str:
    table = clip_d_table(story)
    if not table.rows:
        return ""
    return f"{_section('CLIP-D', table.columns, table.rows)}\n\n{escaped(ASSUMED)} {escaped(clip_d_texts(story))}"


def _agreement(story: Story) -> str:
    table = agreement_table(story)
    if table is None:
        return ""
    marked = contradicted(story)
    words = f"Findings that a second judge contradicts: {marked}. " if marked else ""
    note = f"{words}Second judges do not change a verdict. Agreement is not accuracy."
    return f"{_section('Second opinion', table.columns, table.rows)}\n\n{note}"


def _unclassified(story: Story, arm: str) -> str:
    """Count the images without a group: one count if all attributes have the same, else one per attribute."""
    counts = {key[2]: status_counts(story, key[2], arm) for key in story.rows}
    words = {
        name: f"{sum(found.values()) - found.get(Status.CLASSIFIED, 0)} of {sum(found.values())}"
        for name, found in counts.items()
    }
    alike = len(set(words.values())) == 1
    return next(iter(words.values())) if alike else ", ".join(f"{label(name)} {count}" for name, count in words.items())


def _steering(story: Story) -> str:
    return "\n".join(f"- {escaped(note)}" for note in (*if_needed_notes(story), *steering_notes(story)))


def _foot(story: Story) -> str:
    source = (story.result.config.get("judge") or {}).get("source", "not recorded")
    closed = f"{escaped(method_sentence(story))} " if is_closed(story.result.config) else ""
    return (
        f"{closed}Groups are perceived presentation as the judge {escaped(str(source))} sees it, never identity. All "
        f"verdicts are jointly correct with 95 % confidence. {escaped(POPULATION)} "
        f"{escaped(' '.join(target_lines(story)))}"
    ) + (f"\n\n{escaped(sampling_words(staged))}" if (staged := story.result.two_stage) else "")


def _section(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [_line(columns), _line(("---",) * len(columns), escape=False), *map(_line, rows)]
    return "\n".join((f"### {title}", "", *lines))


def _line(cells: Iterable[str], *, escape: bool = True) -> str:
    return f"| {' | '.join(escaped(cell) if escape else cell for cell in cells)} |"
