"""Checks the networks and the reference pictures that quality is measured with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from audit.config.problems import Problem, listing
from audit.config.settings import AuditConfig
from audit.preflight.instrument_checks import check_networks


def check_quality(config: AuditConfig) -> Iterator[Problem]:
    """Find networks that cannot be used, and reference pictures that cannot be read.

    Yields:
        Problems, each with its place in the config.
    """
    quality = config.quality
    yield from check_networks(config)
    if quality.reference is not None:
        yield from _reference(Path(quality.reference), quality.features)


def _reference(directory: Path, features: str) -> Iterator[Problem]:
    """Decode every reference picture: one that cannot be used would otherwise end the audit after its other work."""
    from audit.calibration.canvas import SIZE
    from audit.storage.outside.picture_folder import SUFFIXES, picture_folder, unreadable_pictures

    at = ("quality", "reference")
    if not directory.is_dir():
        yield Problem(at, f"expected a directory with images, found none at {directory}; check the path")
        return
    folder = picture_folder(directory)
    if len(folder.pictures) < 2:
        kinds = listing(sorted(SUFFIXES))
        message = f"expected at least 2 images ({kinds}) in {directory}, found {len(folder.pictures)}"
        yield Problem(at, f"{message}; add some")
    side = SIZE if features == "bundled" else None  # the bundled network reads drawings as they are
    reads = (("quality", "features"),) if side else ()  # a mistaken network hides no picture that none could read
    for found in (*folder.unusable, *unreadable_pictures(folder.pictures, side)):
        message = f"expected images that can be read, found {found.path}: {found.reason}"
        yield Problem(at, message, reads=reads)
