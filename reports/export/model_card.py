"""Model-card snippet: the audit's figures as ``model-index`` metadata of the Hugging Face hub.

The format follows the hub's model card specification: a list of models, each with the results of a task on a dataset.
Here the task is ``text-to-image``, and the "dataset" is the audit, identified by its config.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePath
from typing import Any

import yaml

from audit.config.fields import GENERATED_HERE
from audit.records.attributes import TargetSource
from audit.records.groups import GroupResult
from audit.records.result import AuditResult
from audit.records.verdicts import Verdict
from audit.records.work import BASELINE
from audit.results.gates.verdicts import overall_verdict
from audit.storage.outside.safe_text import redact
from reports.index.settings import setting
from reports.words.closed_models import model_name
from reports.words.verdicts import subject


def to_model_card(result: AuditResult) -> str:
    """Return YAML front matter, between ``---`` lines, with the audit's overall figures and verdicts.

    Only figures of the baseline arm are included: a card describes the published model, without an intervention.
    """
    source = setting(result.config, "model", "source")
    entry = {
        "task": {"type": "text-to-image", "name": "Text-to-Image"},
        "dataset": {
            "type": "difflens-audit",
            "name": redact(f"difflens-audit {setting(result.config, 'name')}"),
            "config": result.run_id,
            "args": {"prompt": setting(result.config, "prompts", "template"), "note": _note(source)},
        },
        "metrics": [*_figures(result), *_agreements(result), *map(_gate, _baseline(result)), *_together(result)],
    }
    front = {"model-index": [{"name": _model_name(model_name(result.config)), "results": [entry]}]}
    return f"---\n{yaml.safe_dump(front, sort_keys=False, allow_unicode=True, width=120)}---\n"


def _figures(result: AuditResult) -> Iterator[dict[str, Any]]:
    for row in result.overall:
        if row.arm == BASELINE and row.fairness_discrepancy is not None:
            yield from _attribute_figures(row, result)


def _attribute_figures(row: GroupResult, result: AuditResult) -> Iterator[dict[str, Any]]:
    by = {"attribute": row.attribute, "n": row.n, "judge": redact(setting(result.config, "judge", "source"))}
    mean = row.mean_over_prompts
    if mean is not None:
        name = f"Fairness discrepancy of perceived {row.attribute}, root mean square over prompts (0 is on target)"
        source = result.targets.get(row.attribute, TargetSource("uniform"))
        args = by | _interval(mean.low, mean.high) | {"prompts": mean.n, "target": source.file or source.kind}
        yield {"type": "fairness_discrepancy", "name": name, "value": round(mean.value, 4), "args": args}
        name = f"Soft discrepancy of perceived {row.attribute}: of the judge's mean probabilities, mean over prompts"
        yield {"type": "soft_discrepancy", "name": name, "value": round(mean.soft, 4), "args": by | {"prompts": mean.n}}
    for group, share in row.shares.items():
        name = f"Share of images perceived as {group}, all prompts pooled"
        args = by | {"group": group} | _interval(share.low, share.high)
        yield {"type": "share", "name": name, "value": round(share.value, 4), "args": args}


def _agreements(result: AuditResult) -> Iterator[dict[str, Any]]:
    for row in result.agreement:
        if row.arm == BASELINE and row.kappa is not None:
            name = (
                f"Agreement of a second judge on perceived {row.attribute}, Cohen's kappa (agreement is not accuracy)"
            )
            args = {"attribute": row.attribute, "n": row.n, "second_judge": row.judge}
            measured = args | _interval(row.kappa.low, row.kappa.high)
            yield {"type": "judge_agreement", "name": name, "value": round(row.kappa.value, 4), "args": measured}


def _interval(low: float | None, high: float | None) -> dict[str, float]:
    if low is None or high is None:
        return {}
    return {"low": round(low, 4), "high": round(high, 4), "confidence": 0.95}


def _baseline(result: AuditResult) -> tuple[Verdict, ...]:
    return tuple(verdict for verdict in result.verdicts if verdict.arm == BASELINE)


def _gate(verdict: Verdict) -> dict[str, Any]:
    limits = {verdict.side: verdict.limit, "level": verdict.level, "n": verdict.n}
    measured = {name: value for name in ("value", "low", "high") if (value := getattr(verdict, name)) is not None}
    return {
        "type": "gate",
        "name": f"Gate {verdict.gate}: {subject(verdict)}",
        "value": verdict.verdict,
        "args": {**limits, **measured, "confidence": verdict.confidence},
    }


def _together(result: AuditResult) -> Iterator[dict[str, Any]]:
    own = _baseline(result)
    if own:
        yield {"type": "verdict", "name": "All gates on the model as it ships", "value": overall_verdict(own)}


def _model_name(source: str) -> str:
    """Return the model's name; for a local directory only the last part, since its path is private."""
    return PurePath(source).name if source.startswith((".", "/", "~")) or "\\" in source else redact(source)


def _note(source: str) -> str:
    seen = "Groups are perceived presentation as the named judge sees it, never identity."
    if source in GENERATED_HERE:
        return (
            f"{seen} The model is a calibration model with planted bias; this says nothing about any published model."
        )
    return seen
