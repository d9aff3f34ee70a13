"""Checks a closed model: existing pictures can all be decoded, and an endpoint has its client and key here."""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib.util import find_spec

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
