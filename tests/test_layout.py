"""Tests that every package has a limited size, and states what it may import."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TOP = ("audit", "ray_jobs", "reports")
MOST_MODULES = 12
FEWEST_LINES = 25
SHORT = {"audit/models/device.py", "ray_jobs/__main__.py", "reports/export/files.py"}
"""Exceptions from the minimum size, explained in docs/decisions/0025-packages-by-topic.md; Python names the second."""

PACKAGES = sorted(path.parent for top in TOP for path in (ROOT / top).rglob("__init__.py"))
each_package = pytest.mark.parametrize("package", PACKAGES, ids=lambda package: str(package.relative_to(ROOT)))


def modules_of(package):
    return sorted(path for path in package.glob("*.py") if path.name != "__init__.py")


@each_package
def test_a_package_docstring_states_what_it_may_import(package):
    docstring = ast.get_docstring(ast.parse((package / "__init__.py").read_text(encoding="utf-8")))
    assert docstring
    assert "import" in docstring.lower()


@each_package
def test_a_package_has_a_readable_number_of_modules(package):
    assert len(modules_of(package)) <= MOST_MODULES


@each_package
def test_no_module_is_too_short_to_be_one(package):
    short = {
        str(path.relative_to(ROOT))
        for path in modules_of(package)
        if len(path.read_text(encoding="utf-8").splitlines()) < FEWEST_LINES
    }
    assert short <= SHORT


def test_audit_holds_packages_alone():
    assert modules_of(ROOT / "audit") == []


def test_every_directory_with_code_is_a_package():
    directories = {path.parent for top in TOP for path in (ROOT / top).rglob("*.py")}
    assert directories == set(PACKAGES)


WHOLE_CONFIG = {
    "audit/config/benchmark/read.py",  # makes one for each model and attribute of a benchmark
    "audit/config/file.py",  # reads it
    "audit/config/models/read.py",  # makes one for each model of a file
    "audit/config/schema.py",  # writes its JSON schema
    "audit/config/settings.py",  # defines it
    "audit/config/slices.py",  # makes its slices
    "audit/preflight/readiness.py",  # makes the slices for the checks
    "audit/results/comparison/slots.py",  # hashes it into the name of a series
    "ray_jobs/cli/commands.py",
    "ray_jobs/cli/doctor.py",
    "ray_jobs/cli/schedule.py",
    "ray_jobs/cluster/relative_paths.py",  # looks for paths in every section
    "ray_jobs/cluster/submit.py",  # sends it to a cluster as a file
    "ray_jobs/run/audit.py",
    "ray_jobs/run/replay.py",
    "ray_jobs/schedule/slot.py",
}
"""Modules that may name the whole config, see docs/decisions/0028-functions-take-slices-of-the-config.md."""


def test_only_the_edge_holds_the_whole_config():
    names = {"AuditConfig", "AuditSections"}
    found = set()
    for top in TOP:
        for path in (ROOT / top).rglob("*.py"):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
            used |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names}
            if used & names:
                found.add(str(path.relative_to(ROOT)))
    of_sections = {"audit/config/sections.py", "audit/config/agreement.py"}
    assert found - of_sections == WHOLE_CONFIG
