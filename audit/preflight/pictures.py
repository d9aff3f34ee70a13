"""Checks the pictures of an audit of existing pictures: every file is decoded before any work."""

from __future__ import annotations

from collections.abc import Iterator

from audit.config.problems import Location, Problem
from audit.config.sections import ModelConfig
from audit.planning.pictures import PictureErrors, picture_groups

_READS: tuple[Location, ...] = (("model", "source"), ("model", "drawings"))


def check_pictures(model: ModelConfig) -> Iterator[Problem]:
    """Find pictures that cannot be read, and pictures that the bundled networks cannot measure.

    Args:
        model: Section ``model`` with ``source: images``.

    Yields:
        Problems at the folder or the manifest, with the line of the picture in it; none if these cannot be read, which
        :func:`audit.preflight.prompts.check_occupations` reports.
    """
    from audit.calibration.canvas import SIZE
    from audit.storage.outside.picture_folder import unreadable_pictures

    try:
        groups = picture_groups(model)
    except PictureErrors:
        return
    lines = {picture.path: picture.line for group in groups for picture in group.pictures}
    at: Location = ("model", "folder" if model.folder is not None else "manifest")
    for found in unreadable_pictures(tuple(lines), SIZE if model.drawings else None):
        line = lines[found.path]
        where = "" if line is None else f"{model.manifest}:{line}: "
        message = f"{where}expected pictures that can be read, found {found.path}: {found.reason}"
        yield Problem(at, message, reads=_READS)
