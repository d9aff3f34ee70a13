"""Every package that an audit runs with is pinned to one version, from no particular host, none below its floor."""

import re
import tomllib
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
LINES = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and not line.startswith("#")]
PINNED = {canonicalize_name(line.split("==")[0]): line.split("==")[1] for line in LINES}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def needed():
    """Every distribution that the project asks for here, directly or through others."""
    asked = [*PROJECT["dependencies"], *(r for extra in PROJECT["optional-dependencies"].values() for r in extra)]
    todo, found = [(Requirement(text), "") for text in asked], set()
    while todo:
        requirement, extra = todo.pop()
        name = canonicalize_name(requirement.name)
        if (requirement.marker and not requirement.marker.evaluate({"extra": extra})) or name in found:
            continue
        try:
            own = metadata.requires(name) or []
        except metadata.PackageNotFoundError:  # an extra that this environment leaves out
            continue
        found.add(name)
        todo += [(Requirement(text), extra) for text in own for extra in ("", *requirement.extras)]
    return found


def test_every_line_is_one_exact_version_and_names_no_host():
    assert not [line for line in LINES if not re.fullmatch(r"[A-Za-z0-9_.-]+==[A-Za-z0-9_.+]+", line)]
    assert len(PINNED) == len(LINES)


def test_everything_that_is_needed_is_pinned_to_what_is_installed():
    found = {name: metadata.version(name) for name in needed()}
    assert len(found) > 50
    assert {
        n: v for n, v in found.items() if PINNED.get(n) != v and n not in ("setuptools", "pip", "difflens-audit")
    } == {}


def test_no_pin_is_below_the_floor_that_the_project_asks_for():
    floors = [Requirement(text) for text in PROJECT["dependencies"]]
    assert [str(floor) for floor in floors if not floor.specifier.contains(PINNED[canonicalize_name(floor.name)])] == []
