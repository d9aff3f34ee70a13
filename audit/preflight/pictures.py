"""Checks pictures that a config names, and closed models: an endpoint has its client and key here."""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from audit.config.optional.exploration import PicturesConfig
from audit.config.problems import Location, Problem, listing
from audit.config.sections import ModelConfig, SamplingConfig
from audit.planning.pictures import PictureErrors, picture_groups

_READS: tuple[Location, ...] = (("model", "source"), ("model", "drawings"))

_SHOWN = 5
"""Unusable files that a message lists."""


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


def check_endpoint(model: ModelConfig) -> Iterator[Problem]:
    """Find a missing client or key of an endpoint; the endpoint itself is not asked, since requests may cost money.

    Args:
        model: Section ``model`` with ``source: api``.

    Yields:
        Problems, each with its place in the config.
    """
    if find_spec("openai") is None:
        message = "expected the package openai, which asks endpoints, found none; pip install 'difflens-audit[api]'"
        yield Problem(("model", "source"), message)
    variable = model.api_key_env
    if variable is not None and not os.environ.get(variable, "").strip():
        message = f"expected a key in the environment variable {variable}, found none; set it, here and where the"
        remedy = "workers run, or set api_key_env: null if the endpoint needs no key"
        yield Problem(("model", "api_key_env"), f"{message} {remedy}", reads=_READS)


def check_budget(model: ModelConfig, images: int) -> Iterator[Problem]:
    """Find limits that are too low for the images of a plan.

    Args:
        model: Section ``model`` with ``source: api``.
        images: Images of the plan, one request each.
    """
    limits = model.limits
    if limits.max_requests is not None and limits.max_requests < images:
        message = f"expected at least the {images:,} requests of this plan, found {limits.max_requests:,}; raise it"
        yield Problem(("model", "limits", "max_requests"), message, reads=_READS)
    price, most = limits.price_per_image, limits.max_cost
    if price is not None and most is not None and round(price * images, 9) > most:
        message = (
            f"expected at least the cost of the {images:,} images of this plan, {price * images:g}, found {most:g}"
        )
        reads = (*_READS, ("model", "limits", "price_per_image"))
        yield Problem(("model", "limits", "max_cost"), f"{message}; raise it, or plan fewer images", reads)


def check_read_pictures(
    pictures: PicturesConfig, model: ModelConfig, sampling: SamplingConfig, unreadable: str | None
) -> Iterator[Problem]:
    """Find what stops ``explore.pictures``: a model without a readable inside, no such step, files that are damaged.

    Args:
        pictures: Section ``explore.pictures``.
        model: Section ``model``.
        sampling: Section ``sampling``.
        unreadable: Why nothing can be read inside the model; None if it can.

    Yields:
        Problems, each with its place in the config; all files in one.
    """
    if pictures.folder is None:
        return
    from audit.models.families.registry import steps_here

    at: Location = ("explore", "pictures", "folder")
    if unreadable is not None:
        message = f"pictures are read inside a text-to-image model; {unreadable}, or remove explore.pictures"
        yield Problem(at, message, reads=(("model", "source"),))
        return
    steps = steps_here(model, sampling)
    if steps < 2 or (pictures.step or 1) >= steps:
        found = "one step" if steps < 2 else f"step {pictures.step}, counted from 0"
        message = (
            f"expected a step from 1 to {max(1, steps - 1)} of {steps}, found {found}; change explore.pictures.step"
        )
        yield Problem(("explore", "pictures", "step"), message, reads=(("sampling", "steps"),))
    reason = _unusable_folder(Path(pictures.folder))
    if reason is not None:
        yield Problem(at, reason)


def _unusable_folder(folder: Path) -> str | None:
    from audit.storage.outside.picture_folder import SUFFIXES, picture_folder, unreadable_pictures

    if not folder.is_dir():
        return f"expected a folder of pictures, found none at {folder}; check the path"
    found = picture_folder(folder)
    unusable = (*found.unusable, *unreadable_pictures(found.pictures))
    if unusable:
        listed = "; ".join(f"{one.path.relative_to(folder)}: {one.reason}" for one in unusable[:_SHOWN])
        more = f"; and {len(unusable) - _SHOWN} more" if len(unusable) > _SHOWN else ""
        return f"expected pictures that can be read, found {len(unusable)} that cannot in {folder}: {listed}{more}"
    if not found.pictures:
        return f"expected at least one picture ({listing(sorted(SUFFIXES))}) in {folder}, found none; add some"
    return None
