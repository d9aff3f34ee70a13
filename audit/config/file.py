"""Reads an audit's YAML file and reports all errors in it together, each with its line and column.

The file becomes a tree whose nodes know their positions. Values that fail validation are reported and removed, and
the rest is validated again. One typing error therefore does not hide an unknown attribute ten lines below.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from audit.config.document.here import expand_here
from audit.config.document.overrides import apply_override
from audit.config.document.text import read_text
from audit.config.document.tree import Node, Place, kind, parse, where
from audit.config.errors import ConfigError, ConfigErrors
from audit.config.fields import PATTERNS_IN_WORDS, UNIONS_IN_WORDS
from audit.config.mitigations.registry import METHOD_TAG
from audit.config.problems import Location, Problem, listing, suggestion
from audit.config.schema import known_keys
from audit.config.settings import AuditConfig

__all__ = ["Check", "ConfigError", "ConfigErrors", "Findings", "audit_of_tree", "read_config", "read_tree", "validated"]

SectionT = TypeVar("SectionT", bound=BaseModel)

NO_SUCH_METHOD = "union_tag_invalid"
"""Pydantic's error type for a mitigation with an unknown method."""

MODELS = "models"
"""Key of a file that describes the audits of several models, see :mod:`audit.config.models.read`."""

MAX_BYTES = 1_000_000
"""Size limit of a config file; a list of ten thousand occupations needs a quarter of it."""

Check = Callable[[AuditConfig], Iterable[Problem]]
"""Finds further problems in a valid config, for example :func:`audit.preflight.readiness.check_ready`."""


def read_config(path: Path | str, overrides: Sequence[str] = (), checks: Sequence[Check] = ()) -> AuditConfig:
    """Read and validate a config file.

    Args:
        path: The YAML file.
        overrides: ``a.b=value`` settings that replace those of the file; the value is YAML, list items are ``a.0``.
        checks: Further checks, whose problems are reported together with those of the file.

    Raises:
        ConfigErrors: All errors found, in file order.
    """
    root, findings = read_tree(Path(path), overrides)
    several = root.child(MODELS)
    if several is not None:
        place = several.key_place or several.place
        message = (
            "expected one model, found several; run, plan, validate and submit take a file with models. For another "
            "command, write one of them under model:"
        )
        raise ConfigErrors([*findings.errors, _error(place, several.location, message)])
    return audit_of_tree(root, findings, checks)


def audit_of_tree(root: Node, findings: Findings, checks: Sequence[Check] = ()) -> AuditConfig:
    """Validate a tree that has been read as an audit, and run further checks.

    Raises:
        ConfigErrors: All errors found, with those found before.
    """
    config = validated(root, findings, AuditConfig)
    if config is not None:
        for check in checks:
            for problem in check(config):
                findings.note_problem(root, problem)
    if findings.errors or config is None:
        raise ConfigErrors(findings.errors)
    return config


@dataclass
class Findings:
    """Errors found so far, the values removed from the tree because of them, and where checks found problems."""

    errors: list[ConfigError]
    problems: set[Location] = field(default_factory=set)
    removed: set[Location] = field(default_factory=set)
    touched: set[Location] = field(default_factory=set)

    def remove(self, location: Location) -> None:
        """Record that the value at a location was removed; everything above it has changed."""
        self.removed.add(location)
        self.touched.update(location[:depth] for depth in range(len(location) + 1))

    def has_errors(self, locations: Iterable[Location]) -> bool:
        """Return whether any of the locations was removed or changed because of an earlier error."""
        return any(
            location in self.touched or any(location[:depth] in self.removed for depth in range(len(location)))
            for location in locations
        )

    def note_problem(self, root: Node, problem: Problem) -> None:
        """Record the problem of a check, unless a value that the check read already has an error."""
        trail = root.trail(problem.location)
        # A problem with a default value is shown where the file would set it.
        here = (*trail[-1].location, *problem.location[len(trail) - 1 :])
        follows = bool(self.problems & {place for place in problem.reads if place != problem.location})
        if not follows and not self.has_errors((*problem.reads, here)):
            self.errors.append(_error(trail[-1].place, here, problem.message))
            self.problems.add(problem.location)


