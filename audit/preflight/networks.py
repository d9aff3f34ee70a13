"""Checks the CLIP model, the feature network and the reference pictures that quality is measured with.

Only configs and the headers of weight files are read. A network that passes here loads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from audit.calibration.bundle import missing_weights
from audit.config.fields import CLIP_SOURCES, GENERATED_HERE
from audit.config.problems import MODEL_KEYS, Location, Problem, listing, suggestion
from audit.config.sections import FeaturesConfig, ModelConfig, QualityConfig


def check_quality(quality: QualityConfig, model: ModelConfig) -> Iterator[Problem]:
    """Find networks that cannot be used, and reference pictures that cannot be read.

    Yields:
        Problems, each with its place in the config.
    """
    yield from check_networks(quality, model)
    yield from _pairs(quality)
    yield from _outside(quality, model)
    if quality.reference is not None:
        yield from _reference(Path(quality.reference), bundled=quality.features == "bundled")


def check_networks(quality: QualityConfig, model: ModelConfig) -> Iterator[Problem]:
    """Find a CLIP model or a feature network that is missing, or whose files hold something else."""
    for name, remedy in (("clip", CLIP_SOURCES), ("features", "a network with its weights")):
        if getattr(quality, name) != "bundled":
            continue
        missing = missing_weights(model, name)
        if missing is not None:
            yield Problem(("quality", name), missing, reads=MODEL_KEYS)
        if model.source not in GENERATED_HERE and not model.drawings:
            message = f"expected 'none' for {model.source!r}, or {remedy}; found 'bundled', made for drawings"
            yield Problem(("quality", name), message, reads=(*MODEL_KEYS, ("model", "drawings")))
    if quality.clip not in ("bundled", "none"):
        yield from _clip(quality.clip)
    if not isinstance(quality.features, str):
        at, own = ("quality", "features", "weights"), quality.features
        yield from _file(own.weights, at, _of_features(own), directory=own.network == "dinov2")
    elif quality.features not in ("bundled", "none"):
        yield from _features(quality.features, ("quality", "features"))


def _clip(source: str) -> Iterator[Problem]:
    from audit.perception.embedders.clip_directory import clip_source_problem

    obstacle = clip_source_problem(source)
    if obstacle is not None:
        yield Problem(("quality", "clip"), obstacle)


def _outside(quality: QualityConfig, model: ModelConfig) -> Iterator[Problem]:
    """Find a segmenter that cannot be used, and parts that it does not know."""
    if quality.outside is None:
        return
    from audit.perception.segmenters.registry import segmenter_parts, segmenter_problem

    own, at = quality.outside, ("quality", "outside")
    obstacle = segmenter_problem(own, model)
    if obstacle is not None:
        yield Problem(at, obstacle.replace("concepts.segmenter", "quality.outside"), reads=MODEL_KEYS)
        return
    known = segmenter_parts(own, model)
    for part in own.hidden:
        if part not in known:
            message = f"expected parts of the segmenter ({listing(known)}), found {part!r}{suggestion(part, known)}"
            yield Problem((*at, "hidden"), message)


def _pairs(quality: QualityConfig) -> Iterator[Problem]:
    """Find missing or other weights of the networks that compare paired images."""
    if quality.dino is not None:
        from audit.perception.embedders.dino import dino_problem

        yield from _file(quality.dino, ("quality", "dino"), dino_problem, directory=True)
    if quality.lpips is not None:
        from audit.perception.embedders.pairs import trunk_problem

        lpips = quality.lpips
        yield from _file(lpips.trunk, ("quality", "lpips", "trunk"), lambda _: trunk_problem(lpips))


def _file(
    source: str, at: Location, problem: Callable[[Path], str | None], *, directory: bool = False
) -> Iterator[Problem]:
    """Find a missing file of weights, or what ``problem`` finds in it; some weights may also be a directory."""
    path = Path(source)
    if not path.exists():
        yield Problem(at, f"expected weights, found no file at {source!r}; check the path")
        return
    if path.is_dir() and not directory:
        yield Problem(at, f"expected a file of weights, found a directory at {source!r}; name a file in it")
        return
    obstacle = problem(path)
    if obstacle is not None:
        yield Problem(at, obstacle)


def _of_features(config: FeaturesConfig) -> Callable[[Path], str | None]:
    """Return the check of a feature network's weights."""
    from audit.models.files.state_file import weights_problem
    from audit.perception.embedders import dino, inception

    checks: dict[str, Callable[[Path], str | None]] = {
        "fid_inception": lambda _: inception.fid_weights_problem(config),
        "dinov2": dino.dino_problem,
        "torchvision_inception": lambda path: weights_problem(
            path, inception.torchvision_inception, inception.TORCHVISION_KIND, inception.HEAD
        ),
    }
    return checks[config.network]


def _features(source: str, at: Location) -> Iterator[Problem]:
    path = Path(source)
    if not path.is_file():
        message = (
            f"expected 'bundled', 'none', a file of weights, or network: and weights:, found no file at {source!r}"
        )
        yield Problem(at, message + suggestion(source, ("bundled", "none")))
        return
    yield from _file(source, at, _of_features(FeaturesConfig(network="torchvision_inception", weights=source)))


def _reference(directory: Path, *, bundled: bool) -> Iterator[Problem]:
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
    side = SIZE if bundled else None  # the bundled network does not resize
    reads = (("quality", "features"),) if side else ()  # an unreadable picture is a problem of any network
    for found in (*folder.unusable, *unreadable_pictures(folder.pictures, side)):
        message = f"expected images that can be read, found {found.path}: {found.reason}"
        yield Problem(at, message, reads=reads)
