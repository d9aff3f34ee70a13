"""Checks the CLIP model, the feature network and the reference pictures that quality is measured with.

Only configs and the headers of weight files are read. A network that passes here loads.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from audit.calibration.bundle import missing_weights
from audit.config.fields import CLIP_SOURCES, GENERATED_HERE
from audit.config.problems import MODEL_KEYS, Location, Problem, listing, suggestion
from audit.config.sections import ModelConfig, QualityConfig


def check_quality(quality: QualityConfig, model: ModelConfig) -> Iterator[Problem]:
    """Find networks that cannot be used, and reference pictures that cannot be read.

    Yields:
        Problems, each with its place in the config.
    """
    yield from check_networks(quality, model)
    if quality.reference is not None:
        yield from _reference(Path(quality.reference), quality.features)


def check_networks(quality: QualityConfig, model: ModelConfig) -> Iterator[Problem]:
    """Find a CLIP model or a feature network that is missing, or whose files hold something else."""
    for name, remedy in (("clip", CLIP_SOURCES), ("features", "a file of Inception weights")):
        if getattr(quality, name) != "bundled":
            continue
        missing = missing_weights(model, name)
        if missing is not None:
            yield Problem(("quality", name), missing, reads=MODEL_KEYS)
        if model.source not in GENERATED_HERE and not model.drawings:
            message = f"expected 'none' for {model.source!r}, or {remedy}; found 'bundled', made for drawings"
            yield Problem(("quality", name), message, reads=(*MODEL_KEYS, ("model", "drawings")))
    if quality.clip not in ("bundled", "none"):
        from audit.perception.embedders.clip_directory import clip_source_problem

        obstacle = clip_source_problem(quality.clip)
        if obstacle is not None:
            yield Problem(("quality", "clip"), obstacle)
    if quality.features not in ("bundled", "none"):
        yield from _features(quality.features, ("quality", "features"))


def _features(source: str, at: Location) -> Iterator[Problem]:
    path = Path(source)
    if not path.is_file():
        message = f"expected 'bundled', 'none' or a file of weights, found no file at {source!r}"
        yield Problem(at, message + suggestion(source, ("bundled", "none")))
        return
    from audit.models.files.state_file import weights_problem
    from audit.perception.embedders.features import INCEPTION_HEAD, INCEPTION_KIND, inception_network

    obstacle = weights_problem(path, inception_network, INCEPTION_KIND, INCEPTION_HEAD)
    if obstacle is not None:
        yield Problem(at, obstacle)


def _reference(directory: Path, features: str) -> Iterator[Problem]:
    """Decode every reference picture, since an unusable one would end the audit after its other work."""
    from audit.calibration.canvas import SIZE
    from audit.storage.outside.picture_folder import SUFFIXES, picture_folder, unreadable_pictures

    at = ("quality", "reference")
    if not directory.is_dir():
        yield Problem(at, f"expected a directory with images, found none at {directory}; check the path")
        return
    folder = picture_folder(directory)
    if len(folder.pictures) < 2:
        kinds = listing(sorted(SUFFIXES))
        message = f"expected at least 2 images ({kinds}) in {directory}, found {len(folder.pictures)}"
        yield Problem(at, f"{message}; add some")
    side = SIZE if features == "bundled" else None  # the bundled network does not resize
    reads = (("quality", "features"),) if side else ()  # an unreadable picture is a problem of any network
    for found in (*folder.unusable, *unreadable_pictures(folder.pictures, side)):
        message = f"expected images that can be read, found {found.path}: {found.reason}"
        yield Problem(at, message, reads=reads)
