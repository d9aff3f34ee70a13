"""Results of commands: as tables on a terminal, and as plain data for ``--json``."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from math import isfinite
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from audit.records.estimates import Estimate, percent
from audit.records.verdicts import Verdict

if TYPE_CHECKING:
    from audit.measure.shares.classifier_error import ConfusionMatrix
    from audit.preflight.optional.command_work import CommandWork
    from audit.preflight.work import Work
    from ray_jobs.cli.doctor import Check
    from ray_jobs.run.audit import AuditOutcome
    from reports.index.story import Story

PROMPTS_SHOWN = 40
"""Longest list of prompts on a terminal; ``--json`` prints all."""
_LOG_WIDTH = 120


def work_as_data(work: Work, commands: Sequence[CommandWork] = ()) -> dict[str, Any]:
    """Return the plan as plain data, with what other commands would sample if there are any."""
    others = {"commands": [asdict(one) for one in commands]} if commands else {}
    totals = {"images": work.images, "shards": work.shards}
    return asdict(work) | {"arms": list(work.arms), "prompts": [asdict(p) for p in work.prompts]} | totals | others


def show_work(work: Work, commands: Sequence[CommandWork] = ()) -> None:
    """Print the plan: one line per prompt, the totals, and one line for each other command that would sample images."""
    table = Table("prompt", "text", box=None, header_style="bold", pad_edge=False)
    for column in ("images per arm", "shards"):
        table.add_column(column, justify="right")
    for prompt in work.prompts[:PROMPTS_SHOWN]:
        table.add_row(
            escape(prompt.id), escape(prompt.text), f"{work.images_of(prompt):,}", f"{work.shards_of(prompt):,}"
        )
    console = open_console()
    console.print(table)
    if len(work.prompts) > PROMPTS_SHOWN:
        console.print(f"… and {len(work.prompts) - PROMPTS_SHOWN:,} more prompts (--json lists all)")
    console.print(f"\n{work.summary}", highlight=False, markup=False)
    if work.unet_calls:
        for line in work.preparation:
            console.print(line, highlight=False, markup=False)
        console.print(
            f"{work.unet_calls:,} denoiser calls (one image, one step, one half of the guidance)", highlight=False
        )
    for one in commands:
        console.print(f"Not in these figures: {one.summary}", highlight=False, markup=False)


def show_checks(checks: Sequence[Check]) -> None:
    """Print the doctor's checks, with a remedy for each failure, and the commands that get what is missing."""
    table = Table("", "check", "found", box=None, header_style="bold", pad_edge=False)
    for check in checks:
        mark = (
            Text("ok", "green") if check.ok else Text("MISSING", "bold red") if check.needed else Text("no", "yellow")
        )
        table.add_row(mark, escape(check.name), escape(check.detail))
        if not check.ok and check.remedy:
            table.add_row("", "", Text(f"→ {check.remedy}", "bold"))
    open_console().print(table)
    commands = dict.fromkeys(check.command for check in checks if not check.ok and check.command)
    if commands:
        # Outside of the table, so that no line is wrapped and each can be copied.
        typer.echo("\n".join(["", "Commands that get what is missing:", *(f"  {command}" for command in commands)]))


def confusions_as_data(matrices: Mapping[str, ConfusionMatrix]) -> dict[str, Any]:
    """Return the quality of a judge per attribute as plain data; an infinite condition number becomes null."""
    return {
        attribute: {
            "groups": list(matrix.groups),
            "accuracy": asdict(matrix.accuracy),
            "recall": {group: asdict(recall) for group, recall in matrix.recall.items()},
            "condition_number": matrix.condition_number if isfinite(matrix.condition_number) else None,
            "correctable": matrix.correctable,
        }
        for attribute, matrix in matrices.items()
    }


def show_confusions(matrices: Mapping[str, ConfusionMatrix]) -> None:
    """Print a judge's accuracy per attribute and group, and whether its errors can be corrected."""
    table = Table("", box=None, header_style="bold", pad_edge=False)
    for column in ("labelled", "accuracy", "95 % interval", "condition number"):
        table.add_column(column, justify="right")
    for attribute, matrix in matrices.items():
        table.add_row(*_accuracy(Text(attribute, "bold"), matrix.accuracy), f"{matrix.condition_number:.3g}")
        for group, recall in matrix.recall.items():
            table.add_row(*_accuracy(Text(f"  {group}"), recall))
    console = open_console()
    console.print(table)
    for attribute, matrix in matrices.items():
        if not matrix.correctable:
            warning = f"{attribute} cannot be corrected: the judge confuses its groups too often"
            console.print(warning, style="bold red", markup=False)


def _accuracy(name: Text, share: Estimate) -> tuple[Text, str, str, str]:
    return name, f"{share.n:,}", percent(share.value, 1), f"{percent(share.low, 1)} to {percent(share.high, 1)}"


def outcome_as_data(outcome: AuditOutcome) -> dict[str, Any]:
    """Return the result of an audit as plain data; ``audit.json`` in the run directory has everything."""
    from audit.results.gates.verdicts import overall_verdict
    from reports.export.audit_json import to_json

    data = to_json(outcome.result)
    return {
        "run_id": outcome.result.run_id,
        "run_path": str(outcome.run_path),
        "report": str(outcome.report),
        "tracking_url": outcome.tracking_url,
        "seconds": round(outcome.seconds, 1),
        "incomplete": list(outcome.incomplete),
        "unmade": outcome.unmade,
        "verdict": overall_verdict(outcome.result.verdicts),
        **{name: data[name] for name in ("verdicts", "overall", "quality")},
    }


