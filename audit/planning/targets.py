"""Targets: for each prompt and attribute the distribution over the groups that counts as fair.

Uniform, inline shares for every prompt, or a CSV file with shares per prompt, such as labour statistics:

.. code-block:: text

    # lines that start with # are comments
    prompt,attribute,group,share,overlaps,source
    nurse,gender,Women,0.8,,"invented: publisher, table, year"

``prompt``, ``attribute``, ``group`` and ``share`` are required. ``group`` holds the audit's own group, or a category of
the source that the config maps to one. ``overlaps`` names what a category overlaps with, empty where it excludes the
others; ``source`` says where the number is from.

A target is a reference to measure against. Statistics of a country's workforce describe neither a model's training data
nor what a picture of an occupation ought to show; a distance from them says that the two differ, and nothing of why.
"""

from __future__ import annotations

import csv
import hashlib
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from audit.config.document.text import read_text
from audit.config.errors import ConfigError, ConfigErrors
from audit.config.problems import listing
from audit.config.sections import TargetChoice, TargetFileConfig
from audit.config.shares import adds_up, folded, normalised, unknown, wrong_sum
from audit.records.attributes import Attribute, TargetSource
from audit.records.estimates import exact_percent
from audit.storage.outside.csv_line import csv_values

Targets = Mapping[str, Mapping[str, tuple[float, ...]]]
"""Prompt id → attribute → shares in the order of the groups, which add up to 1."""

CategoryMap = Mapping[str, Mapping[str, str | None]]
"""Attribute → category of the source → the group that it counts for, or None if it is left out on purpose."""

REQUIRED_COLUMNS = ("prompt", "attribute", "group", "share")
OPTIONAL_COLUMNS = ("overlaps", "source")

MAX_BYTES = 20_000_000
"""Largest file; ten thousand occupations with three attributes are a tenth of it."""


@dataclass(frozen=True)
class AuditTargets:
    """The targets of one audit.

    Attributes:
        shares: The target of each prompt and attribute.
        sources: Attribute → where its target is from.
    """

    shares: Targets = field(default_factory=dict)
    sources: Mapping[str, TargetSource] = field(default_factory=dict)


def audit_targets(
    config: Mapping[str, TargetChoice], prompt_ids: Sequence[str], attributes: Sequence[Attribute]
) -> AuditTargets:
    """Return the targets that a config asks for; attributes that it does not name have equal shares as their target.

    Args:
        config: The config's ``targets``.
        prompt_ids: The audit's prompts.
        attributes: The audit's attributes.

    Raises:
        ConfigErrors: Every mistake in a CSV file, each with line and column.
    """
    shares = uniform_targets(prompt_ids, attributes)
    sources = {attribute.name: TargetSource("uniform") for attribute in attributes}
    files: dict[str, list[Attribute]] = {}
    for attribute in attributes:
        choice = config.get(attribute.name, "uniform")
        if isinstance(choice, TargetFileConfig):
            files.setdefault(choice.csv, []).append(attribute)
        elif not isinstance(choice, str):
            sources[attribute.name] = TargetSource("shares")
            inline = normalised(choice, attribute.groups)
            for by_attribute in shares.values():
                by_attribute[attribute.name] = inline
    for file, own in files.items():
        read = read_targets(file, prompt_ids, own, _categories(config))
        sources |= read.sources
        for prompt_id, own_shares in read.shares.items():
            shares[prompt_id].update(own_shares)
    return AuditTargets(shares, sources)


def uniform_targets(
    prompt_ids: Sequence[str], attributes: Sequence[Attribute]
) -> dict[str, dict[str, tuple[float, ...]]]:
    """Return equal shares for every prompt and attribute."""
    equal = {attribute.name: (1 / len(attribute.groups),) * len(attribute.groups) for attribute in attributes}
    return {prompt_id: dict(equal) for prompt_id in prompt_ids}


def target_of(targets: Targets, prompt_id: str, attribute: Attribute) -> tuple[float, ...]:
    """Return the target of a prompt; equal shares if none is named."""
    return targets.get(prompt_id, {}).get(attribute.name) or (1 / len(attribute.groups),) * len(attribute.groups)


def pooled_target(targets: Targets, images: Mapping[str, int], attribute: Attribute) -> tuple[float, ...]:
    """Return the target of several prompts together: the shares of the pool if each prompt meets its own target.

    Args:
        targets: Targets by prompt.
        images: Prompt id → its images in the pool; equal weights if there are no images.
        attribute: The attribute.
    """
    weights = images if any(images.values()) else dict.fromkeys(images, 1)
    total = sum(weights.values())
    goals = {prompt_id: target_of(targets, prompt_id, attribute) for prompt_id in weights}
    if len(set(goals.values())) == 1:  # to the last bit, so that equal rows have equal targets
        return next(iter(goals.values()))
    return tuple(
        math.fsum(weight * goals[prompt_id][group] for prompt_id, weight in weights.items()) / total
        for group in range(len(attribute.groups))
    )


