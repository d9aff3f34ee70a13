"""Keys of models that nobody can open: pictures without the network that made them.

All keys are in the section ``model``. A key belongs to one source and is refused beside another.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pydantic import Field

from audit.config.fields import IMAGES, Section, Text
from audit.config.problems import Location, Problem


class PictureKeys(Section):
    """Pictures that exist already, for ``source: images``."""

    folder: Text | None = None
    """For ``images``: a directory with one folder of pictures per prompt. The name of a folder is its occupation; ``_``
    and ``-`` count as spaces. The text of the prompts is ``prompts.template``."""
    manifest: Text | None = None
    """For ``images``: a CSV file with the columns ``path,prompt`` and, optionally, ``occupation`` and ``seed``. Paths
    start from the directory of the file. Without ``occupation``, a prompt is named by its text."""
    longest_side: int = Field(1024, ge=16, le=8192)
    """For ``images``: largest width and height, in pixels, at which a picture is measured. Larger pictures are scaled
    down first (Lanczos, same aspect ratio); others stay as they are, so pictures may have different sizes."""
    drawings: bool = False
    """For ``images``: whether the pictures show drawn faces of a calibration world, 64 × 64 pixels. Only then can the
    bundled judge, CLIP and feature network measure them."""


OWN_KEYS: Mapping[str, tuple[str, ...]] = {
    IMAGES: ("folder", "manifest", "longest_side", "drawings"),
}
"""Closed source → its own keys of the section ``model``."""

OPEN_KEYS = ("revision", "variant", "dtype")
"""Keys of a network, which a closed source does not have."""


def closed_problems(source: str, changed: Mapping[str, object]) -> Iterator[Problem]:
    """Find keys of another source, and keys that a closed source lacks.

    Args:
        source: ``model.source``.
        changed: Keys of the section ``model`` that differ from their defaults, with their values.
    """
    own = OWN_KEYS.get(source, ())
    reads: tuple[Location, ...] = (("model", "source"),)
    for key in changed:
        owners = [name for name, keys in OWN_KEYS.items() if key in keys]
        if owners and key not in own:
            message = f"expected no {key} beside source: {source}, found one; remove it, or set source: {owners[0]}"
            yield Problem(("model", key), message, reads)
        elif own and key in OPEN_KEYS:
            message = f"expected no {key} for {source!r}, which has no weights to load, found one; remove it"
            yield Problem(("model", key), message, reads)
    if source == IMAGES:
        yield from _picture_problems(changed)


def _picture_problems(changed: Mapping[str, object]) -> Iterator[Problem]:
    named = [key for key in ("folder", "manifest") if key in changed]
    if not named:
        message = "expected folder (a directory with a folder per prompt) or manifest (a CSV file), found none; add one"
        yield Problem(("model", "source"), message, reads=(("model", "folder"), ("model", "manifest")))
    if len(named) == 2:
        message = "expected folder or manifest, found both; remove one"
        yield Problem(("model", "manifest"), message, reads=(("model", "folder"),))
    if "world" in changed and "drawings" not in changed:
        message = "expected no world beside pictures that are no drawings of one, found one; remove it"
        yield Problem(("model", "world"), f"{message}, or set drawings: true", reads=(("model", "drawings"),))
