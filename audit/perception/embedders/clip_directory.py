"""Checks a user's CLIP directory, and names it by its weights, without loading them.

The check is needed because open_clip initialises a model with random weights if it finds none, and resizes position
embeddings that do not fit. In both cases it only logs a warning.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from audit.calibration.bundle import bundle_of
from audit.config.fields import CLIP_SOURCES, names_clip_weights
from audit.config.problems import suggestion
from audit.config.sections import ModelConfig
from audit.models.files.state_file import Shapes, read_shapes, shapes_of, unlike
from audit.models.files.untrusted_model import UnfitModelError, UntrustedModelError, check_directory
from audit.perception.embedders.clip_transformers import is_transformers_clip, transformers_clip_problem
from audit.storage.outside.json_object import read_json_object
from audit.storage.provenance import short_fingerprint

CONFIG, WEIGHTS = "open_clip_config.json", "open_clip_model.safetensors"
_KEPT = (WEIGHTS, "open_clip_pytorch_model.safetensors", "model.safetensors")
"""Names of safetensors files that open_clip looks for, the preferred first."""

_SCALARS = ("logit_scale", "logit_bias")
"""Tensors that are saved as a scalar or as a list of one number; open_clip accepts both."""


def clip_source_problem(source: str) -> str | None:
    """Return why a config's CLIP model other than ``bundled`` cannot be used, as far as this machine knows.

    Args:
        source: A directory, or a name with weights.
    """
    if Path(source).is_dir():
        try:
            check_directory(Path(source))
        except UntrustedModelError as error:
            return str(error)
        return clip_problem(Path(source))
    if source.startswith((".", "/", "~")):
        return f"expected a directory, found none at {source}; check the path"
    if not names_clip_weights(source):
        return f"expected {CLIP_SOURCES}, found {source!r}, which names no weights; add them"
    if source.startswith("hf-hub:"):
        return None
    import open_clip  # takes seconds, so only if needed

    known = open_clip.list_pretrained(as_str=True)
    if source in known:
        return None
    return f"expected a model and weights that open_clip knows, found {source!r}{suggestion(source, known)}"


def clip_problem(directory: Path) -> str | None:
    """Return why a directory cannot be loaded as a CLIP model; None if it can.

    Only configs and the headers of weight files are read. open_clip takes seconds to import, so it is imported only if
    the required files exist.
    """
    if is_transformers_clip(directory):
        return transformers_clip_problem(directory)
    if not (directory / CONFIG).is_file():
        return _without_config(directory)
    weights = _weights(directory)
    if weights is None:
        return f"{directory}: expected {WEIGHTS} next to {CONFIG}, found no safetensors file; add it"
    try:
        config = read_json_object(directory / CONFIG, "the config of an OpenCLIP model")
        if not isinstance(config.get("model_cfg"), dict):
            return f"{directory / CONFIG}: expected a model_cfg, found none; save the model again with open_clip"
        found = read_shapes(weights)
    except (UnfitModelError, ValueError) as error:
        return str(error)
    network = _network_on_meta(directory)
    if isinstance(network, str):
        return f"{directory / CONFIG}: expected a config from which open_clip can build a model, found {network}"
    obstacle = unlike(_plain(shapes_of(network)), _plain(found))
    return f"{weights}: expected the weights of the model in {CONFIG}, found {obstacle}" if obstacle else None


def _without_config(directory: Path) -> str:
    remedy = "give a directory that open_clip saved, hf-hub:OWNER/NAME of one, or a model with the tag of its weights"
    try:
        plain = read_json_object(directory / "config.json", "a config")
    except ValueError:
        plain = {}
    if "model_type" in plain or "architectures" in plain:
        kind = plain.get("model_type", "a model")
        found = f"one in the layout of transformers of another kind ({kind})"
        return (
            f"{directory}: expected a CLIP directory in the layout of OpenCLIP or transformers, found {found}; {remedy}"
        )
    return f"{directory}: expected an OpenCLIP directory, found no {CONFIG} in it; {remedy}"


def clip_name(source: str, model: ModelConfig) -> str:
    """Return the source of a CLIP model, with the fingerprint of its weights if they are on this machine.

    Args:
        source: ``quality.clip`` of the config.
        model: The audited model, whose bundle may include a CLIP model.
    """
    bundle = bundle_of(model)
    directory = bundle.clip if bundle is not None and source == "bundled" else Path(source)
    return f"{source}:{short_fingerprint(directory)}" if directory.is_dir() else source


def _weights(directory: Path) -> Path | None:
    """Return the safetensors file that open_clip would load."""
    known = [directory / name for name in _KEPT if (directory / name).is_file()]
    return next(iter([*known, *sorted(directory.glob("*.safetensors"))]), None)


def _network_on_meta(directory: Path) -> Any:  # noqa: ANN401 - open_clip has no types
    """Build the model without weights; return the error of open_clip if that fails."""
    import open_clip
    import torch

    try:
        with torch.device("meta"), _quiet():
            return open_clip.create_model(f"local-dir:{directory}", load_weights=False, device="meta")
    except Exception as error:  # noqa: BLE001 - a user's config can cause any exception in the library
        return f"{type(error).__name__}: {str(error)[:200]}"


def _plain(shapes: Shapes) -> Shapes:
    return {name: () if name in _SCALARS else shape for name, shape in shapes.items()}


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide open_clip's warning about random weights, which are intended here."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        root.setLevel(level)
