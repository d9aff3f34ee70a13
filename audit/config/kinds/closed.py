"""Keys of models without weights here: pictures that exist already, and hosted endpoints.

All keys are in the section ``model``. A key belongs to one source and is refused beside another.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import Field, StringConstraints

from audit.config.fields import API, IMAGES, LOOPBACK, SIZE, EnvironmentName, Section, Text
from audit.config.problems import Location, Problem
from audit.storage.outside.safe_text import redact


class PictureKeys(Section):
    """Pictures that exist already, for ``source: images``."""

    folder: Text | None = None
    """For ``images``: a directory with one folder of pictures per prompt. The name of a folder is its occupation; ``_``
    and ``-`` count as spaces. The text of the prompts is ``prompts.template``."""
    manifest: Text | None = None
    """For ``images``: a CSV file with the columns ``path,prompt`` and, optionally, ``occupation`` and ``seed``. Paths
    start from the directory of the file. Without ``occupation``, a prompt is named by its text."""
    longest_side: int = Field(1024, ge=16, le=8192)
    """For ``images`` and ``api``: largest width and height, in pixels, at which a picture is measured. Larger pictures
    are scaled down first (Lanczos, same aspect ratio); others stay as they are, so sizes may differ."""
    drawings: bool = False
    """For ``images`` and ``api``: whether the pictures show drawn faces of a calibration world, 64 × 64 pixels. Only
    then can the bundled judge, CLIP and feature network measure them."""


class LimitsConfig(Section):
    """Limits on the requests to an endpoint. They may change when a run is resumed, because they change no image."""

    concurrency: int = Field(4, ge=1, le=256)
    """Requests that wait for an answer at the same time. One worker sends them all, so the limits hold for the run."""
    requests_per_minute: Annotated[float, Field(gt=0, le=1_000_000)] | None = None
    """Requests are sent at least this far apart: 60 for one per second. If unset, there is no limit."""
    max_retries: int = Field(5, ge=0, le=100)
    """Further requests for one image after an error that may pass: 408, 409, 429, 5xx, a timeout, a lost connection.
    The image counts as failed after the last."""
    timeout_seconds: float = Field(120.0, gt=0, le=3600)
    """Longest wait for one answer."""
    max_requests: Annotated[int, Field(ge=1)] | None = None
    """Most requests of a run in all its attempts, retries included. At the limit the run stops and keeps its pictures;
    raise the limit to resume it."""
    price_per_image: Annotated[float, Field(ge=0)] | None = None
    """Price of one image, in any currency; ``plan`` and the report state the cost."""
    max_cost: Annotated[float, Field(gt=0)] | None = None
    """Most that a run may cost in all its attempts, in the currency of ``price_per_image``. Requests without an answer
    count, because they may be charged."""


class EndpointKeys(Section):
    """A hosted model behind an OpenAI-compatible endpoint, for ``source: api``."""

    base_url: Text | None = None
    """For ``api``: address of the endpoint, up to and without ``/images/generations``: ``https://api.openai.com/v1``."""
    model: Text | None = None
    """For ``api``: name of the model, as the endpoint knows it."""
    api_key_env: EnvironmentName | None = "OPENAI_API_KEY"
    """For ``api``: environment variable with the key; it must be set where the workers run. ``null`` sends no key."""
    size: Annotated[str, StringConstraints(pattern=SIZE)] = "1024x1024"
    """For ``api``: width and height that are requested, ``1024x1024``."""
    parameters: dict[Text, str | bool | int | float] = Field(default_factory=dict)
    """For ``api``: further fields of each request, for example ``quality: low`` or ``response_format: b64_json``."""
    limits: LimitsConfig = LimitsConfig()


OWN_KEYS: Mapping[str, tuple[str, ...]] = {
    IMAGES: ("folder", "manifest", "longest_side", "drawings"),
    API: ("base_url", "model", "api_key_env", "size", "parameters", "limits", "longest_side", "drawings"),
}
"""Closed source → its own keys of the section ``model``."""

OPEN_KEYS = ("config", "revision", "variant", "dtype", "compile", "adapters")
"""Keys of a network, which a closed source does not have."""