def _categories(config: Mapping[str, TargetChoice]) -> CategoryMap:
    return {
        name: choice.categories
        for name, choice in config.items()
        if isinstance(choice, TargetFileConfig) and choice.categories is not None
    }


def read_targets(
    path: Path | str,
    prompt_ids: Sequence[str],
    attributes: Sequence[Attribute],
    categories: CategoryMap | None = None,
) -> AuditTargets:
    """Read targets per prompt from a CSV file.

    Args:
        path: The file; UTF-8, a header, one row for each prompt, attribute and group or category.
        prompt_ids: The audit's prompts; the file has rows for all of them and for no other.
        attributes: The attributes that take their targets from this file, likewise.
        categories: What the source's categories count for, free of mistakes (:func:`category_problems`); attributes
            that it does not name use the audit's groups.

    Raises:
        ConfigErrors: Every mistake in the file, in file order, each with line and column.
    """
    reading = _Reading(str(path), tuple(prompt_ids), {a.name: a for a in attributes}, categories or {})
    text = read_text(Path(path), "CSV file", MAX_BYTES)
    for line in _rows(text, reading):
        reading.take(line)
    targets = reading.targets()
    if reading.errors:
        raise ConfigErrors(reading.errors)
    digest = hashlib.sha256(text.encode()).hexdigest()
    origins = {name: tuple(dict.fromkeys(found)) for name, found in reading.origins.items()}
    sources = {a.name: TargetSource("csv", str(path), digest, origins.get(a.name, ())) for a in attributes}
    return AuditTargets(targets, sources)


@dataclass(frozen=True)
class _Row:
    """One row: the text and the column of each field, by name."""

    line: int
    fields: Mapping[str, str]
    columns: Mapping[str, int]


@dataclass
class _Block:
    """The shares of one prompt and attribute, as far as read.

    Attributes:
        first: Its first row; for complaints about the block as a whole.
        shares: Group → sum of its categories' shares.
        lines: Category or group as the file has it → the line that named it.
        doubtful: Whether a row was mistaken, so that sums and missing groups say nothing new.
    """

    first: _Row
    shares: dict[str, float] = field(default_factory=dict)
    lines: dict[str, int] = field(default_factory=dict)
    doubtful: bool = False


@dataclass
class _Reading:
    """What was read from a file so far, and its mistakes."""

    file: str
    prompt_ids: tuple[str, ...]
    attributes: Mapping[str, Attribute]
    categories: CategoryMap
    errors: list[ConfigError] = field(default_factory=list)
    blocks: dict[tuple[str, str], _Block] = field(default_factory=dict)
    origins: dict[str, list[str]] = field(default_factory=dict)

    def note(self, line: int, column: int, where: str, message: str) -> None:
        """Record a mistake."""
        self.errors.append(ConfigError(self.file, line, column, where, message))

    def take(self, row: _Row) -> None:
        """Read one row into its block."""
        prompt, attribute = row.fields["prompt"], row.fields["attribute"]
        known = True
        for name, found, names in (("prompt", prompt, self.prompt_ids), ("attribute", attribute, self.attributes)):
            if found not in names:
                what = "the id of a prompt" if name == "prompt" else "an attribute with targets in this file"
                self.note(row.line, row.columns[name], name, unknown(what, found, tuple(names)) + "; or remove the row")
                known = False
        if not known:
            return
        block = self.blocks.setdefault((prompt, attribute), _Block(row))
        share, group = self.share(row), self.group(row, block)
        if share is None or group is None:
            block.doubtful = True
        elif group:
            block.shares[group] = block.shares.get(group, 0.0) + share
            if row.fields.get("source"):
                self.origins.setdefault(attribute, []).append(row.fields["source"])

    def share(self, row: _Row) -> float | None:
        """Return the share of the row, None if it has none."""
        text = row.fields["share"]
        try:
            share = float(text)
        except ValueError:
            share = math.nan
        if 0 <= share <= 1:
            return share
        hint = f"; write {share / 100:g} for {exact_percent(share / 100)}" if 1 < share <= 100 else ""
        self.note(row.line, row.columns["share"], "share", f"expected a share from 0 to 1, found {text!r}{hint}")
        return None

    def group(self, row: _Row, block: _Block) -> str | None:
        """Return the group that the row counts for, empty for a category left out on purpose, None for a mistake."""
        found, attribute = row.fields["group"], self.attributes[row.fields["attribute"]]
        twin = block.lines.setdefault(folded(found), row.line)
        if twin != row.line:
            message = f"expected each category once for a prompt, found {found!r} again after line {twin}; keep one"
            self.note(row.line, row.columns["group"], "group", message)
            return None
        mapping = self.categories.get(attribute.name)
        if mapping is None:
            mapping = {group: group for group in attribute.groups}
        if found not in mapping:
            what = "a category that the config maps" if attribute.name in self.categories else "a group"
            self.note(row.line, row.columns["group"], "group", unknown(what, found, tuple(mapping)))
            return None
        group = mapping[found]
        if group is not None and row.fields.get("overlaps"):
            message = (
                f"expected categories that exclude each other, found {found!r}, which overlaps "
                f"{row.fields['overlaps']}; take figures that count them apart, or map it to nothing where the others "
                "add up to 1 without it"
            )
            self.note(row.line, row.columns["overlaps"], "overlaps", message)
            return None
        return group or ""

    def targets(self) -> dict[str, dict[str, tuple[float, ...]]]:
        """Return the shares; note what blocks lack as a whole, and what the file lacks."""
        targets: dict[str, dict[str, tuple[float, ...]]] = {prompt_id: {} for prompt_id in self.prompt_ids}
        for (prompt_id, name), block in self.blocks.items():
            groups = self.attributes[name].groups
            problem = None if block.doubtful else _block_problem(block, groups)
            if problem is not None:
                column = block.first.columns["share" if len(block.shares) == len(groups) else "group"]
                self.note(block.first.line, column, f"{prompt_id}.{name}", problem)
            elif not block.doubtful:
                targets[prompt_id][name] = normalised(block.shares, groups)
        # An unknown prompt or attribute above is likely what is missing here, misspelt.
        if not any(error.where in ("prompt", "attribute", "header") for error in self.errors):
            self.note_missing()
        return targets

    def note_missing(self) -> None:
        """Note each attribute for which the file lacks prompts."""
        for name in self.attributes:
            missing = [prompt_id for prompt_id in self.prompt_ids if (prompt_id, name) not in self.blocks]
            if missing:
                more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
                message = f"expected rows for every prompt, found none for {listing(missing[:5])}{more}; add them"
                self.errors.append(ConfigError(self.file, None, None, name, message))