def show_outcome(outcome: AuditOutcome, again: str) -> None:
    """Print the result of an audit: headline, tables, and the locations of its files.

    Args:
        outcome: The audit.
        again: The command that resumes it, printed if shards are missing.
    """
    from reports.index.story import story_of
    from reports.words.closed_models import audited, is_closed
    from reports.words.headline import headline

    console = open_console()
    story = story_of(outcome.result)
    found = headline(story)
    console.print()
    console.print(found.title, style="bold", markup=False, highlight=False)
    console.print(found.lead, markup=False, highlight=False)
    console.print()
    console.print(_discrepancies(story))
    _show_outside(console, story)
    show_edits(story, console)
    if outcome.result.verdicts:
        console.print()
        show_verdicts(outcome.result.verdicts, console)
    console.print()
    show_protocol(outcome.result.provenance, console)
    closed = audited(story) if is_closed(outcome.result.config) else None
    places = {"Audited": closed, "Report": outcome.report, "Run": outcome.run_path, "MLflow": outcome.tracking_url}
    for name, place in places.items():
        if place:
            console.print(f"{name:<7} {place}", markup=False, highlight=False, soft_wrap=True)
    console.print(f"{'Time':<7} {outcome.seconds:.0f} s", highlight=False)
    _show_missing(outcome, again, console)


def show_protocol(provenance: Mapping[str, Any], console: Console) -> None:
    """Print whether the run kept to its protocol, and every departure."""
    from reports.figures.evidence.protocol import protocol_section

    found = protocol_section(provenance)
    if found is not None:
        console.print(f"{found.title}. {found.text}", markup=False, highlight=False, soft_wrap=True)
        for what, registered, now in found.departures.rows:
            console.print(f"  {what}: {registered} → {now}", markup=False, highlight=False, soft_wrap=True)


def _show_missing(outcome: AuditOutcome, again: str, console: Console) -> None:
    """Print what is missing, and how to get it."""
    if outcome.unmade is not None:
        message = f"{percent(outcome.unmade, 1)} of the images could not be made, more than workers.error_budget allows"
        console.print(message, style="bold red", markup=False, soft_wrap=True)
    if outcome.incomplete:
        count = len(outcome.incomplete)
        named = f"{', '.join(outcome.incomplete[:5])}{' …' * (count > 5)}"
        shards = f"{count} shard{'s are' if count > 1 else ' is'} missing: {named}; failures.json gives the causes"
        console.print(f"{shards}\nTo retry, run: {again}", style="bold red", markup=False, soft_wrap=True)


def _show_outside(console: Console, story: Story) -> None:
    """Print the images outside the audited groups, per attribute."""
    from reports.words.outside_groups import outside_lines

    for line in outside_lines(story):
        console.print(line, style="yellow", markup=False, highlight=False)


def show_edits(story: Story, console: Console) -> None:
    """Print the quality after the interventions, uncontrolled attributes, and strengths without trial images."""
    from reports.figures.steering import steering_notes

    if len(story.arms) > 1 or any(quality.fid_to_reference for quality in story.result.quality):
        console.print()
        console.print(_costs(story))
    for note in steering_notes(story):
        console.print()
        console.print(note, style="yellow", markup=False, highlight=False)


def _discrepancies(story: Story) -> Table:
    """Fairness discrepancy of every attribute, before and after each intervention; 0 is balanced.

    Counted shares, and as ``soft`` the judge's mean probabilities.
    """
    from reports.index.lookups import mean_over_prompts, worst_prompt
    from reports.index.story import label
    from reports.words.formats import THESE, figure_text, number

    table = Table("Fairness discrepancy", box=None, header_style="bold", pad_edge=False)
    table.caption = f"95 % intervals about {THESE}; that of the worst occupation accounts for its selection"
    for arm in story.arms:
        table.add_column(escape(arm), justify="right")
        table.add_column("soft", justify="right")
        table.add_column("worst occupation")
    for attribute in story.attributes:
        cells = [escape(label(attribute.name))]
        for arm in story.arms:
            worst = worst_prompt(story, attribute.name, arm)
            mean = mean_over_prompts(story, attribute.name, arm)
            cells += [figure_text(mean), number(mean.soft)] if mean else ["–", "–"]
            cells.append(f"{figure_text(worst)} {escape(story.occupation(worst.prompt_id))}" if worst else "–")
        table.add_row(*cells)
    return table


def show_verdicts(verdicts: Sequence[Verdict], console: Console) -> None:
    """Print every gate with verdict, figure and limit."""
    from reports.words.verdicts import found, limit, subject

    table = Table("Gate", "verdict", "figure", "limit", "found", box=None, header_style="bold", pad_edge=False)
    colours = {"pass": "green", "fail": "bold red", "inconclusive": "yellow"}
    for verdict in verdicts[:PROMPTS_SHOWN]:
        table.add_row(
            escape(verdict.gate),
            Text(verdict.verdict, colours[verdict.verdict]),
            *(escape(text) for text in (subject(verdict), limit(verdict), found(verdict))),
        )
    console.print(table)


def _costs(story: Story) -> Table:
    """Quality of each arm: one row per figure, since intervals are wide."""
    from reports.index.lookups import quality_figures
    from reports.words.formats import quality_text

    table = Table("Quality", box=None, header_style="bold", pad_edge=False)
    for quality in story.quality.values():
        table.add_column(escape(quality.arm), justify="right")
    for name, title in quality_figures(story).items():
        table.add_row(title, *(escape(quality_text(quality, name)) for quality in story.quality.values()))
    shown = (quality.prompt_shown for quality in story.quality.values())
    table.add_row("Occupation shown", *(percent(found.value) if found else "–" for found in shown))
    return table


def open_console() -> Console:
    """Write to standard output, with a fixed width if it is not a terminal."""
    return Console(width=None if sys.stdout.isatty() else _LOG_WIDTH)
