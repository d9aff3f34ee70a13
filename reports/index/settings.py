"""Look-ups in the config that a result holds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from audit.config.fields import ZERO_SHOT
from audit.config.optional.segmenters import OutsideConfig
from audit.records.result import AuditResult


def mitigations(result: AuditResult) -> list[dict[str, Any]]:
    """Return the config's mitigations as plain data."""
    return list(result.config.get("mitigations") or [])


def edited_attributes(mitigation: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the attributes that a mitigation steers: one, or that of each part."""
    return tuple(part["attribute"] for part in mitigation.get("parts", (mitigation,)))


def edited_by(result: AuditResult) -> dict[str, tuple[str, ...]]:
    """Return the attributes that each arm of the config steers."""
    return {one["name"]: edited_attributes(one) for one in mitigations(result)}


def zero_shot_judges(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of the second judges that are zero-shot CLIP."""
    opinions = config.get("second_opinions") or ()
    return tuple(opinion["name"] for opinion in opinions if opinion.get("source") == ZERO_SHOT)


def hidden_words(config: Mapping[str, Any]) -> str:
    """Return the parts outside of which ``quality.outside`` compares images, in words: ``the face`` if it is the usual.

    The usual parts are face and hair. Other parts are named as the config names them: a bus has no face.
    """
    hidden = ((config.get("quality") or {}).get("outside") or {}).get("hidden")
    usual = OutsideConfig.model_fields["hidden"].default
    if hidden is None or tuple(hidden) == usual:
        return "the face"
    *others, last = hidden
    return f"{', '.join(others)} and {last}" if others else str(last)


def setting(config: Mapping[str, Any], *keys: str) -> str:
    """Return a nested config value as text, ``not recorded`` if the config does not have it."""
    value: Any = config
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return "not recorded" if value is None else str(value)
