"""Texts of verdicts, shared by the HTML report, JUnit XML and Markdown so that they agree."""

from __future__ import annotations

from audit.records.estimates import exact_percent
from audit.records.verdicts import Verdict
from reports.index.story import label, occupation_words
from reports.words.formats import number, with_interval

OVERALL = {
    "pass": "every gate passed",
    "warn": "every gate that can fail the audit passed; at least one warning gate did not",
    "inconclusive": "no gate failed, but at least one needs more evidence",
    "fail": "at least one gate failed",
    "none": "no gates configured",
}
"""Summary of all gates together."""

MARKS = {"pass": "✓", "warn": "!", "inconclusive": "?", "fail": "✕", "none": "○"}
"""A sign for each verdict, so that colour is not the only difference."""

TITLES = {"pass": "Pass", "warn": "Warning", "inconclusive": "Inconclusive", "fail": "Fail", "none": "No verdict"}


MEASURES = {
    "fairness_discrepancy": "fairness discrepancy",
    "share_difference": "share difference",
    "share_ratio": "share ratio",
    "four_fifths_ratio": "four-fifths ratio",
    "normalised_entropy": "normalised entropy",
    "total_variation": "total variation from the target",
    "kl_divergence": "Kullback–Leibler divergence",
    "jensen_shannon": "Jensen–Shannon divergence",
    "effective_groups": "effective number of groups",
    "unclassified_share": "share of unclassified images",
    "clip_i": "similarity to the originals (CLIP-I)",
    "dino_i": "similarity to the originals (DINO-I)",
    "lpips": "distance to the originals (LPIPS)",
    "psnr": "PSNR of changed images to the originals in dB",
    "kid": "kernel distance to the baseline",
    "prompt_shown": "share of images that show their occupation",
    "face_found": "share of images in which a face was found",
    "attribute_shift": "shift of shares",
}
"""What a gate limits, as a display name; a measure of one attribute is followed by the attribute's name."""


def subject(verdict: Verdict) -> str:
    """Describe what was judged: ``fairness discrepancy of gender, overall, arm difflens-gender``."""
    where = "overall" if verdict.prompt_id is None else occupation_words(verdict.prompt_id)
    return f"{measure_words(verdict.measure, verdict.attribute)}, {where}, arm {verdict.arm}"


def measure_words(measure: str, attribute: str | None) -> str:
    """Return the display name of a measure: ``share of female (gender)``, ``share ratio of skin tone``."""
    name, _, group = measure.partition(":")
    words = f"share of {label(group)}" if group else MEASURES.get(name, label(name))
    if attribute is None:
        return words
    return f"{words} ({label(attribute)})" if group else f"{words} of {label(attribute)}"


def limit(verdict: Verdict) -> str:
    """Describe the limit: ``at most 0.300``."""
    return f"at {'most' if verdict.side == 'max' else 'least'} {number(verdict.limit)}"


def found(verdict: Verdict) -> str:
    """Return the figure with the interval that decided: ``0.412 [0.377, 0.446] at 99.5 %``; a dash without a figure."""
    if verdict.value is None:
        return "–"
    if verdict.low is None or verdict.high is None:
        return number(verdict.value)
    return f"{with_interval(verdict.value, verdict.low, verdict.high)} at {exact_percent(verdict.confidence)}"


def sentence(verdict: Verdict) -> str:
    """Describe a verdict in one line."""
    note = f" ({verdict.note})" if verdict.note else ""
    return f"{subject(verdict)}: expected {limit(verdict)}, found {found(verdict)}, n = {verdict.n}{note}"