def read_tree(path: Path, overrides: Sequence[str] = ()) -> tuple[Node, Findings]:
    """Read a file as a tree with its overrides applied, and the errors found so far.

    Raises:
        ConfigErrors: If the file is not YAML with keys and values.
    """
    root, errors = parse(read_text(path, "YAML file", MAX_BYTES), str(path))
    if root is None:
        message = "expected an audit, found an empty file; begin with name:"
        raise ConfigErrors([ConfigError(str(path), 1, 1, "", message)])
    if not isinstance(root.value, dict):
        message = f"expected keys and values, found {kind(root.plain())}; begin with name:"
        raise ConfigErrors([*errors, _error(root.place, (), message)])
    expand_here(root, path.parent)
    findings = Findings(list(errors))
    for override in overrides:
        findings.errors.extend(apply_override(root, override))
    return root, findings


def validated(root: Node, findings: Findings, section: type[SectionT]) -> SectionT | None:
    """Validate the tree, removing invalid values until the rest is valid; None if that is impossible."""
    while True:
        try:
            return section.model_validate(root.plain())
        except ValidationError as error:
            found = [_Mistake.of(root, detail) for detail in error.errors(include_url=False)]
        mistakes = [one for one in found if not one.follows_from(found)]
        # Compared with earlier rounds only: errors of one round do not cause each other.
        findings.errors.extend(
            _described(mistake, section) for mistake in mistakes if not findings.has_errors(mistake.reads)
        )
        removed = [_remove(root, mistake, findings) for mistake in mistakes]
        if not any(removed):
            return None


@dataclass(frozen=True)
class _Mistake:
    """One validation error of pydantic, located in the tree.

    Attributes:
        node: The value concerned, or the mapping that lacks it.
        parent: The node's parent; None for the root.
        location: Where the file has the value, or should have it.
        detail: Pydantic's description.
    """

    node: Node
    parent: Node | None
    location: Location
    detail: ErrorDetails

    @classmethod
    def of(cls, root: Node, detail: ErrorDetails) -> _Mistake:
        """Locate a validation error of pydantic in the tree."""
        trail = root.trail((*detail["loc"], "method") if detail["type"] == NO_SUCH_METHOD else detail["loc"])
        missing = detail["loc"][-1:] if detail["type"] == "missing" else ()
        parent = trail[-2] if len(trail) > 1 else None
        return cls(trail[-1], parent, (*trail[-1].location, *missing), detail)

    @property
    def reads(self) -> tuple[Location, ...]:
        """Locations that must be unchanged since the file was read; otherwise this error is a consequence."""
        # Validation itself can cause too few items or a missing value, by removing an invalid one in an earlier round.
        own = (self.location,) if self.detail["type"] in ("missing", "too_short") else ()
        # Which keys a mitigation has depends on its method.
        method = ((*self.location[:-1], "method"),) if self.method is not None else ()
        return (*self.detail.get("ctx", {}).get("reads", ()), *own, *method)

    def follows_from(self, others: Sequence[_Mistake]) -> bool:
        """Return whether there are too few valid items only because one of them has a mistake of its own."""
        if self.detail["type"] != "too_short" or len(self.node.value) < self.detail["ctx"]["min_length"]:
            return False
        return any(other.location[: len(self.location)] == self.location for other in others if other is not self)

    @property
    def method(self) -> str | None:
        """The method of the mitigation that has the error, None if the error is elsewhere."""
        tags = (step for step in self.detail["loc"] if isinstance(step, str) and step.startswith(METHOD_TAG))
        # The last one: that of the part, if the mitigation has parts.
        return next((tag.removeprefix(METHOD_TAG) for tag in reversed(list(tags))), None)


