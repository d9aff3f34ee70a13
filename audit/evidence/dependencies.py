"""Lists the installed packages with versions and licences, as a document in the layout of SPDX 2.3."""

from __future__ import annotations

import re
from importlib import metadata
from typing import Any

SPDX_VERSION = "SPDX-2.3"

UNKNOWN = "NOASSERTION"
"""SPDX's word for a value that is not stated."""

_EXPRESSION = re.compile(r"[A-Za-z0-9.+-]+( (AND|OR|WITH) [A-Za-z0-9.+-]+)*")
_CLASSIFIER = "License :: "
_LONGEST = 200
"""Characters of a licence field; some packages put the whole licence text there."""


def installed_packages(created: str, name: str) -> dict[str, Any]:
    """Return the packages of this environment, sorted by name.

    Only a package that states an SPDX expression in ``License-Expression`` has it as its declared licence. What other
    packages say in words is quoted as a comment and not translated.

    Args:
        created: Time of the document, ISO 8601 in UTC.
        name: Name of what the document belongs to.
    """
    found = {str(one.metadata["Name"]): one for one in metadata.distributions() if one.metadata["Name"]}
    return {
        "spdxVersion": SPDX_VERSION,
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": name,
        "documentNamespace": f"https://spdx.org/spdxdocs/{name}",
        "creationInfo": {
            "created": created,
            "creators": [f"Tool: difflens-audit-{metadata.version('difflens-audit')}"],
        },
        "comment": "Packages installed where the bundle was made; the provenance has the versions of the run.",
        "packages": [_package(found[own]) for own in sorted(found, key=str.lower)],
    }


def _package(one: metadata.Distribution) -> dict[str, str]:
    name, stated = str(one.metadata["Name"]), _field(one, "License-Expression")
    in_words = _in_words(one)
    return {
        "SPDXID": f"SPDXRef-Package-{re.sub(r'[^A-Za-z0-9.-]', '-', name)}",
        "name": name,
        "versionInfo": one.version,
        "downloadLocation": UNKNOWN,
        "licenseConcluded": UNKNOWN,
        "licenseDeclared": stated if _EXPRESSION.fullmatch(stated) else UNKNOWN,
        **({"licenseComments": in_words} if in_words and not stated else {}),
    }


def _field(one: metadata.Distribution, name: str) -> str:
    return str(one.metadata[name]).strip() if name in one.metadata else ""


def _in_words(one: metadata.Distribution) -> str:
    """Return what a package says about its licence in its classifiers, or else in a short licence field."""
    classifiers = [str(line) for line in one.metadata.get_all("Classifier") or () if str(line).startswith(_CLASSIFIER)]
    named = [line.rpartition(" :: ")[2] for line in classifiers]
    field = _field(one, "License")
    return "; ".join(named) or (field if len(field) <= _LONGEST and "\n" not in field else "")
