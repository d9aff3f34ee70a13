"""Checks the tracking URI: whether MLflow can use it, and whether its server takes a connection."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from audit.config.problems import Problem, listing
from audit.config.sections import TrackingConfig
from audit.preflight.output import unwritable
from audit.storage.place import sqlite_file

CONNECT_SECONDS = 2.0
"""How long a tracking server may take to answer a connection."""

_DEFAULT_PORTS = {"http": 80, "https": 443, "postgresql": 5432, "mysql": 3306, "mssql": 1433}


def check_tracking(tracking: TrackingConfig, uri: str) -> Iterator[Problem]:
    """Find a tracking URI that MLflow could never use.

    Args:
        tracking: Section ``tracking`` of the config.
        uri: URI in effect: the configured one, or that of a file under ``output``.

    Yields:
        Problems, each with its place in the config.
    """
    if not tracking.enabled:
        return
    obstacle = unusable_tracking(uri)
    if obstacle:
        yield Problem(("tracking", "uri"), obstacle, reads=(("output",),))


def unusable_tracking(uri: str) -> str | None:
    """Return why MLflow could never use a tracking URI, None if it could.

    A server is not contacted, since an audit runs without it. The directory of a SQLite file must be writable.
    """
    scheme, separator = _scheme(uri), ":" in uri
    if separator and scheme == "sqlite":
        file = sqlite_file(uri)
        return None if file is None else _unusable_database(file)
    if separator and scheme in _DEFAULT_PORTS:
        place = _host_and_port(uri)
        return place if isinstance(place, str) else None
    if scheme in ("databricks", "databricks-uc"):
        return None
    known = listing(("http", "https", "sqlite", *list(_DEFAULT_PORTS)[2:]))
    remedy = "MLflow keeps no new results in plain directories (`mlflow migrate-filestore` moves old ones)"
    return f"expected a tracking URI ({known}), found {uri!r}; {remedy}"


def _unusable_database(file: Path) -> str | None:
    if file.is_dir():
        return f"expected a database, found the directory {file}; choose another file"
    return unwritable(file.parent)


def unreachable_tracking(uri: str) -> str | None:
    """Return why a tracking server accepts no connection, None if it does or the URI names no server."""
    place = _host_and_port(uri) if _scheme(uri) in _DEFAULT_PORTS else None
    if not isinstance(place, tuple):
        return place
    try:
        socket.create_connection(place, timeout=CONNECT_SECONDS).close()
    except OSError as error:
        reason = error.strerror or str(error)
        return f"expected a tracking server at {place[0]}:{place[1]}, found none ({reason}); start it"
    return None


def _scheme(uri: str) -> str:
    return uri.partition(":")[0].split("+")[0].lower()  # mysql+pymysql


def _host_and_port(uri: str) -> tuple[str, int] | str:
    """Return host and port of a server, or a message if the URI is invalid."""
    try:
        parts = urlsplit(uri)
        host, port = parts.hostname, parts.port or _DEFAULT_PORTS[_scheme(uri)]
    except ValueError as error:
        return f"expected a URI with a host, found {uri!r} ({error}); correct it"
    return (host, port) if host else f"expected a URI with a host, found {uri!r}; correct it"
