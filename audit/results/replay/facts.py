"""Facts that decide the rows of a run, and those in which two runs differ."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from audit.results.comparison.compare import PROJECT
from audit.results.comparison.differences import differences
from audit.storage.run_directory import MODEL_FINGERPRINT, decisive

Kind = Literal["input", "surroundings", "made", "place"]
"""``input`` decides what is computed, ``surroundings`` how numbers are rounded. ``made`` follows from both: a lens, a
fit. ``place`` is another path to the same content."""

PARTS, FILES, COMPUTE, VERSIONS = "model_parts", "files", "compute", "versions"
"""Keys of the provenance."""

_SINGLE: Mapping[str, tuple[str, Kind]] = {
    "fitted_on": ("prompts that methods are fitted with", "input"),
    "git_revision": ("git revision", "surroundings"),
    "code": ("code of the package audit", "surroundings"),
    "python": ("Python", "surroundings"),
    "platform": ("platform", "surroundings"),
}
_OF_DRIVER: Mapping[str, tuple[str, Kind]] = {
    "cpu": ("processor", "surroundings"),
    "devices": ("device", "surroundings"),
}
"""Used only if one of the runs does not record the hardware of its workers."""

_TITLES = {
    PARTS: "parts of the model",
    FILES: "files that the config names",
    COMPUTE: "hardware of the workers",
}
"""Groups that older releases did not record, in words."""

_OPTIONAL = ("fitted_on",)
"""Keys that a run leaves out if there is nothing to record."""

_ORDER: Sequence[Kind] = ("input", "surroundings", "made", "place")


@dataclass(frozen=True)
class Fact:
    """One fact in which two runs differ.

    Attributes:
        name: What it is, in words: ``unet of the model``, ``torch``, ``seed``.
        was: Its value in the first run, None if there is none.
        here: Its value in the replay.
        kind: How it can change rows.
    """

    name: str
    was: Any
    here: Any
    kind: Kind

    @property
    def words(self) -> str:
        """The fact as text: ``torch 2.11.0 was 2.10.0``; of a hash the first digits."""
        if any(isinstance(value, str) and value.startswith("sha256:") for value in (self.was, self.here)):
            return f"{self.name}: sha256 {_short(self.here)} was {_short(self.was)}"
        return f"{self.name} {_short(self.here)} was {_short(self.was)}"


@dataclass(frozen=True)
class Facts:
    """The facts in which a replay differs from the first run.

    Attributes:
        changed: Those that differ, the most important first.
        not_recorded: Names of those that the first run does not record.
    """

    changed: tuple[Fact, ...]
    not_recorded: tuple[str, ...]

    def of(self, kind: Kind) -> tuple[Fact, ...]:
        """Return the facts of one kind."""
        return tuple(fact for fact in self.changed if fact.kind == kind)


@dataclass(frozen=True)
class Origin:
    """What decides the rows of a run.

    Attributes:
        config: The config as resolved, plain data.
        provenance: Weights, files, versions and hardware, plain data.
    """

    config: Mapping[str, Any]
    provenance: Mapping[str, Any]


def changed_facts(was: Origin, here: Origin) -> Facts:
    """Compare all facts that both runs record; what the replay does not record yet is left out."""
    on_workers = all(side.provenance.get(COMPUTE) for side in (was, here))
    old, new = ({one.name: one for one in _values(side.provenance, on_workers)} for side in (was, here))
    groups = [{one.group for one in side.values()} for side in (old, new)]
    changed = [*_settings(was, here), *_weights(was.provenance, here.provenance)]
    unknown = [title for group, title in _TITLES.items() if here.provenance.get(group) and group not in was.provenance]
    for name, one in {**old, **new}.items():
        if one.group not in groups[1]:
            continue
        before, now = old.get(name), new.get(name)
        if before is None and (one.group == VERSIONS or one.group not in groups[0]):
            unknown.append(name)
        elif now is None and one.group == VERSIONS:
            continue
        elif (before and before.value) != (now and now.value):
            changed.append(Fact(name, before and before.value, now and now.value, one.kind))
    return Facts(tuple(sorted(changed, key=lambda fact: _ORDER.index(fact.kind))), tuple(unknown))


def _settings(was: Origin, here: Origin) -> Iterator[Fact]:
    """Compare the configs; a path to the same content changes no row."""
    for found in differences(decisive(was.config), decisive(here.config)):
        yield Fact(found.path, found.first, found.second, "place" if _same_content(found.path, was, here) else "input")
    before, now = ((side.config.get("workers") or {}).get("threads") for side in (was, here))
    if None not in (before, now) and before != now:
        yield Fact("threads per worker", before, now, "surroundings")


def _same_content(path: str, was: Origin, here: Origin) -> bool:
    old, new = was.provenance, here.provenance
    if path in ("model.source", "model.config"):
        return bool(old.get(PARTS)) and old.get(PARTS) == new.get(PARTS)
    known = (old.get(FILES) or {}).get(path)
    return known is not None and known == (new.get(FILES) or {}).get(path)


def _weights(was: Mapping[str, Any], here: Mapping[str, Any]) -> Iterator[Fact]:
    """Name the parts and the files that differ; the whole model only if no part explains it."""
    parts = list(_of_group(was, here, PARTS, "{} of the model"))
    yield from parts
    before, now = (side.get(MODEL_FINGERPRINT) for side in (was, here))
    if not parts and None not in (before, now) and before != now:
        yield Fact("model", before, now, "input")
    yield from _of_group(was, here, FILES, "file of {}")
    yield from _of_group(was, here, "instruments", "signature of {}")


def _of_group(was: Mapping[str, Any], here: Mapping[str, Any], group: str, name: str) -> Iterator[Fact]:
    old, new = was.get(group), here.get(group)
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in dict.fromkeys([*old, *new]):
            if old.get(key) != new.get(key):
                words = key if key.startswith("bundled ") else name.format(key.replace("_", " "))
                yield Fact(words, old.get(key), new.get(key), "input")


@dataclass(frozen=True)
class _Value:
    """One recorded fact; its group is the key of the provenance."""

    group: str
    name: str
    value: Any
    kind: Kind


def _values(provenance: Mapping[str, Any], on_workers: bool) -> Iterator[_Value]:
    """Yield all facts of a run but its weights and files; the hardware is that of the workers or of the driver."""
    for key, (name, kind) in (_SINGLE if on_workers else {**_SINGLE, **_OF_DRIVER}).items():
        if key in provenance or key in _OPTIONAL:
            yield _Value(key, name, _joined(provenance.get(key)), kind)
    for package, version in (provenance.get(VERSIONS) or {}).items():
        # A wheel that was sent to a cluster has a hash of the code in its version; the code is a fact of its own.
        plain = str(version).partition("+")[0] if package == PROJECT else version
        yield _Value(VERSIONS, package, plain, "surroundings")
    yield from _hardware(provenance.get(COMPUTE)) if on_workers else ()
    for key, value in (provenance.get("sampling") or {}).items():
        yield _Value("sampling", f"sampling: {key.replace('_', ' ')}", value, "made")
    yield from _prepared(provenance.get("prepared"))


def _hardware(compute: object) -> Iterator[_Value]:
    """Yield what workers computed on; several kinds of workers are joined."""
    kinds = [one for one in compute.values() if isinstance(one, Mapping)] if isinstance(compute, Mapping) else []
    names = {"instructions": "vector instructions", "cuda": "CUDA", "cudnn": "cuDNN"}
    for key in dict.fromkeys(key for one in kinds for key in one):
        values = sorted({str(one.get(key)) for one in kinds})
        yield _Value(COMPUTE, names.get(key, key), "; ".join(values), "surroundings")


def _prepared(prepared: object) -> Iterator[_Value]:
    """Yield the lens and the fits by name, which follows from the settings, and by content."""
    if not isinstance(prepared, Mapping):
        return
    made = {"lens": prepared.get("lens"), **{f"fit of {name}": one for name, one in prepared.get("fits", {}).items()}}
    for name, one in made.items():
        if isinstance(one, Mapping):
            yield _Value("prepared", f"name of the {name}", one.get("name"), "made")
            yield _Value("prepared", f"content of the {name}", one.get("content"), "made")


def _joined(value: Any) -> Any:  # noqa: ANN401 - JSON values
    return ", ".join(map(str, value)) if isinstance(value, list) else value


def _short(value: Any) -> str:  # noqa: ANN401 - JSON values
    """Write a value in a message: 12 digits of a hash, nothing for None, at most 80 characters."""
    if value is None:
        return "nothing"
    text = str(value).lower() if isinstance(value, bool) else str(value)
    if text.startswith("sha256:"):
        return text.removeprefix("sha256:")[:12]
    return text if len(text) <= 80 else f"{text[:79]}…"
