"""Checks the CLIP model, the feature network and the reference pictures that quality is measured with.

Only configs and the headers of weight files are read. A network that passes here loads.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from audit.config.fields import CLIP_SOURCES, GENERATED_HERE, names_clip_weights
from audit.config.problems import MODEL_KEYS, Location, Problem, listing, suggestion
from audit.config.sections import ModelConfig, QualityConfig
from audit.models.files.untrusted_model import UntrustedModelError, check_clip


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
        yield from missing_bundled_weights(model, name, ("quality", name))
        if model.source not in GENERATED_HERE and not model.drawings:
            message = f"expected 'none' for {model.source!r}, or {remedy}; found 'bundled', made for drawings"
            yield Problem(("quality", name), message, reads=(*MODEL_KEYS, ("model", "drawings")))
    if quality.clip not in ("bundled", "none"):
        yield from _clip(quality.clip, ("quality", "clip"))
    if quality.features not in ("bundled", "none"):
        yield from _features(quality.features, ("quality", "features"))


def _clip(source: str, at: Location) -> Iterator[Problem]:
    """Find a CLIP source without weights, as far as this machine knows."""
    if Path(source).is_dir():
        yield from _clip_directory(Path(source), at)
    elif source.startswith((".", "/", "~")):
        yield Problem(at, f"expected a directory, found none at {source}; check the path")
    elif not names_clip_weights(source):
        yield Problem(at, f"expected {CLIP_SOURCES}, found {source!r}, which names no weights; add them")
    elif not source.startswith("hf-hub:"):
        import open_clip  # takes seconds, so only if needed

        known = open_clip.list_pretrained(as_str=True)
        if source not in known:
            message = f"expected a model and weights that open_clip knows, found {source!r}"
            yield Problem(at, message + suggestion(source, known))


def _clip_directory(directory: Path, at: Location) -> Iterator[Problem]:
    from audit.perception.embedders.clip_directory import clip_problem

    try:
        check_clip(directory)
    except UntrustedModelError as error:
        yield Problem(at, str(error))
        return
    obstacle = clip_problem(directory)
    if obstacle is not None:
        yield Problem(at, obstacle)


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


def missing_bundled_weights(model: ModelConfig, part: str, location: Location) -> Iterator[Problem]:
    """Find missing weights of a network that was trained with the calibration model.

    Args:
        model: Model of the audit.
        part: Directory of the network in its bundle.
        location: Place in the config that asks for the network.
    """
    from audit.calibration.bundle import bundle_of

    bundle = bundle_of(model)
    if bundle and not any((bundle.instruments / part).glob("**/*.safetensors")):
        message = f"expected the weights that 'bundled' stands for, found none in {bundle.instruments / part}"
        yield Problem(location, message + "; train them: make calibration", reads=MODEL_KEYS)


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
