"""Reads a file with ``models`` into one ordinary audit for each model.

The tree of the file becomes one tree for each model, whose nodes keep their positions. An error that all models have
is reported once. An error that only some of them have names these models, at the place where the file has the value.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from audit.config.document.parts import mapping, placed, positions, relocated, scalar
from audit.config.document.tree import Node, where
from audit.config.errors import ConfigError, ConfigErrors
from audit.config.fields import OF_ONE_MODEL
from audit.config.file import MODELS, Check, Findings, audit_of_tree, read_tree, validated
from audit.config.models.sections import MERGED, ModelsFile
from audit.config.problems import listing, suggestion
from audit.config.sections import ModelConfig
from audit.config.settings import AuditConfig


@dataclass(frozen=True)
class ModelAudit:
    """The audit of one model.

    Attributes:
        model: Name of the model in the file.
        config: The audit.
    """

    model: str
    config: AuditConfig


@dataclass(frozen=True)
class ModelAudits:
    """The audits of a file with several models, in the order of the file.

    Attributes:
        name: Name of the comparison.
        audits: One for each model, with equal seeds, prompts, attributes and judges.
    """

    name: str
    audits: tuple[ModelAudit, ...]

    @property
    def output(self) -> str:
        """Directory of the runs, which all audits share."""
        return self.audits[0].config.output

    def as_file(self) -> dict[str, Any]:
        """Return the content of a file that is read as the same audits, with every value as resolved."""
        models = {}
        for audit in self.audits:
            plain = audit.config.model_dump(mode="json")
            models[audit.model] = plain["model"] | {key: plain[key] for key in OF_ONE_MODEL}
        first = self.audits[0].config.model_dump(mode="json")
        shared = {key: value for key, value in first.items() if key not in ("model", *OF_ONE_MODEL)}
        return shared | {"name": self.name, MODELS: models}


def read_audits(
    path: Path | str, overrides: Sequence[str] = (), checks: Sequence[Check] = ()
) -> AuditConfig | ModelAudits:
    """Read a config; if it has ``models``, return the audit of each of them.

    Args:
        path: The YAML file.
        overrides: ``a.b=value`` settings that replace those of the file, for example ``models.sd15.revision=v1``.
        checks: Further checks of each audit.

    Raises:
        ConfigErrors: All errors found, in file order.
    """
    root, findings = read_tree(Path(path), overrides)
    if root.child(MODELS) is None:
        return audit_of_tree(root, findings, checks)
    written = positions(root)
    findings.errors.extend(_misplaced(root))
    file = None if findings.errors else validated(root, findings, ModelsFile)
    if file is None or findings.errors:
        raise ConfigErrors(findings.errors)
    audits, found = list[ModelAudit](), dict[ConfigError, list[str]]()
    for model in file.models:
        try:
            audits.append(ModelAudit(model, audit_of_tree(_tree(root, file.name, model), Findings([]), checks)))
        except ConfigErrors as mistakes:
            for error in mistakes.errors:
                found.setdefault(placed(error, written), []).append(model)
    if found:
        paths = {path for own in written.values() for path in own}
        raise ConfigErrors([_named(error, models, file, paths) for error, models in found.items()])
    return ModelAudits(file.name, tuple(audits))


def _misplaced(root: Node) -> Iterator[ConfigError]:
    """Find what neither an audit nor an entry of ``models`` can have, each at its key."""
    single, models = root.child("model"), root.child(MODELS)
    if single is not None:
        yield _at_key(single, f"expected model or {MODELS}, found both; write this model as an entry of {MODELS}")
    entries = models.value if models is not None and isinstance(models.value, dict) else {}
    seen: list[tuple[str, Any]] = []
    for name, entry in entries.items():
        if not isinstance(entry.value, dict):
            continue
        yield from _misplaced_keys(name, entry)
        plain = entry.plain()
        same = next((other for other, known in seen if known == plain), None)
        if same is not None:
            yield _at_key(entry, f"expected models that differ, found {name} and {same} equal; remove one of them")
        seen.append((name, plain))


def _misplaced_keys(name: str, entry: Node) -> Iterator[ConfigError]:
    """Find the keys of an entry that are neither of the section ``model`` nor among its own sections."""
    of_model, known = ModelConfig.model_fields, listing(OF_ONE_MODEL)
    for key, node in entry.value.items():
        if key == "model" and isinstance(node.value, dict):
            yield _at_key(node, f"expected the keys of the section model in models.{name} itself, found model:")
        elif key in OF_ONE_MODEL or key in of_model:
            continue
        elif key in AuditConfig.model_fields:
            expected = f"expected keys of the section model, or {known}"
            yield _at_key(node, f"{expected}; found {key!r}, which is equal for all models; write it at the top level")
        else:
            hint = suggestion(key, (*of_model, *OF_ONE_MODEL)) or "; remove it"
            yield _at_key(node, f"expected one of {listing((*of_model, *OF_ONE_MODEL))}; found {key!r}{hint}")


def _at_key(node: Node, message: str) -> ConfigError:
    place = node.key_place or node.place
    return ConfigError(place.file, place.line, place.column, where(node.location), message)


def _tree(root: Node, name: str, model: str) -> Node:
    """Return the tree of the audit of one model."""
    models: Node = root.value[MODELS]
    entry: Node = models.value[model]
    keys = {key: node for key, node in root.value.items() if key != MODELS}
    keys["model"] = mapping(entry, {key: node for key, node in entry.value.items() if key not in OF_ONE_MODEL})
    keys |= {key: _section(root, entry, key) for key in OF_ONE_MODEL if entry.child(key) is not None}
    keys["name"] = scalar(root.value["name"], f"{name}-{model}")
    return relocated(mapping(root, keys), ())


def _section(root: Node, entry: Node, key: str) -> Node:
    """Return a section of an entry, with the keys of the shared section that it does not have itself."""
    own: Node = entry.value[key]
    shared = root.child(key)
    if key not in MERGED or shared is None or not isinstance(own.value, dict) or not isinstance(shared.value, dict):
        return own
    return mapping(own, shared.value | own.value)


def _named(error: ConfigError, models: Sequence[str], file: ModelsFile, written: Collection[str]) -> ConfigError:
    """Name the models that have an error, unless all of them have it or its place already names one.

    Args:
        error: The error, with its path in the file.
        models: The models that have it.
        file: The file.
        written: All paths of the file; a key that it does not have cannot be moved to an entry.
    """
    if len(models) == len(file.models) or error.where.startswith(f"{MODELS}."):
        return error
    section = error.where.partition(".")[0].partition("[")[0]
    remedy = ""
    if error.where not in written:
        pass
    elif section in MERGED:
        remedy = f", or move it from the top level to {section} in the entries of the other models"
    elif section in OF_ONE_MODEL:
        remedy = f", or write {section}: [] in the entry of the model"
    which = "model" if len(models) == 1 else "models"
    return replace(error, message=f"for the {which} {listing(models)}: {error.message}{remedy}")