def _remove(root: Node, mistake: _Mistake, findings: Findings) -> bool:
    """Remove the invalid value from the tree; False if it cannot be removed."""
    findings.remove(mistake.location)
    if mistake.parent is not None:
        mistake.parent.remove(mistake.node)
        return True
    if mistake.location == ("name",):  # the root cannot be removed; a placeholder lets the rest be validated
        root.value["name"] = Node("unnamed", root.place, mistake.location)
        return True
    return False


# Pydantic's error type → what was expected; the names in braces are those of its context.
_EXPECTED = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "string_type": "text",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "dict_type": "keys and values",
    "model_type": "keys and values",
    "greater_than": "more than {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than": "less than {lt}",
    "less_than_equal": "at most {le}",
    "too_short": "{min_length} or more items",
    "too_long": "{max_length} or fewer items",
    "string_too_short": "{min_length} or more characters",
    "string_too_long": "{max_length} or fewer characters",
    "literal_error": "{expected}",
}


_WRONG_TYPE = ("literal_error", "int_type", "tuple_type", "dict_type", "model_type")
"""Pydantic's error types for a value that no branch of a union accepts."""


def _described(mistake: _Mistake, section: type[BaseModel]) -> ConfigError:
    """Describe a validation error; the position is that of the key if the key is wrong."""
    detail, node = mistake.detail, mistake.node
    if detail["type"] == "extra_forbidden":
        return _error(node.key_place or node.place, mistake.location, _unknown_key(mistake, section))
    if detail["loc"][-1:] == ("[key]",):
        message = f"expected a name of {_expected(detail)}, found {mistake.location[-1]!r}"
        return _error(node.key_place or node.place, mistake.location, message)
    if detail["type"] == "missing":
        return _error(node.place, mistake.location, "expected a value, found none; add it")
    if detail["type"] == "mistake":
        return _error(node.place, mistake.location, detail["msg"])
    found = node.plain()
    nearest = suggestion(found, _quoted(detail)) if isinstance(found, str) else ""
    return _error(node.place, mistake.location, f"expected {_expected(detail)}, found {kind(found)}{nearest}")


def _expected(detail: ErrorDetails) -> str:
    context = detail.get("ctx", {})
    if detail["type"] == NO_SUCH_METHOD:
        return str(context["expected_tags"]).replace(METHOD_TAG, "")
    if detail["loc"][-1] in ("word", "other") and detail["type"] in _WRONG_TYPE:
        steps = list(map(str, detail["loc"]))
        names = [*steps[:1], *(name for before, step in pairwise(steps) for name in (step, f"{before}.{step}"))]
        return next(UNIONS_IN_WORDS[name] for name in reversed(names) if name in UNIONS_IN_WORDS)
    if detail["type"] == "string_pattern_mismatch":
        return PATTERNS_IN_WORDS[context["pattern"]]
    known = _EXPECTED.get(detail["type"])
    return known.format(**context) if known else f"something else ({detail['msg']})"


def _quoted(detail: ErrorDetails) -> list[str]:
    """Return the words that a field accepts, from pydantic's ``'add' or 'scale'``."""
    context = detail.get("ctx", {})
    words = str(context.get("expected", context.get("expected_tags", ""))).replace(METHOD_TAG, "")
    return re.findall("'([^']*)'", words)


def _unknown_key(mistake: _Mistake, section: type[BaseModel]) -> str:
    known = known_keys(mistake.location[:-1], mistake.method, section)
    found = str(mistake.location[-1])
    return f"expected one of {listing(known)}; found {found!r}{suggestion(found, known) or '; remove it'}"


def _error(place: Place, location: Location, message: str) -> ConfigError:
    here = where(location)
    # The name of an override already contains its path.
    return ConfigError(place.file, place.line, place.column, "" if place.file == f"--set {here}" else here, message)
