"""Finds the relative paths in a config, which point to different files on other machines."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from audit.config.fields import CLOSED, GENERATED_HERE, ZERO_SHOT, names_clip_weights
from audit.config.sections import TargetFileConfig
from audit.config.settings import AuditConfig

_WORDS = {*GENERATED_HERE, *CLOSED, ZERO_SHOT, "bundled", "none"}
"""Config values of path fields that are not paths."""


def relative_paths(config: AuditConfig) -> dict[str, str]:
    """Map dotted keys to the files and directories that are relative to the working directory.

    The output directory is excluded, since callers check it separately. ``owner/name`` is a hub id unless a directory
    of that name exists here.
    """
    return {key: text for key, text in _named_files(config) if _is_relative(text)}


def _named_files(config: AuditConfig) -> Iterator[tuple[str, str]]:
    source = config.model.source
    if source.startswith(".") or source.count("/") != 1 or Path(source).is_dir():
        yield "model.source", source
    if not names_clip_weights(config.quality.clip):
        yield "quality.clip", config.quality.clip
    yield from (
        (key, text)
        for key, text in (
            ("model.world", config.model.world),
            ("model.folder", config.model.folder),
            ("model.manifest", config.model.manifest),
            ("judge.source", config.judge.source),
            ("judge.confusion", config.judge.confusion),
            ("lens.path", config.lens.path),
            ("quality.features", config.quality.features),
            ("quality.reference", config.quality.reference),
            ("tracking.uri", _database_file(config.tracking.uri)),
        )
        if text is not None
    )
    for opinion in config.second_opinions:
        yield f"second_opinions.{opinion.name}.source", opinion.source
    for name, target in config.targets.items():
        if isinstance(target, TargetFileConfig):
            yield f"targets.{name}.csv", target.csv


def _is_relative(text: str) -> bool:
    return text not in _WORDS and "://" not in text and not Path(text).is_absolute()


def _database_file(uri: str | None) -> str | None:
    """Return the file of an SQLite store: the path after ``sqlite:///``; a fourth slash makes it absolute."""
    parts = urlsplit(uri or "")
    return parts.path[1:] if parts.scheme == "sqlite" and len(parts.path) > 1 else None
