"""Compares a finished run with the protocol that was registered for it, and lists every departure in words."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from audit.config.problems import listing
from audit.evidence.privacy import private_tree
from audit.evidence.protocol import Protocol
from audit.records.result import AuditResult
from audit.records.work import BASELINE
from audit.results.comparison.differences import Difference, differences

LONGEST = 300
"""Characters of a value that are shown; the protocol and the config have all of it."""

DECIDES_NOTHING = ("alerts", "output", "report", "tracking", "workers", "model.limits", "model.api_key_env")
"""Keys that may differ from the protocol: where results go and who works, not what is made or judged."""

COMPARED_ELSEWHERE = ("gates", "prompts.occupations", "statement")

CLAIMS = ("intended_use", "population")
"""Keys of the statement that say what the figures are for; the others may be completed later."""

_PLAIN = {True: "tightened", False: "loosened"}


@dataclass(frozen=True)
class Departure:
    """One departure from the protocol.

    Attributes:
        what: What departs, in words: ``gate half loosened (min)``.
        registered: What the protocol says; empty if nothing.
        found: What the run has; empty if nothing.
    """

    what: str
    registered: str
    found: str


@dataclass(frozen=True)
class Made:
    """What a run says about how it was made.

    Attributes:
        begun: When it began, ISO 8601.
        kept_at: When it got the protocol, ISO 8601.
        finished_before: Shards that were finished then.
        fingerprint: Fingerprint of the model.
        version: Version of this package.
        files: Key of the config → sha256 of the file that it named.
    """

    begun: str
    kept_at: str
    finished_before: int
    fingerprint: str | None
    version: str
    files: Mapping[str, str]


def departures(protocol: Protocol, made: Made, result: AuditResult) -> tuple[Departure, ...]:
    """Return every departure of a run from its protocol, the most serious kinds first.

    Args:
        protocol: What was registered.
        made: How the run was made.
        result: The result of the run, with its config as judged last.
    """
    changed = differences(protocol.config, private_tree(result.config))
    return (
        *_time(protocol, made),
        *_gates(changed),
        *_targets(protocol, result),
        *_prompts(protocol, result),
        *_images(protocol, result),
        *_model(protocol, made),
        *_keys(changed, staged=result.two_stage is not None),
        *_claims(protocol, result),
        *_files(protocol, made),
        *_version(protocol, made),
    )


def _time(protocol: Protocol, made: Made) -> Iterator[Departure]:
    # Times are whole seconds: a protocol of the second in which the run began is not known to be earlier.
    if made.finished_before and _seconds_after(protocol.registered, made.begun) >= 0:
        found = f"run begun {made.begun}, {made.finished_before} shards finished when the protocol came"
        yield Departure("registered after the first shard was made", protocol.registered, found)
    elif _seconds_after(protocol.registered, made.kept_at) > 0:
        yield Departure("registered later than the run got it (a clock is wrong)", protocol.registered, made.kept_at)


def _seconds_after(first: str, second: str) -> float:
    """Return how much later the first time is; infinity if one of them cannot be read or has no zone."""
    try:
        return (datetime.fromisoformat(first) - datetime.fromisoformat(second)).total_seconds()
    except (TypeError, ValueError):
        return math.inf


def _gates(changed: tuple[Difference, ...]) -> Iterator[Departure]:
    for one in changed:
        parts = one.path.split(".")
        if parts[0] != "gates":
            continue
        if len(parts) == 1:  # gates were no named list on one side: none before, or none now
            yield from _whole_gates(one)
        elif one.first is None and isinstance(one.second, Mapping):
            yield Departure(f"gate {one.second.get('name')} added", "", _shown(one.second))
        elif one.second is None and isinstance(one.first, Mapping):
            yield Departure(f"gate {one.first.get('name')} removed", _shown(one.first), "")
        else:
            name, _, key = one.path.removeprefix("gates.").rpartition(".")
            yield Departure(f"gate {name} {_direction(key, one)} ({key})", _shown(one.first), _shown(one.second))


def _whole_gates(one: Difference) -> Iterator[Departure]:
    for gate in one.first or ():
        yield Departure(f"gate {gate.get('name')} removed", _shown(gate), "")
    for gate in one.second or ():
        yield Departure(f"gate {gate.get('name')} added", "", _shown(gate))


def _direction(key: str, one: Difference) -> str:
    """Return whether a gate became stricter; a limit that appears or disappears is neither."""
    first, second = one.first, one.second
    if key == "level":
        return _PLAIN[second == "fail"]
    if key in ("min", "max") and isinstance(first, int | float) and isinstance(second, int | float):
        return _PLAIN[(second > first) == (key == "min")]
    return "changed"


def _targets(protocol: Protocol, result: AuditResult) -> Iterator[Departure]:
    """Compare the shares themselves, because a file of targets may change under its name."""
    for row in result.results:
        planned = protocol.targets.get(row.attribute, {}).get(row.prompt_id or "")
        if row.arm == BASELINE and planned and row.target and not _equal(planned, row.target):
            yield Departure(f"target of {row.attribute} for {row.prompt_id}", _shown(planned), _shown(row.target))


def _equal(first: Mapping[str, float], second: Mapping[str, float]) -> bool:
    same = first.keys() == second.keys()
    return same and all(math.isclose(first[group], second[group], abs_tol=1e-9) for group in first)


def _prompts(protocol: Protocol, result: AuditResult) -> Iterator[Departure]:
    planned = {prompt.id: prompt.text for prompt in protocol.prompts}
    made = dict.fromkeys(row.prompt_id for row in result.results if row.prompt_id is not None)
    for prompt in made:
        if prompt not in planned:
            yield Departure(f"prompt {prompt} added", "", prompt)
    for prompt, text in planned.items():
        if prompt not in made:
            yield Departure(f"prompt {prompt} removed", text, "")


def _images(protocol: Protocol, result: AuditResult) -> Iterator[Departure]:
    """Compare numbers of images; with two-stage sampling only the pilot is fixed, and it is the least number."""
    counted = {
        (row.prompt_id, row.arm): sum(row.statuses.values()) for row in result.results if row.prompt_id is not None
    }
    groups: dict[tuple[int, int], list[str]] = {}
    for prompt in protocol.prompts:
        found = {count for (name, _), count in counted.items() if name == prompt.id}
        for count in found:
            if count < prompt.images or (count > prompt.images and result.two_stage is None):
                groups.setdefault((prompt.images, count), []).append(prompt.id)
    for (planned, count), names in groups.items():
        yield Departure(f"images per prompt of {listing(names)}", str(planned), str(count))


def _model(protocol: Protocol, made: Made) -> Iterator[Departure]:
    if protocol.model_fingerprint is not None and protocol.model_fingerprint != made.fingerprint:
        yield Departure("another model (fingerprint of its weights)", protocol.model_fingerprint, str(made.fingerprint))


def _keys(changed: tuple[Difference, ...], *, staged: bool) -> Iterator[Departure]:
    ignored = (*DECIDES_NOTHING, *COMPARED_ELSEWHERE, *(() if staged else ("prompts.images_per_prompt",)))
    for one in changed:
        if not _under(one.path, ignored):
            what = "another seed" if one.path == "seed" else one.path
            yield Departure(what, _shown(one.first), _shown(one.second))


def _claims(protocol: Protocol, result: AuditResult) -> Iterator[Departure]:
    planned, said = (config.get("statement") or {} for config in (protocol.config, result.config))
    for key in CLAIMS:
        if planned.get(key) != said.get(key):
            yield Departure(f"statement.{key}", _shown(planned.get(key)), _shown(said.get(key)))


def _under(path: str, keys: tuple[str, ...]) -> bool:
    return any(path == key or path.startswith(f"{key}.") for key in keys)


def _files(protocol: Protocol, made: Made) -> Iterator[Departure]:
    for key, digest in protocol.files.items():
        found = made.files.get(key, "")
        if found and found != digest:
            yield Departure(f"{key}: a file with other content", f"sha256 {digest}", f"sha256 {found}")


def _version(protocol: Protocol, made: Made) -> Iterator[Departure]:
    if protocol.version != made.version:
        yield Departure("another version of difflens-audit", protocol.version, made.version)


def _shown(value: Any) -> str:  # noqa: ANN401 - JSON values
    if value is None:
        return ""
    kept = {key: item for key, item in value.items() if item is not None} if isinstance(value, Mapping) else value
    text = kept if isinstance(kept, str) else json.dumps(kept, ensure_ascii=False)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 2]} …"
