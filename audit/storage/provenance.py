"""What was run, on what, when: enough to tell two results apart, and to make one of them again."""

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
    "diffusers",
    "transformers",
    "open_clip_torch",
    "numpy",
    "scipy",
    "pandas",
    "pyarrow",
    "ray",
    "mlflow",
)
"""Packages whose version can change a result or how it is stored."""

WEIGHT_FILES = ("**/*.safetensors", "**/*.json")
"""What makes a model: its weights and the configs that say how to read them."""

_CHUNK_BYTES = 1 << 20
_SHORT = 12


def collect_provenance(model_fingerprint: str, devices: Sequence[str] = ()) -> dict[str, Any]:
    """Describe this moment on this machine as plain data.

    Args:
        model_fingerprint: Of the audited model, from :func:`audit.models.source.model_fingerprint`.
        devices: Names of the accelerators in use; none means that the CPU did the work.
    """
    return {
        "model_fingerprint": model_fingerprint,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": cpu_model(),
        "devices": list(devices) or ["cpu"],
        "versions": package_versions(PACKAGES),
        "git_revision": git_revision(Path.cwd()),
    }


def package_versions(names: Iterable[str]) -> dict[str, str]:
    """Return the installed version of each package, ``not installed`` where there is none."""
    versions = {}
    for name in names:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "not installed"
    return versions


def cpu_model() -> str:
    """Name this machine's processor; the architecture where the system tells no more."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.processor() or platform.machine()


def git_revision(directory: Path) -> str | None:
    """Return the commit of a work tree, with ``+changes`` where files differ from it; None outside of git."""
    commit = _git(directory, "rev-parse", "HEAD")
    if not commit:
        return None
    changed = _git(directory, "status", "--porcelain", "--untracked-files=no")
    return f"{commit}+changes" if changed else commit


def _git(directory: Path, *arguments: str) -> str | None:
    command = ["git", "-C", str(directory), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):  # no git here, or a file system that hangs: no reason to fail an audit
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def fingerprint(directory: Path, patterns: Sequence[str] = WEIGHT_FILES) -> str:
    """Hash the files of a directory: their paths relative to it, their sizes and their bytes, in sorted order.

    Args:
        directory: For example a diffusers pipeline; another copy of it has the same fingerprint.
        patterns: Globs relative to the directory.

    Returns:
        ``sha256:`` and 64 hexadecimal digits.

    Raises:
        FileNotFoundError: If no file matches: nothing has no fingerprint.
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
    """Name what was made of a model by all that decides it, so that the same is made once: ``lens-0a1b…``.

    Args:
        kind: What it is, the beginning of the name.
        version: Of its format.
        model_fingerprint: Of the model.
        settings: What decides it beside the model, as plain data.
    """
    text = json.dumps([version, model_fingerprint, settings], sort_keys=True)
    return f"{kind}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def short_fingerprint(weights: Path, patterns: Sequence[str] = WEIGHT_FILES) -> str:
    """Return 12 hexadecimal digits that tell one network's weights from another's in a signature.

    Args:
        weights: A file, whose digits are those that ``sha256sum`` prints first, or a directory, as in ``fingerprint``.
        patterns: What counts in a directory.

    Raises:
        FileNotFoundError: If there is no such file, or nothing that counts in the directory.
    """
    if weights.is_dir():
        return fingerprint(weights, patterns).removeprefix("sha256:")[:_SHORT]
    with weights.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:_SHORT]
