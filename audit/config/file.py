"""Reads an audit's YAML file and reports every mistake in it at once, each with its line and column.

The file becomes a tree of nodes that know where they stand. What validation finds mistaken is noted and taken out, and
the rest is validated again, so that one typing error does not hide an unknown attribute ten lines below.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from audit.config.document.overrides import apply_override
from audit.config.document.text import read_text
from audit.config.document.tree import Node, Place, kind, parse, where
from audit.config.errors import ConfigError, ConfigErrors
from audit.config.fields import PATTERNS_IN_WORDS, UNIONS_IN_WORDS
from audit.config.mitigations import METHOD_TAG
from audit.config.problems import Location, Problem, listing, suggestion
from audit.config.schema import known_keys
from audit.config.settings import AuditConfig

__all__ = ["Check", "ConfigError", "ConfigErrors", "read_config"]

NO_SUCH_METHOD = "union_tag_invalid"
"""What pydantic calls a mitigation of a method that there is not."""

MAX_BYTES = 1_000_000
"""Largest config file; a list of ten thousand occupations is a quarter of it."""

Check = Callable[[AuditConfig], Iterable[Problem]]
"""Finds further problems in a readable config, for example :func:`audit.preflight.readiness.check_ready`."""


def read_config(path: Path | str, overrides: Sequence[str] = (), checks: Sequence[Check] = ()) -> AuditConfig:
    """Read and validate a config file.

    Args:
        path: The YAML file.
        overrides: ``a.b=value`` settings that go before the file's; the value is YAML, list items are ``a.0``.
        checks: Further checks, whose problems are reported together with those of the file.

    Raises:
        ConfigErrors: Every mistake found, in file order.
    """
    root, findings = _read_tree(Path(path))
    for override in overrides:
        findings.errors.extend(apply_override(root, override))
    config = _validate(root, findings)
    if config is not None:
        for check in checks:
            for problem in check(config):
                findings.note_problem(root, problem)
    if findings.errors or config is None:
        raise ConfigErrors(findings.errors)
    return config


@dataclass
class _Findings:
    """What is mistaken so far, what was taken out of the tree for it, and where checks found a problem."""

    errors: list[ConfigError]
    problems: set[Location] = field(default_factory=set)
    removed: set[Location] = field(default_factory=set)
    touched: set[Location] = field(default_factory=set)

    def remove(self, location: Location) -> None:
        """Note that the value at a location was taken out; what holds it is touched."""
        self.removed.add(location)
        self.touched.update(location[:depth] for depth in range(len(location) + 1))

    def doubt(self, locations: Iterable[Location]) -> bool:
        """Whether a check looked at something that was taken out, so that what it says is no news."""
        return any(
            location in self.touched or any(location[:depth] in self.removed for depth in range(len(location)))
            for location in locations
        )

    def note_problem(self, root: Node, problem: Problem) -> None:
        """Note the problem of a check, unless what the check looked at is mistaken itself or a problem already."""
        trail = root.trail(problem.location)
        # What the file leaves to its default is shown where it would stand.
        here = (*trail[-1].location, *problem.location[len(trail) - 1 :])
        follows = bool(self.problems & {place for place in problem.reads if place != problem.location})
        if not follows and not self.doubt((*problem.reads, here)):
            self.errors.append(_error(trail[-1].place, here, problem.message))
            self.problems.add(problem.location)


def _read_tree(path: Path) -> tuple[Node, _Findings]:
    root, errors = parse(read_text(path, "YAML file", MAX_BYTES), str(path))
    if root is None:
        message = "expected an audit, found an empty file; begin with name:"
        raise ConfigErrors([ConfigError(str(path), 1, 1, "", message)])
    if not isinstance(root.value, dict):
        message = f"expected keys and values, found {kind(root.plain())}; begin with name:"
        raise ConfigErrors([*errors, _error(root.place, (), message)])
    return root, _Findings(list(errors))


def _validate(root: Node, findings: _Findings) -> AuditConfig | None:
    """Validate the tree, taking out what is mistaken until the rest is valid; None where that cannot be."""
    while True:
        try:
            return AuditConfig.model_validate(root.plain())
        except ValidationError as error:
            mistakes = [_Mistake.of(root, detail) for detail in error.errors(include_url=False)]
        # Judged against earlier rounds only: mistakes of one round do not follow from each other.
        findings.errors.extend(_told(mistake) for mistake in mistakes if not findings.doubt(mistake.reads))
        taken_out = [_take_out(root, mistake, findings) for mistake in mistakes]
        if not any(taken_out):
            return None


@dataclass(frozen=True)
class _Mistake:
    """One error of pydantic, found in the tree.

    Attributes:
        node: The value concerned, or what should have held it.
        parent: What holds the node; None for the root.
        location: Where the file has it, or should have.
        detail: Pydantic's account.
    """

    node: Node
    parent: Node | None
    location: Location
    detail: ErrorDetails

    @classmethod
    def of(cls, root: Node, detail: ErrorDetails) -> _Mistake:
        """Find an error of pydantic in the tree."""
        trail = root.trail((*detail["loc"], "method") if detail["type"] == NO_SUCH_METHOD else detail["loc"])
        missing = detail["loc"][-1:] if detail["type"] == "missing" else ()
        parent = trail[-2] if len(trail) > 1 else None
        return cls(trail[-1], parent, (*trail[-1].location, *missing), detail)

    @property
    def reads(self) -> tuple[Location, ...]:
        """What must stand as the file has it for this mistake to be news."""
        # Too few items, or a value that is missing, may be our own doing: it was taken out as mistaken before.
        own = (self.location,) if self.detail["type"] in ("missing", "too_short") else ()
        # Which keys a mitigation has depends on its method.
        method = ((*self.location[:-1], "method"),) if self.method is not None else ()
        return (*self.detail.get("ctx", {}).get("reads", ()), *own, *method)

    @property
    def method(self) -> str | None:
        """The method of the mitigation that the mistake is in, None where it is in none."""
        tags = (step for step in self.detail["loc"] if isinstance(step, str) and step.startswith(METHOD_TAG))
        return next((tag.removeprefix(METHOD_TAG) for tag in tags), None)


def _take_out(root: Node, mistake: _Mistake, findings: _Findings) -> bool:
    """Take what is mistaken out of the tree; False where nothing can be."""
    findings.remove(mistake.location)
    if mistake.parent is not None:
        mistake.parent.remove(mistake.node)
        return True
    if mistake.detail["type"] == "missing":  # the root cannot go; a stand-in lets the rest be looked at
        root.value[mistake.location[-1]] = Node("unnamed", root.place, mistake.location)
        return True
    return False


# What pydantic calls an error, and what was expected; the names are those of its context.
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
    "too_short": "at least {min_length} of them",
    "too_long": "at most {max_length} of them",
    "string_too_short": "at least {min_length} character",
    "string_too_long": "at most {max_length} characters",
    "literal_error": "{expected}",
}


_NEITHER = ("literal_error", "int_type", "tuple_type", "dict_type")
"""What a value of the wrong kind is called under a field of two kinds."""


def _told(mistake: _Mistake) -> ConfigError:
    """Put an error of pydantic into words, at its key where the key is what is wrong."""
    detail, node = mistake.detail, mistake.node
    if detail["type"] == "extra_forbidden":
        return _error(node.key_place or node.place, mistake.location, _unknown_key(mistake))
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
    if detail["loc"][-1] in ("word", "other") and detail["type"] in _NEITHER:
        return next(UNIONS_IN_WORDS[str(step)] for step in reversed(detail["loc"]) if step in UNIONS_IN_WORDS)
    if detail["type"] == "string_pattern_mismatch":
        return PATTERNS_IN_WORDS[context["pattern"]]
    known = _EXPECTED.get(detail["type"])
    return known.format(**context) if known else f"something else ({detail['msg']})"


def _quoted(detail: ErrorDetails) -> list[str]:
    """Return the words that a field takes, from pydantic's ``'add' or 'scale'``."""
    context = detail.get("ctx", {})
    words = str(context.get("expected", context.get("expected_tags", ""))).replace(METHOD_TAG, "")
    return re.findall("'([^']*)'", words)


def _unknown_key(mistake: _Mistake) -> str:
    known = known_keys(mistake.location[:-1], mistake.method)
    found = str(mistake.location[-1])
    return f"expected one of {listing(known)}; found {found!r}{suggestion(found, known) or '; remove it'}"


def _error(place: Place, location: Location, message: str) -> ConfigError:
    here = where(location)
    # An override is named by its own path already.
    return ConfigError(place.file, place.line, place.column, "" if place.file == f"--set {here}" else here, message)