_SET_HERE = ("model", "prompt", "n", "size", "stream")
"""Fields of a request that ``model.parameters`` cannot set."""


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
            remedy = f"remove it, or set source: {' or '.join(owners)}"
            yield Problem(("model", key), f"expected no {key} beside source: {source}, found one; {remedy}", reads)
        elif own and key in OPEN_KEYS:
            message = f"expected no {key} for {source!r}, which has no weights to load, found one; remove it"
            yield Problem(("model", key), message, reads)
    if own and "world" in changed and "drawings" not in changed:
        message = "expected no world beside pictures that are no drawings of one, found one; remove it"
        yield Problem(("model", "world"), f"{message}, or set drawings: true", reads=(("model", "drawings"),))
    if source == IMAGES:
        yield from _picture_problems(changed)
    if source == API:
        yield from _endpoint_problems(changed)


def _picture_problems(changed: Mapping[str, object]) -> Iterator[Problem]:
    named = [key for key in ("folder", "manifest") if key in changed]
    if not named:
        message = "expected folder (a directory with a folder per prompt) or manifest (a CSV file), found none; add one"
        yield Problem(("model", "source"), message, reads=(("model", "folder"), ("model", "manifest")))
    if len(named) == 2:
        message = "expected folder or manifest, found both; remove one"
        yield Problem(("model", "manifest"), message, reads=(("model", "folder"),))


def _endpoint_problems(changed: Mapping[str, object]) -> Iterator[Problem]:
    for key, meaning in (("base_url", "the address of the endpoint"), ("model", "the name of the model there")):
        if key not in changed:
            message = f"expected {key} ({meaning}) for 'api', found none; add it"
            yield Problem(("model", "source"), message, reads=(("model", key),))
    if "base_url" in changed:
        yield from _address_problems(str(changed["base_url"]), with_key=changed.get("api_key_env", "") is not None)
    parameters, limits = changed.get("parameters"), changed.get("limits")
    for name in parameters if isinstance(parameters, Mapping) else ():
        if name in _SET_HERE:
            message = f"expected further fields of a request, found {name!r}, which has a key of its own or is fixed"
            yield Problem(("model", "parameters", name), f"{message}; remove it")
    if isinstance(limits, LimitsConfig) and limits.max_cost is not None and limits.price_per_image is None:
        message = "expected price_per_image with max_cost, found none; add it"
        yield Problem(("model", "limits", "max_cost"), message, reads=(("model", "limits", "price_per_image"),))


def _address_problems(address: str, *, with_key: bool) -> Iterator[Problem]:
    at: Location = ("model", "base_url")
    try:
        parts = urlsplit(address)
        host, scheme, secret = parts.hostname, parts.scheme, parts.username or parts.password or parts.query
    except ValueError:
        host, scheme, secret = None, "", None
    if not host or scheme not in ("http", "https"):
        yield Problem(
            at, f"expected an address such as https://api.openai.com/v1, found {redact(address)!r}; correct it"
        )
    elif secret:
        message = "expected an address without user name, password and query, found one with them; remove them"
        yield Problem(at, f"{message} and name the variable with the key in api_key_env")
    elif address.rstrip("/").endswith("/images/generations"):
        yield Problem(at, "expected the address without /images/generations, found one with it; remove that part")
    elif scheme == "http" and host not in LOOPBACK and with_key:
        message = "expected https, because the key would travel in clear text, found http; use https, or set"
        yield Problem(
            at, f"{message} api_key_env: null if the endpoint needs no key", reads=(("model", "api_key_env"),)
        )


def foreign_keys(source: str) -> set[str]:
    """Return the keys of the section ``model`` that have no meaning for a source, so that no run records them."""
    foreign = {key for keys in OWN_KEYS.values() for key in keys} - set(OWN_KEYS.get(source, ()))
    return foreign | set(OPEN_KEYS) if source in OWN_KEYS else foreign


def endpoint_name(address: str) -> str:
    """Return host, port and path of an endpoint's address."""
    parts = urlsplit(address)
    return f"{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}"
