"""Builds this project's running code as a wheel, for a cluster whose nodes have only its dependencies."""

from __future__ import annotations

import base64
import hashlib
import zipfile
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

PACKAGES = ("audit", "reports", "ray_jobs")
NAME = "difflens_audit"
WEIGHTS = "audit/calibration/weights/"
"""Directory of the bundled weights; packages of code may have the same name."""

EPOCH = (2020, 1, 1, 0, 0, 0)
"""Modification time of every file in the wheel, so that equal code gives equal bytes."""


def build_wheel(directory: Path, *, with_weights: bool) -> Path:
    """Write the wheel and return its path; equal code gives an equal name and equal bytes.

    The wheel declares no dependencies. Ray installs wheels with pip, and a worker must not install torch at its start;
    dependencies belong in the image of the cluster's nodes. The version contains a hash of the content, since Ray
    treats wheels of the same name as equal.

    Args:
        directory: Output directory.
        with_weights: Whether the audit uses the bundled weights.
    """
    files = {name: content for package in PACKAGES for name, content in _files_of(package, with_weights).items()}
    digest = hashlib.sha256(b"".join(name.encode() + content for name, content in sorted(files.items())))
    release = f"{version('difflens-audit')}+{digest.hexdigest()[:12]}"
    info = f"{NAME}-{release}.dist-info"
    files |= {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: difflens-audit\nVersion: {release}\n".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: difflens-audit\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files[f"{info}/RECORD"] = _record(files, info)
    path = directory / f"{NAME}-{release}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as wheel:
        for name, content in files.items():
            wheel.writestr(zipfile.ZipInfo(name, EPOCH), content, zipfile.ZIP_DEFLATED)
    return path


def _files_of(package: str, with_weights: bool) -> dict[str, bytes]:
    """Map names in the wheel to contents, without compiled files."""
    found = import_module(package).__file__
    if found is None:
        raise ImportError(f"package {package} has no directory on disk; install the project again")
    root = Path(found).parent
    names = {f"{package}/{path.relative_to(root).as_posix()}": path for path in sorted(root.rglob("*"))}
    return {
        name: path.read_bytes()
        for name, path in names.items()
        if path.is_file() and "__pycache__" not in path.parts and (with_weights or not name.startswith(WEIGHTS))
    }


def _record(files: dict[str, bytes], info: str) -> bytes:
    lines = [f"{name},sha256={_hash(content)},{len(content)}" for name, content in files.items()]
    return "\n".join([*lines, f"{info}/RECORD,,", ""]).encode()


def _hash(content: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
