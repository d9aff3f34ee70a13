"""Where the tensors of each part of a pipeline come from: files of its directory, or one file of the whole pipeline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from audit.models.files.pipeline_files import PipelineConfigs, find_weights, some
from audit.models.files.single_file import PIPELINES, SingleFile
from audit.models.files.untrusted_model import UnfitModelError


class PartFiles(Protocol):
    """The tensors of a part as they are stored."""

    @property
    def part(self) -> str:
        """Its name in ``model_index.json``."""
        ...

    @property
    def indexed(self) -> frozenset[str] | None:
        """Names of the tensors that an index of shards promises; None without one."""
        ...

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of every tensor, by the name that it is loaded under.

        Raises:
            UnfitModelError: The files do not hold what they should.
        """
        ...


@dataclass(frozen=True)
class StoredParts:
    """The parts of a pipeline as they are stored.

    Attributes:
        at: Directory of their files, or the one file of all.
        parts: Name in ``model_index.json`` → tensors.
    """

    at: Path
    parts: Mapping[str, PartFiles]


def stored_parts(
    directory: Path, file: Path | None, variant: str | None, configs: PipelineConfigs, parts: Sequence[str]
) -> StoredParts:
    """Find the tensors of every part.

    Args:
        directory: Of the pipeline.
        file: The single-file checkpoint that has the weights; None if they are in the directory.
        variant: Of the files in the directory.
        configs: Of the pipeline.
        parts: With weights.

    Raises:
        UnfitModelError: A part has none, or the single file is no checkpoint of this pipeline.
    """
    if file is None:
        return StoredParts(directory, {part: find_weights(directory, part, variant) for part in parts})
    return StoredParts(file, _renamed_parts(file, configs, parts))


def _renamed_parts(file: Path, configs: PipelineConfigs, parts: Sequence[str]) -> dict[str, PartFiles]:
    from audit.models.files.original_names import renamed_part

    kind = configs.index["_class_name"]
    if kind not in PIPELINES:
        raise UnfitModelError(
            f"{file}: expected a directory of diffusers for {kind}, found one file; single files are read for "
            f"{' and '.join(PIPELINES)}"
        )
    checkpoint = SingleFile.read(file)
    renamed = {part: renamed_part(checkpoint, part, configs.parts[part]) for part in parts}
    unread = checkpoint.unread(frozenset().union(*(part.used for part in renamed.values())))
    if unread:
        raise UnfitModelError(
            f"{file}: expected the tensors of {', '.join(parts)} and no other, found {some(unread)}; give the "
            "checkpoint of this pipeline, without parts that it does not have"
        )
    unlike = checkpoint.unlike_scheduler(configs.parts["scheduler"])
    if unlike is not None:
        raise UnfitModelError(unlike)
    return dict(renamed)