def _rows(text: str, reading: _Reading) -> Iterator[_Row]:
    """Yield the rows below the header; what is no row is noted and left out."""
    header: list[str] | None = None
    for number, line in enumerate(re.split(r"\r\n|\r|\n", text), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        try:
            values = csv_values(line)
        except csv.Error as error:
            reading.note(number, 1, "", f"expected comma-separated values on one line, found a mistake: {error}")
            continue
        fields, columns = [value.text for value in values], [value.column for value in values]
        if header is None:
            header = fields
            if not _header_is_right(header, columns, number, reading):
                return
        elif len(fields) != len(header):
            message = (
                f"expected {len(header)} values as the header has, found {len(fields)}; quote a value with a comma"
            )
            reading.note(number, 1, "", message)
            _doubt(fields, header, reading, number)
        else:
            yield _Row(number, dict(zip(header, fields, strict=True)), dict(zip(header, columns, strict=True)))
    if header is None:
        reading.note(1, 1, "header", f"expected a header ({','.join(REQUIRED_COLUMNS)}) and rows, found nothing")


def _doubt(fields: Sequence[str], header: Sequence[str], reading: _Reading, line: int) -> None:
    """Mark the block of a broken row, whose sum would only repeat that the row is broken."""
    named = dict(zip(header, fields, strict=False))
    prompt, attribute = named.get("prompt", ""), named.get("attribute", "")
    if prompt in reading.prompt_ids and attribute in reading.attributes:
        row = _Row(line, named, dict.fromkeys(header, 1))
        reading.blocks.setdefault((prompt, attribute), _Block(row)).doubtful = True


def _header_is_right(header: Sequence[str], columns: Sequence[int], line: int, reading: _Reading) -> bool:
    known = (*REQUIRED_COLUMNS, *OPTIONAL_COLUMNS)
    before = len(reading.errors)
    for index, (name, column) in enumerate(zip(header, columns, strict=True)):
        if name not in known:
            reading.note(line, column, "header", unknown("a column", name, known) + "; or remove it")
        elif name in header[:index]:
            reading.note(line, column, "header", f"expected each column once, found {name!r} again; keep one")
    missing = [name for name in REQUIRED_COLUMNS if name not in header]
    if missing:
        message = (
            f"expected the columns {listing(REQUIRED_COLUMNS)}, found no {listing(missing)}; add them to the header"
        )
        reading.note(line, 1, "header", message)
    return len(reading.errors) == before


def _block_problem(block: _Block, groups: Sequence[str]) -> str | None:
    missing = [group for group in groups if group not in block.shares]
    if missing:
        return (
            f"expected a share for each group ({listing(groups)}), found none for {listing(missing)}; write 0 for none"
        )
    return None if adds_up(block.shares.values()) else wrong_sum(math.fsum(block.shares.values()))
