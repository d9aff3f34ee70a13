"""Finds the relative paths in a config, which point to different files on other machines."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from audit.config.fields import AGE_AND_GENDER, CLOSED, GENERATED_HERE, ZERO_SHOT, names_clip_weights
from audit.config.judges import JudgeKeys
from audit.config.sections import TargetFileConfig
from audit.config.settings import AuditConfig
from audit.models.files.single_file import names_single_file

_WORDS = {*GENERATED_HERE, *CLOSED, AGE_AND_GENDER, ZERO_SHOT, "bundled", "none"}
"""Config values of path fields that are not paths."""


def relative_paths(config: AuditConfig) -> dict[str, str]:
    """Map dotted keys to the files and directories that are relative to the working directory.

    The output directory is excluded, since callers check it separately. ``owner/name`` is a hub id unless a directory
    of that name exists here.
    """
    return {key: text for key, text in _named_files(config) if _is_relative(text)}


def _named_files(config: AuditConfig) -> Iterator[tuple[str, str]]:
    source = config.model.source
    if source.startswith(".") or source.count("/") != 1 or names_single_file(source) or Path(source).is_dir():
        yield "model.source", source
    if not names_clip_weights(config.quality.clip):
        yield "quality.clip", config.quality.clip
    yield from (
        (key, text)
        for key, text in (
            ("model.config", config.model.config),
            ("model.world", config.model.world),
            ("model.folder", config.model.folder),
            ("model.manifest", config.model.manifest),
            ("explore.pictures.folder", config.explore.pictures.folder),
            ("judge.source", _file_of(config.judge)),
            ("judge.zero_shot.clip", _clip_of(config.judge)),
            ("judge.confusion", config.judge.confusion),
            ("lens.path", config.lens.path),
            *((f"quality.{key}", path) for key, path in config.quality.network_files.items()),
            ("quality.reference", config.quality.reference),
            ("tracking.uri", _database_file(config.tracking.uri)),
        )
        if text is not None
    )
    for number, adapter in enumerate(config.model.adapters):
        yield f"model.adapters.{number}.path", adapter.path
    for opinion in config.second_opinions:
        files = {"source": _file_of(opinion), "zero_shot.clip": _clip_of(opinion)}
        yield from ((f"second_opinions.{opinion.name}.{key}", file) for key, file in files.items() if file is not None)
        yield from _of_faces(f"second_opinions.{opinion.name}", opinion)
    yield from _of_faces("judge", config.judge)
    for name, target in config.targets.items():
        if isinstance(target, TargetFileConfig):
            yield f"targets.{name}.csv", target.csv


def _file_of(judge: JudgeKeys) -> str | None:
    """Return the source of a judge, None for a hub id."""
    source = judge.source
    is_hub_id = judge.vqa is not None and source.count("/") == 1 and not source.startswith(".")
    return None if is_hub_id and not Path(source).is_dir() else source


def _clip_of(judge: JudgeKeys) -> str | None:
    clip = judge.zero_shot.clip if judge.zero_shot is not None else None
    return None if clip is None or names_clip_weights(clip) else clip


def _of_faces(name: str, judge: JudgeKeys) -> Iterator[tuple[str, str]]:
    """Yield the files of the detector of a judge, and the directory of its networks."""
    named = {
        "faces.weights": judge.faces.weights if judge.faces is not None else None,
        "faces.landmarks": judge.faces.landmarks if judge.faces is not None else None,
        "age_and_gender.weights": judge.age_and_gender.weights if judge.age_and_gender is not None else None,
    }
    yield from ((f"{name}.{key}", text) for key, text in named.items() if text is not None)


def _is_relative(text: str) -> bool:
    return text not in _WORDS and "://" not in text and not Path(text).is_absolute()


def _database_file(uri: str | None) -> str | None:
    """Return the file of an SQLite store: the path after ``sqlite:///``; a fourth slash makes it absolute."""
    parts = urlsplit(uri or "")
    return parts.path[1:] if parts.scheme == "sqlite" and len(parts.path) > 1 else None
