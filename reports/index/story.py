"""Index of one audit's result: its arms, attributes, prompts and rows, and their display names.

The HTML report and the tracking store read a result through this index, so both show the same figures.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from audit.planning.plan import prompt_ids
from audit.records.attributes import Attribute
from audit.records.groups import FairnessDiscrepancy, GroupResult
from audit.records.quality import QualityResult
from audit.records.result import AuditResult
from audit.records.work import BASELINE
from reports.index.settings import mitigations


@dataclass(frozen=True)
class Story:
    """Index of one audit's result.

    Attributes:
        result: The result of the audit.
        arms: Arm names, the baseline first, then in the config's order.
        attributes: Attributes with their groups in the config's order.
        prompts: Prompt ids in the result's order.
        occupations: Prompt id to the occupation as the config spells it; empty if the config says ``all``.
        rows: ``(prompt id or None for overall, arm, attribute name)`` to the row.
        quality: Arm to its quality figures.
    """

    result: AuditResult
    arms: tuple[str, ...]
    attributes: tuple[Attribute, ...]
    prompts: tuple[str, ...]
    occupations: Mapping[str, str]
    rows: Mapping[tuple[str | None, str, str], GroupResult]
    quality: Mapping[str, QualityResult]

    def occupation(self, prompt: str) -> str:
        """Return a prompt's occupation, spelled as in the config if possible, since ids lose capitals and accents."""
        return self.occupations.get(prompt) or occupation_words(prompt)

    def discrepancy(self, prompt: str | None, arm: str, attribute: str) -> FairnessDiscrepancy | None:
        """Fairness discrepancy of one row, None if nothing was classified."""
        row = self.rows.get((prompt, arm, attribute))
        return row.fairness_discrepancy if row else None

    def share(self, prompt: str | None, arm: str, attribute: str, group: str) -> float | None:
        """Share of one group, None if nothing was classified."""
        row = self.rows.get((prompt, arm, attribute))
        estimate = row.shares.get(group) if row else None
        return estimate.value if estimate else None

    def target(self, prompt: str, attribute: Attribute) -> dict[str, float]:
        """Target share of each group."""
        row = self.rows.get((prompt, self.arms[0], attribute.name))
        equal = 1 / len(attribute.groups)
        return {group: row.target.get(group, equal) if row else equal for group in attribute.groups}


def story_of(result: AuditResult) -> Story:
    """Index a result.

    Raises:
        ValueError: The result has no rows.
    """
    if not result.results:
        raise ValueError(
            "expected at least one row in results, found none; complete the run before rendering a report, and check "
            "that the config names an occupation and an attribute"
        )
    rows = {(row.prompt_id, row.arm, row.attribute): row for row in (*result.results, *result.overall)}
    return Story(
        result=result,
        arms=_arms(result),
        attributes=_attributes(result),
        prompts=tuple(dict.fromkeys(row.prompt_id for row in result.results if row.prompt_id is not None)),
        occupations=_occupations(result.config),
        rows=rows,
        quality={quality.arm: quality for quality in result.quality},
    )


def _occupations(config: Mapping[str, Any]) -> dict[str, str]:
    prompts = config.get("prompts")
    named = prompts.get("occupations") if isinstance(prompts, Mapping) else None
    if not isinstance(named, list | tuple):
        return {}
    occupations = [str(name) for name in named]
    return dict(zip(prompt_ids(occupations), occupations, strict=True))


def _arms(result: AuditResult) -> tuple[str, ...]:
    present = dict.fromkeys(row.arm for row in result.results)
    ordered = [BASELINE, *(mitigation["name"] for mitigation in mitigations(result)), *present]
    return tuple(arm for arm in dict.fromkeys(ordered) if arm in present)


def _attributes(result: AuditResult) -> tuple[Attribute, ...]:
    configured: Mapping[str, list[str]] = result.config.get("attributes", {})
    found: dict[str, tuple[str, ...]] = {}
    for row in result.results:
        if row.shares:
            groups = configured.get(row.attribute, ())
            same = sorted(groups) == sorted(row.shares)
            found.setdefault(row.attribute, tuple(groups if same else row.shares))
    return tuple(Attribute(name, groups) for name, groups in found.items())


def label(name: str) -> str:
    """Turn an identifier such as ``fire_fighter`` into words."""
    return name.replace("_", " ")


def occupation_words(prompt_id: str) -> str:
    """Turn a prompt's id such as ``police-officer`` into the words of its occupation."""
    return label(prompt_id).replace("-", " ")
