"""Reads the file of a benchmark into audits: one for each model and attribute, whose arms are the methods.

The tree of the file becomes one tree for each audit, whose nodes keep their lines. Errors of any audit are reported
where the file of the benchmark has the value.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from audit.config.benchmark.sections import OF_A_METHOD, BenchmarkConfig, BenchmarkMethod
from audit.config.document.parts import mapping, placed, positions, relocated, scalar
from audit.config.document.tree import Node
from audit.config.errors import ConfigError, ConfigErrors
from audit.config.file import Check, Findings, audit_of_tree, read_tree, validated
from audit.config.settings import AuditConfig


@dataclass(frozen=True)
class BenchmarkAudit:
    """One audit of a benchmark.

    Attributes:
        model: Name of the model in the benchmark.
        attributes: Attributes that its arms balance; several if one arm balances them together.
        methods: Arm → name of its method.
        config: The audit.
        held_out: Whether it has the held-out prompts, and the fits of the audit of the other prompts.
        control: Name of the control whose prompts it has, with the same fits; empty for none.
    """

    model: str
    attributes: tuple[str, ...]
    methods: Mapping[str, str]
    config: AuditConfig
    held_out: bool = False
    control: str = ""

    @property
    def is_main(self) -> bool:
        """Whether the methods are fitted with its prompts, and ranked by them."""
        return not self.held_out and not self.control

    @property
    def title(self) -> str:
        """The model, what is balanced, and which prompts it has if they are others."""
        control = f", control prompts {self.control}" if self.control else ""
        return f"{self.model}, {' and '.join(self.attributes)}{', held-out prompts' * self.held_out}{control}"


@dataclass(frozen=True)
class Benchmark:
    """A benchmark and its audits: for each model and attribute one, followed by that of the held-out prompts."""

    config: BenchmarkConfig
    audits: tuple[BenchmarkAudit, ...]

    @property
    def output(self) -> str:
        """Directory of the runs, which all audits share."""
        return self.audits[0].config.output


def read_benchmark(path: Path | str, overrides: Sequence[str] = (), checks: Sequence[Check] = ()) -> Benchmark:
    """Read the file of a benchmark and validate every audit in it.

    Args:
        path: The YAML file.
        overrides: ``a.b=value`` settings that replace those of the file.
        checks: Further checks of each audit.

    Raises:
        ConfigErrors: All errors found, in file order.
    """
    root, findings = read_tree(Path(path), overrides)
    written = positions(root)
    config = validated(root, findings, BenchmarkConfig)
    if config is None or findings.errors:
        raise ConfigErrors(findings.errors)
    audits, errors = [], list[ConfigError]()
    for planned in _planned(config):
        tree = _tree(root, config, planned)
        try:
            audits.append(replace(planned, config=audit_of_tree(tree, Findings([]), checks)))
        except ConfigErrors as mistakes:
            errors += [placed(error, written) for error in mistakes.errors]
    if errors:
        raise ConfigErrors(errors)
    return Benchmark(config, tuple(audits))


def _planned(config: BenchmarkConfig) -> Iterator[BenchmarkAudit]:
    """Yield the audits, whose config is not known yet."""
    own = [method.own_attribute for method in config.methods if method.own_attribute]
    balanced: dict[frozenset[str], tuple[str, ...]] = {}  # parts in another order balance the same attributes
    for names in [*((name,) for name in config.attributes), *own]:
        balanced.setdefault(frozenset(names), names)
    placeholder = AuditConfig(name="planned")
    for model in config.models:
        for attributes in balanced.values():
            arms = {arm: one.name for one in config.methods if _tries(config, one, attributes) for arm in one.arms}
            if arms:
                yield BenchmarkAudit(model, attributes, arms, placeholder)
                if config.held_out:
                    yield BenchmarkAudit(model, attributes, arms, placeholder, held_out=True)
                for control in config.controls:
                    yield BenchmarkAudit(model, attributes, arms, placeholder, control=control.name)


def _tries(config: BenchmarkConfig, method: BenchmarkMethod, attributes: tuple[str, ...]) -> bool:
    if method.own_attribute:
        return set(method.own_attribute) == set(attributes)
    return len(attributes) == 1 and attributes[0] in (method.only or config.attributes)


def _tree(root: Node, config: BenchmarkConfig, planned: BenchmarkAudit) -> Node:
    """Return the tree of one audit; what the benchmark itself sets has the place of what it comes from."""
    base, own = root.child("base"), _below(root, "models", planned.model)
    keys = dict(base.value if base is not None else {}) | dict(own.value if own is not None else {})
    plain = "-and-".join(name.replace(" ", "-").replace("+", "") for name in planned.attributes)
    parts = [config.name, planned.model, *["held-out"] * planned.held_out, planned.control, plain]
    keys["name"] = scalar(root, "-".join(filter(None, parts))[:60].rstrip("-._"))
    if planned.held_out:
        prompts = keys.get("prompts")
        of_prompts = dict(prompts.value) if prompts is not None and isinstance(prompts.value, dict) else {}
        keys["prompts"] = mapping(prompts or root, of_prompts | {"occupations": root.value["held_out"]})
    if planned.control:
        number = [control.name for control in config.controls].index(planned.control)
        control = root.value["controls"].value[number]
        prompts = keys.get("prompts")
        of_prompts = dict(prompts.value) if prompts is not None and isinstance(prompts.value, dict) else {}
        replaced = {key: node for key, node in control.value.items() if key != "name"}
        keys["prompts"] = mapping(prompts or root, of_prompts | replaced)
    keys["mitigations"] = replace(root.value["methods"], value=list(_mitigations(root, config, planned)))
    return relocated(mapping(root, keys), ())


def _mitigations(root: Node, config: BenchmarkConfig, planned: BenchmarkAudit) -> Iterator[Node]:
    for index, method in enumerate(config.methods):
        if not _tries(config, method, planned.attributes):
            continue
        entry = root.value["methods"].value[index]
        here = _below(entry, "models", planned.model)
        shared = {key: node for key, node in entry.value.items() if key not in OF_A_METHOD}
        shared |= dict(here.value) if here is not None else {}
        if not method.own_attribute:
            shared["attribute"] = _attribute(root, config, planned.attributes[0])
        for arm, setting in zip(method.arms, method.settings or (None,), strict=True):
            settings = _below(entry, "settings", setting) if setting is not None else None
            own = dict(settings.value) if settings is not None else {}
            yield mapping(settings or entry, {**shared, **own, "name": scalar(settings or entry, arm)})


def _attribute(root: Node, config: BenchmarkConfig, name: str) -> Node:
    """Return the attribute, where the file names it."""
    trail = root.trail(("attributes", config.attributes.index(name)))
    return scalar(trail[-1], name)


def _below(node: Node, *steps: str) -> Node | None:
    """Return the node under keys, None if one of them is missing."""
    found: Node | None = node
    for step in steps:
        found = None if found is None else found.child(step)
    return found
