"""Makes an offline bundle: every file that a config needs, a manifest, and a config whose paths point into it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from audit.config.kinds.known_weights import known_weights
from audit.config.problems import Location
from audit.preflight.weights.manifest import FILES, MANIFEST, write_manifest
from audit.preflight.weights.needs import Need, Origin
from audit.preflight.weights.repositories import repository_of
from ray_jobs.fetch.config_copy import config_text
from ray_jobs.fetch.errors import FetchError, on_this_disk
from ray_jobs.fetch.files import copy, download
from ray_jobs.fetch.hub import fetch_repository

CONFIG, UNFINISHED = "config.yaml", ".unfinished"


@dataclass(frozen=True)
class Source:
    """Something in a bundle.

    Attributes:
        need: What it is for.
        path: Where it is in the bundle.
        licence: Its licence, as far as it is known.
        commit: Commit on the hub; None for anything else.
    """

    need: Need
    path: PurePosixPath
    licence: str
    commit: str | None = None


def make_bundle(
    needs: Sequence[Need],
    settings: dict[str, Any],
    origin: str,
    root: Path,
    check: Callable[[Path], object],
) -> tuple[Source, ...]:
    """Download and copy everything, check it, and write manifest and config.

    An interrupted command can be repeated: what is complete is kept.

    Args:
        needs: What the config needs.
        settings: The config's own settings as plain data.
        origin: Name of the config, for its copy.
        root: Directory of the bundle.
        check: Reads the bundle's config and raises if something that it names cannot be loaded.

    Raises:
        FetchError: Something does not exist, has other content than published, or cannot be bundled.
        UnreachableError: A server does not answer.
    """
    _refuse(needs, root)
    with on_this_disk("--to"):
        _begin(root)
    fetched: dict[tuple[Origin, str, str | None], Source] = {}
    paths: dict[Location, PurePosixPath] = {}
    for need in needs:
        same = (need.origin, need.source, need.revision)
        if same not in fetched:
            with on_this_disk(need.key):
                fetched[same] = _fetched(need, root)
        paths[need.location] = fetched[same].path
    _prune(root, {root / path for path in paths.values()})
    (root / CONFIG).write_text(config_text(settings, paths, origin), encoding="utf-8")
    check(root / CONFIG)
    write_manifest(root, [_recorded(source) for source in fetched.values()])
    (root / UNFINISHED).unlink()
    return tuple(fetched.values())


def bytes_in(root: Path) -> int:
    """Return the size of a bundle's files."""
    return sum(path.stat().st_size for path in (root / FILES).rglob("*") if path.is_file())


def _prune(root: Path, kept: set[Path]) -> None:
    """Remove what an earlier bundle in the same directory had and this one does not have."""
    for path in (root / FILES).glob("*/*"):
        if path not in kept:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _refuse(needs: Sequence[Need], root: Path) -> None:
    """Refuse what cannot be bundled before anything is downloaded; the message names all of it."""
    problems = []
    for need in needs:
        known = known_weights(need.source)
        if need.location == ("model", "manifest"):
            problems.append(
                f"{need.key}: expected model.folder, found a manifest, whose pictures may be anywhere; copy it yourself"
            )
        elif need.origin is Origin.PATH and not Path(need.source).exists() and not (known.url or known.repository):
            problems.append(f"{need.key}: expected {need.role}, found nothing at {need.source!r}; {_remedy(need)}")
        elif need.origin is Origin.PATH and root.resolve().is_relative_to(Path(need.source).resolve()):
            problems.append(f"{need.key}: expected --to outside of {need.source!r}, which is copied, found {root}")
    if problems:
        raise FetchError("\n".join(problems))


def _remedy(need: Need) -> str:
    if need.install is not None:
        return f"run: {need.install}"
    return known_weights(need.source).remedy or "it has no known address: copy it there first"


def _begin(root: Path) -> None:
    """Take an empty directory, an unfinished bundle or an older one, and mark it as unfinished."""
    own = [root / name for name in (UNFINISHED, MANIFEST)]
    if root.exists() and not root.is_dir():
        raise FetchError(f"--to: expected a directory, found the file {root}; name another one")
    if root.is_dir() and any(root.iterdir()) and not any(path.exists() for path in own):
        raise FetchError(f"--to: expected an empty directory or an earlier bundle, found other files in {root}")
    root.mkdir(parents=True, exist_ok=True)
    (root / UNFINISHED).touch()
    (root / MANIFEST).unlink(missing_ok=True)


def _fetched(need: Need, root: Path) -> Source:
    """Bring one thing into the bundle, under its key and its own name."""
    slug = "-".join(str(step) for step in need.location)
    known, local = known_weights(need.source), Path(need.source)
    if need.origin is Origin.PATH and local.exists():
        path = PurePosixPath(FILES, slug, local.absolute().name)
        copy(local, root / path)
        return Source(need, path, known.licence)
    if need.origin is Origin.PATH and known.url is not None:
        path = PurePosixPath(FILES, slug, local.name)
        download(need.key, known.url, root / path, known.sha256)
        return Source(need, path, known.licence)
    repository = repository_of(need)
    if repository is None:
        raise FetchError(f"{need.key}: expected {need.role}, found nothing at {need.source!r}; {_remedy(need)}")
    path = PurePosixPath(FILES, slug, repository.name.rpartition("/")[2])
    commit = fetch_repository(need, repository, root / path)
    return Source(need, path, known_weights(repository.name).licence, commit)


def _recorded(source: Source) -> dict[str, Any]:
    need = source.need
    return {
        "key": need.key,
        "source": need.source,
        "commit": source.commit,
        "licence": source.licence,
        "path": str(source.path),
    }
