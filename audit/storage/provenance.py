"""Provenance of a run: model fingerprint, versions, machine and time, so that results can be compared and repeated."""

from __future__ import annotations

import hashlib
import json
import platform
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = (
    "difflens-audit",
    "torch",
    "torchvision",
    "diffusers",
    "transformers",
    "tokenizers",
    "sentencepiece",
    "safetensors",
    "accelerate",
    "peft",
    "open_clip_torch",
    "timm",
    "lpips",
    "onnxruntime",
    "dlib-bin",
    "numpy",
    "scipy",
    "pillow",
    "pandas",
    "pyarrow",
    "pydantic",
    "ray",
    "mlflow",
)
"""Packages whose version can change a result or its storage format. Older provenance lacks some of them."""

WEIGHT_FILES = ("**/*.safetensors", "**/*.json")
"""Files that define a model: its weights and their configs."""

CONFIG_FILES = ("**/*.json", "**/*.txt", "**/*.model")
"""Files that define a model beside the file of its weights: configs and tokenizers."""

CODE_FILES = ("**/*.py",)
"""Files of the package ``audit``, which defines what is computed; their hash also identifies a changed work tree."""

_CHUNK_BYTES = 1 << 20
_SHORT = 12


def collect_provenance(model_fingerprint: str, devices: Sequence[str] = ()) -> dict[str, Any]:
    """Return time, machine, versions and model fingerprint as plain data.

    Args:
        model_fingerprint: Fingerprint of the audited model, from :func:`audit.models.source.model_fingerprint`.
        devices: Names of the accelerators in use; empty for a run on the CPU.
    """
    return {
        "model_fingerprint": model_fingerprint,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": cpu_model(),
        "devices": list(devices) or ["cpu"],
        "versions": package_versions(PACKAGES),
        "code": fingerprint(Path(__file__).parents[1], CODE_FILES),
        "git_revision": git_revision(Path.cwd()),
    }


def package_versions(names: Iterable[str]) -> dict[str, str]:
    """Return the installed version of each package, or ``not installed``."""
    versions = {}
    for name in names:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "not installed"
    return versions


def cpu_model() -> str:
    """Return the name of this machine's processor, or its architecture if the name is unknown."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.processor() or platform.machine()


def git_revision(directory: Path) -> str | None:
    """Return the commit of a work tree, with ``+changes`` if files differ from it; None outside a git repository."""
    commit = _git(directory, "rev-parse", "HEAD")
    if not commit:
        return None
    changed = _git(directory, "status", "--porcelain", "--untracked-files=no")
    return f"{commit}+changes" if changed else commit


def _git(directory: Path, *arguments: str) -> str | None:
    command = ["git", "-C", str(directory), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):  # a missing git or a file system that hangs must not fail an audit
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def fingerprint(directory: Path, patterns: Sequence[str] = WEIGHT_FILES) -> str:
    """Hash the files of a directory: their paths relative to it, their sizes and their bytes, in sorted order.

    Args:
        directory: For example a diffusers pipeline; every copy of it has the same fingerprint.
        patterns: Globs relative to the directory.

    Returns:
        ``sha256:`` and 64 hexadecimal digits.

    Raises:
        FileNotFoundError: If no file matches.
    """
    files = sorted({path for pattern in patterns for path in directory.glob(pattern) if path.is_file()})
    if not files:
        raise FileNotFoundError(f"expected files like {', '.join(patterns)} in {directory}, found none; check the path")
    digest = hashlib.sha256()
    for path in files:
        digest.update(f"{path.relative_to(directory).as_posix()}\0{path.stat().st_size}\0".encode())
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                digest.update(chunk)
    return f"sha256:{digest.hexdigest()}"


def content_name(kind: str, version: int, model_fingerprint: str, settings: Mapping[str, Any]) -> str:
    """Return a name such as ``lens-0a1b…`` that is a hash of all inputs, so that equal inputs are computed only once.

    Args:
        kind: Kind of the artefact, the first part of the name.
        version: Version of its format.
        model_fingerprint: Fingerprint of the model.
        settings: All other inputs, as plain data.
    """
    text = json.dumps([version, model_fingerprint, settings], sort_keys=True)
    return f"{kind}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def short_fingerprint(weights: Path, patterns: Sequence[str] = WEIGHT_FILES) -> str:
    """Return 12 hexadecimal digits that identify a network's weights in a signature.

    Args:
        weights: A file, whose digits are the first ones that ``sha256sum`` prints, or a directory, as in
            ``fingerprint``.
        patterns: Globs of the files of a directory that are hashed.

    Raises:
        FileNotFoundError: If the file does not exist, or no file in the directory matches.
    """
    if weights.is_dir():
        return fingerprint(weights, patterns).removeprefix("sha256:")[:_SHORT]
    return sha256_of(weights)[:_SHORT]


def sha256_of(file: Path) -> str:
    """Return the digest that ``sha256sum`` prints for a file.

    Raises:
        FileNotFoundError: If the file does not exist.
    """
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
