"""Snapshots of hub repositories: only the files that an audit reads, each compared with the checksum of the hub."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from audit.models.files.untrusted_model import INDEX
from audit.preflight.weights.needs import Need, Origin
from audit.preflight.weights.repositories import CLIP_CONFIG, Repository, files_of
from audit.storage.outside.json_object import read_json_object
from ray_jobs.fetch.errors import FetchError, described
from ray_jobs.fetch.files import check_sha256

if TYPE_CHECKING:
    from huggingface_hub.hf_api import RepoFile

_NOTES = ".cache"
"""Where the hub's library keeps its notes in a local directory."""

_INDEX_BYTES = 1_000_000


def fetch_repository(need: Need, repository: Repository, target: Path) -> str:
    """Download the files of a repository that an audit reads.

    An interrupted download is continued: complete files are not transferred again.

    Args:
        need: What the repository is for.
        repository: Where it is.
        target: Directory to write to.

    Returns:
        The commit that was downloaded.

    Raises:
        FetchError: It does not exist, or a file has other content than the hub states.
        UnfitModelError: It has no weights that an audit reads.
        UnreachableError: The hub does not answer.
    """
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.hf_api import RepoFile

    api = HfApi()
    with described(need.key, repository.name):
        commit = str(api.repo_info(repository.name, revision=repository.revision).sha)
        listed = api.list_repo_tree(repository.name, revision=commit, recursive=True)
        files = {entry.path: entry for entry in listed if isinstance(entry, RepoFile)}
    index = _index(need, repository, commit, target, set(files)) if need.origin is Origin.PIPELINE else {}
    names = files_of(need, sorted(files), index)
    with described(need.key, repository.name):
        snapshot_download(repository.name, revision=commit, local_dir=target, allow_patterns=list(names))
    for name in names:
        _check(need, target / name, files[name])
    if need.origin is Origin.CLIP:
        _check_activation(need, repository, target)
    shutil.rmtree(target / _NOTES, ignore_errors=True)
    for path in target.rglob("*"):
        if path.is_file() and path.relative_to(target).as_posix() not in names:
            path.unlink()  # of an earlier bundle with another revision or variant
    return commit


def _index(need: Need, repository: Repository, commit: str, target: Path, names: set[str]) -> dict[str, Any]:
    """Download and read ``model_index.json``, which names the parts of a pipeline."""
    from huggingface_hub import hf_hub_download

    if INDEX not in names:
        raise FetchError(
            f"{need.key}: expected a diffusers pipeline at {repository.name!r}, found no {INDEX}; name another model"
        )
    with described(need.key, repository.name):
        path = hf_hub_download(repository.name, INDEX, revision=commit, local_dir=target)
    try:
        return read_json_object(Path(path), "the parts of a pipeline", _INDEX_BYTES, any_number=True)
    except ValueError as error:
        raise FetchError(f"{need.key}: {error}") from error


def _check(need: Need, path: Path, entry: RepoFile) -> None:
    """Compare a file with its size on the hub and, for weights, with its checksum."""
    source = f"{need.source}/{entry.path}"
    if not path.is_file() or path.stat().st_size != entry.size:
        found = f"{path.stat().st_size:,} bytes" if path.is_file() else "no file"
        raise FetchError(f"{need.key}: expected {entry.size:,} bytes of {source}, found {found}; repeat the command")
    try:
        check_sha256(need.key, path, entry.lfs.sha256 if entry.lfs is not None else None, source)
    except FetchError:
        path.unlink()  # or the next try would take it for complete
        raise


def _check_activation(need: Need, repository: Repository, target: Path) -> None:
    """Refuse a CLIP directory whose config lacks the QuickGELU that open_clip's own table demands for its weights."""
    config = read_json_object(target / CLIP_CONFIG, "the config of an OpenCLIP model").get("model_cfg")
    if repository.quick_gelu and not (isinstance(config, dict) and config.get("quick_gelu")):
        raise FetchError(
            f"{need.key}: expected quick_gelu: true in {CLIP_CONFIG} of {repository.name}, as open_clip loads "
            f"{need.source}, found none; embeddings would differ, so name the model as a directory in another layout"
        )
